"""Routes for other servers, in the order of the Server-Server API.

What is asked before a server is known, or of third parties, takes no signature; all else does.
"""

from __future__ import annotations

from homeserver.api.router import Auth, Handler, Route
from homeserver.api.server import (
    backfill,
    event_auth,
    events,
    invites_v1,
    invites_v2,
    joins_v1,
    joins_v2,
    keys_query,
    keys_server,
    knocks,
    leaving_v1,
    leaving_v2,
    openid,
    public_rooms,
    query,
    room_policy,
    space_hierarchy,
    third_party_invite,
    transactions,
    user_devices,
    user_keys,
    version,
    wellknown,
)

_V1 = "/_matrix/federation/v1"
_V2 = "/_matrix/federation/v2"
_KEYS = "/_matrix/key/v2"
TRANSACTION_BYTES_MAX = 150 * 64 * 1024  # 50 events and 100 EDUs, each as large as an event may be


def _open(method: str, path: str, handler: Handler, limit: str | None = None) -> Route:
    return Route(method=method, path=path, handler=handler, auth=Auth.NONE, limit=limit)


def _query(method: str, path: str, handler: Handler) -> Route:
    return Route(method=method, path=path, handler=handler, auth=Auth.FEDERATION, limit="federation_queries")


def _membership(method: str, path: str, handler: Handler) -> Route:
    limit = "federation_membership"
    return Route(method=method, path=path, handler=handler, auth=Auth.FEDERATION, limit=limit)


ROUTES: tuple[Route, ...] = (
    # Server discovery
    _open("GET", "/.well-known/matrix/server", wellknown.get_well_known),
    _open("GET", f"{_V1}/version", version.get_version),
    _open("GET", f"{_KEYS}/server", keys_server.get_server_key),
    _open("GET", f"{_KEYS}/query/{{serverName}}", keys_query.perspectives_key_query, "key_queries"),
    # With a key's id, as before Matrix 1.6: it never changed the answer, and older servers still send it.
    _open("GET", f"{_KEYS}/server/{{keyId}}", keys_server.get_server_key),
    _open("GET", f"{_KEYS}/query/{{serverName}}/{{keyId}}", keys_query.perspectives_key_query, "key_queries"),
    _open("POST", f"{_KEYS}/query", keys_query.bulk_perspectives_key_query, "key_queries"),
    # Transactions; backfilling and retrieving missing events; retrieving events
    Route(
        method="PUT",
        path=f"{_V1}/send/{{txnId}}",
        handler=transactions.send_transaction,
        auth=Auth.FEDERATION,
        body_max_bytes=TRANSACTION_BYTES_MAX,
    ),
    _query("GET", f"{_V1}/event_auth/{{roomId}}/{{eventId}}", event_auth.get_event_auth),
    _query("GET", f"{_V1}/backfill/{{roomId}}", backfill.backfill_room),
    _query("POST", f"{_V1}/get_missing_events/{{roomId}}", backfill.get_missing_previous_events),
    _query("GET", f"{_V1}/state/{{roomId}}", events.get_room_state),
    _query("GET", f"{_V1}/state_ids/{{roomId}}", events.get_room_state_ids),
    _query("GET", f"{_V1}/event/{{eventId}}", events.get_event),
    _query("GET", f"{_V1}/timestamp_to_event/{{roomId}}", events.get_event_by_timestamp),
    # Joining rooms
    _membership("GET", f"{_V1}/make_join/{{roomId}}/{{userId}}", joins_v1.make_join),
    _membership("PUT", f"{_V1}/send_join/{{roomId}}/{{eventId}}", joins_v1.send_join_v1),
    _membership("PUT", f"{_V2}/send_join/{{roomId}}/{{eventId}}", joins_v2.send_join_v2),
    # Knocking upon a room, inviting to a room, leaving rooms
    _membership("GET", f"{_V1}/make_knock/{{roomId}}/{{userId}}", knocks.make_knock),
    _membership("PUT", f"{_V1}/send_knock/{{roomId}}/{{eventId}}", knocks.send_knock),
    _membership("PUT", f"{_V1}/invite/{{roomId}}/{{eventId}}", invites_v1.send_invite_v1),
    _membership("PUT", f"{_V2}/invite/{{roomId}}/{{eventId}}", invites_v2.send_invite_v2),
    _membership("GET", f"{_V1}/make_leave/{{roomId}}/{{userId}}", leaving_v1.make_leave),
    _membership("PUT", f"{_V1}/send_leave/{{roomId}}/{{eventId}}", leaving_v1.send_leave_v1),
    _membership("PUT", f"{_V2}/send_leave/{{roomId}}/{{eventId}}", leaving_v2.send_leave_v2),
    # Third-party invites
    _membership(
        "PUT",
        f"{_V1}/exchange_third_party_invite/{{roomId}}",
        third_party_invite.exchange_third_party_invite,
    ),
    *(  # "POST /3pid/onbind" is how the Client-Server API draws it, and what identity servers in use send
        _open(
            method,
            f"{_V1}/3pid/onbind",
            third_party_invite.on_bind_third_party_identifier,
            "third_party_invites",
        )
        for method in ("PUT", "POST")
    ),
    # Published room directory; spaces
    _query("GET", f"{_V1}/publicRooms", public_rooms.get_public_rooms),
    _query("POST", f"{_V1}/publicRooms", public_rooms.query_public_rooms),
    _query("GET", f"{_V1}/hierarchy/{{roomId}}", space_hierarchy.get_space_hierarchy),
    # Querying for information
    _query("GET", f"{_V1}/query/profile", query.query_profile),
    _query("GET", f"{_V1}/query/directory", query.query_room_directory),
    _query("GET", f"{_V1}/query/{{queryType}}", query.query_info),
    # Device management; end-to-end encryption
    _query("GET", f"{_V1}/user/devices/{{userId}}", user_devices.get_user_devices),
    _query("POST", f"{_V1}/user/keys/query", user_keys.query_user_encryption_keys),
    _query("POST", f"{_V1}/user/keys/claim", user_keys.claim_user_encryption_keys),
    # Policy servers
    _query("POST", "/_matrix/policy/v1/sign", room_policy.ask_policy_server_to_sign),
    # OpenID
    _open("GET", f"{_V1}/openid/userinfo", openid.exchange_open_id_token, "key_queries"),
)
