"""Routes of finding rooms: aliases, the published directory, spaces, summaries; and of server notices."""

from __future__ import annotations

from homeserver.api import server_notices
from homeserver.api.client import (
    directory,
    list_public_rooms,
    oauth_server_metadata,
    policy_server,
    room_summary,
    space_hierarchy,
    third_party_lookup,
)
from homeserver.api.router import Auth, Handler, Route

_V1 = "/_matrix/client/v1"
_V3 = "/_matrix/client/v3"
_ALIAS = f"{_V3}/directory/room/{{roomAlias}}"
_LISTED = f"{_V3}/directory/list/room/{{roomId}}"
_NOTICE = "/_synapse/admin/v1/send_server_notice"


def _get(path: str, handler: Handler, auth: Auth, limit: str | None = None) -> Route:
    return Route(method="GET", path=path, handler=handler, auth=auth, limit=limit)


def _edit(method: str, path: str, handler: Handler) -> Route:
    return Route(
        method=method, path=path, handler=handler, auth=Auth.USER, limit="messages", while_suspended=False
    )


ROUTES: tuple[Route, ...] = (
    # Rooms › Room aliases
    _get(_ALIAS, directory.get_room_id_by_alias, Auth.NONE),
    _edit("PUT", _ALIAS, directory.set_room_alias),
    _edit("DELETE", _ALIAS, directory.delete_room_alias),
    _get(f"{_V3}/rooms/{{roomId}}/aliases", directory.get_local_aliases, Auth.USER),
    # Rooms › Published room directory. Whether guests may see it is the service's to say.
    _get(_LISTED, list_public_rooms.get_room_visibility_on_directory, Auth.NONE),
    _edit("PUT", _LISTED, list_public_rooms.set_room_visibility_on_directory),
    _get(f"{_V3}/publicRooms", list_public_rooms.get_public_rooms, Auth.OPTIONAL, "search"),
    Route(
        method="POST",
        path=f"{_V3}/publicRooms",
        handler=list_public_rooms.query_public_rooms,
        auth=Auth.GUEST,
        limit="search",
    ),
    # Rooms › Room summaries; Modules › Spaces
    _get(f"{_V1}/room_summary/{{roomIdOrAlias}}", room_summary.get_room_summary, Auth.OPTIONAL, "search"),
    _get(f"{_V1}/rooms/{{roomId}}/hierarchy", space_hierarchy.get_space_hierarchy, Auth.USER, "search"),
    # Modules › Third-party networks
    _get(f"{_V3}/thirdparty/protocols", third_party_lookup.get_protocols, Auth.USER),
    _get(f"{_V3}/thirdparty/protocol/{{protocol}}", third_party_lookup.get_protocol_metadata, Auth.USER),
    _get(f"{_V3}/thirdparty/location/{{protocol}}", third_party_lookup.query_location_by_protocol, Auth.USER),
    _get(f"{_V3}/thirdparty/user/{{protocol}}", third_party_lookup.query_user_by_protocol, Auth.USER),
    _get(f"{_V3}/thirdparty/location", third_party_lookup.query_location_by_alias, Auth.USER),
    _get(f"{_V3}/thirdparty/user", third_party_lookup.query_user_by_id, Auth.USER),
    # What this node does not have
    _get("/.well-known/matrix/policy_server", policy_server.get_wellknown_policy, Auth.NONE),
    _get(f"{_V1}/auth_metadata", oauth_server_metadata.get_auth_metadata, Auth.NONE),
    # Synapse's admin API › Server notices
    Route(method="POST", path=_NOTICE, handler=server_notices.send_server_notice, auth=Auth.ADMIN),
    Route(
        method="PUT", path=f"{_NOTICE}/{{txnId}}", handler=server_notices.send_server_notice, auth=Auth.ADMIN
    ),
)
