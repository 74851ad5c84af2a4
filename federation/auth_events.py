"""Which events give an event's sender the permission to send it, and the checks on that choice.

Source: Server-Server API, "Auth events selection"; rooms/, "Authorisation rules", the rule that begins
"Considering the event's auth_events" (rule 2; rules 2 and 3 in v12).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from federation.errors import Rejected
from federation.event import PDU, JsonObject, StateKey
from federation.room_versions import RoomVersion

CREATE_KEY: StateKey = ("m.room.create", "")
POWER_LEVELS_KEY: StateKey = ("m.room.power_levels", "")
JOIN_RULES_KEY: StateKey = ("m.room.join_rules", "")
MEMBER = "m.room.member"
THIRD_PARTY_INVITE = "m.room.third_party_invite"


def auth_event_keys(
    version: RoomVersion, event_type: str, state_key: str | None, sender: str, content: JsonObject
) -> list[StateKey]:
    """The state that an event of this shape is authorised by, each key once; empty for a create event.

    Source: Server-Server API, "Auth events selection".
    """
    if event_type == CREATE_KEY[0]:
        return []
    sender_key = (MEMBER, sender)
    # "Depending on the room version, the m.room.create event. The current m.room.power_levels event,
    # if any. The sender's current m.room.member event, if any."
    if version.room_id_is_create_hash:
        keys = [POWER_LEVELS_KEY, sender_key]
    else:
        keys = [CREATE_KEY, POWER_LEVELS_KEY, sender_key]
    if event_type == MEMBER:
        _add_member_keys(keys, version, state_key, content)
    return keys


def _add_member_keys(
    keys: list[StateKey], version: RoomVersion, state_key: str | None, content: JsonObject
) -> None:
    # "The target's current m.room.member event, if any."
    if state_key is not None and (MEMBER, state_key) not in keys:
        keys.append((MEMBER, state_key))
    membership = content.get("membership")
    # "If membership is join, invite or knock, the current m.room.join_rules event, if any."
    if membership in ("join", "invite", "knock"):
        keys.append(JOIN_RULES_KEY)
    # "If membership is invite and content contains a third_party_invite property, the current
    # m.room.third_party_invite event with state_key matching content.third_party_invite.signed.token"
    if membership == "invite":
        token = third_party_invite_token(content)
        if token is not None:
            keys.append((THIRD_PARTY_INVITE, token))
    # "If membership is join, content.join_authorised_via_users_server is present, and the room version
    # supports restricted rooms, then the m.room.member event with state_key matching [it]."
    if membership == "join" and version.restricted_joins:
        authorising_user = content.get("join_authorised_via_users_server")
        if isinstance(authorising_user, str) and (MEMBER, authorising_user) not in keys:
            keys.append((MEMBER, authorising_user))


def third_party_invite_token(content: JsonObject) -> str | None:
    """``content.third_party_invite.signed.token``, ``None`` where any of it is missing or no text."""
    invite = content.get("third_party_invite")
    signed = invite.get("signed") if isinstance(invite, dict) else None
    token = signed.get("token") if isinstance(signed, dict) else None
    return token if isinstance(token, str) else None


def select_auth_events(
    version: RoomVersion,
    event_type: str,
    state_key: str | None,
    sender: str,
    content: JsonObject,
    get: Callable[[StateKey], PDU | None],
) -> list[PDU]:
    """The auth events for a new event, from the state that ``get`` looks up.

    Source: Server-Server API, "Auth events selection".
    """
    keys = auth_event_keys(version, event_type, state_key, sender, content)
    return [found for key in keys if (found := get(key)) is not None]


def check_auth_events(
    event: PDU, auth_events: Sequence[PDU], rejected: Collection[str], create: PDU | None = None
) -> None:
    """Check what an event claims as its auth events. Raises Rejected.

    ``auth_events`` are the events that its ``auth_events`` name, all of them; ``rejected`` holds the
    IDs that were rejected among them. Where the room ID is the create event's hash, ``create`` is the
    event that it names, if known. Source: authorisation rule 2; rules 2 and 3 in v12.
    """
    if event.type == CREATE_KEY[0]:
        return  # Rule 1 decides alone.
    if event.version.room_id_is_create_hash:
        _check_room_id(event, create, rejected)
    selected = set(auth_event_keys(event.version, event.type, event.state_key, event.sender, event.content))
    seen: set[StateKey] = set()
    for auth_event in auth_events:
        key = auth_event.key
        # "If there are entries whose type and state_key don't match those specified by the auth events
        # selection algorithm described in the server specification, reject."
        if key is None or key not in selected:
            raise Rejected("auth_events.not_selected", event.event_id, auth_event.event_id)
        # "If there are duplicate entries for a given type and state_key pair, reject."
        if key in seen:
            raise Rejected("auth_events.duplicate", event.event_id, auth_event.event_id)
        seen.add(key)
        # "If there are entries which were themselves rejected under the checks performed on receipt of
        # a PDU, reject."
        if auth_event.event_id in rejected:
            raise Rejected("auth_events.rejected", event.event_id, auth_event.event_id)
        # "If any event in auth_events has a room_id which does not match that of the event being
        # authorised, reject."
        if auth_event.room_id != event.room_id:
            raise Rejected("auth_events.other_room", event.event_id, auth_event.event_id)
    # "If there is no m.room.create event among the entries, reject."
    if not event.version.room_id_is_create_hash and CREATE_KEY not in seen:
        raise Rejected("auth_events.no_create", event.event_id)


def _check_room_id(event: PDU, create: PDU | None, rejected: Collection[str]) -> None:
    # "If the event's room_id is not an event ID for an accepted (not rejected) m.room.create event,
    # with the sigil ! instead of $, reject." (v12 rule 2)
    if create is None or create.key != CREATE_KEY or create.event_id[1:] != event.room_id[1:]:
        raise Rejected("room_id.not_create", event.event_id)
    if create.event_id in rejected:
        raise Rejected("room_id.create_rejected", event.event_id)
