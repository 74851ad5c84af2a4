"""Routes of making rooms, entering and leaving them, and sending into them.

Suspended accounts may leave rooms and redact their own events; `Sending` and `StateSetting` look closer
where that depends on more than the path. Source: Client-Server API, "Account suspension", "Guest Access".
"""

from __future__ import annotations

from homeserver.api.client import (
    banning,
    create_room,
    inviting,
    joining,
    kicking,
    knocking,
    leaving,
    list_joined_rooms,
    redaction,
    room_send,
    room_state,
    room_upgrades,
)
from homeserver.api.router import Auth, Handler, Route

_V3 = "/_matrix/client/v3"
_ROOM = f"{_V3}/rooms/{{roomId}}"


def _route(
    method: str,
    path: str,
    handler: Handler,
    *,
    auth: Auth = Auth.USER,
    limit: str | None = None,
    while_suspended: bool = True,
) -> Route:
    return Route(
        method=method, path=path, handler=handler, auth=auth, limit=limit, while_suspended=while_suspended
    )


def _active(path: str, handler: Handler, *, auth: Auth = Auth.USER, limit: str | None = None) -> Route:
    """A POST that suspended accounts may not make."""
    return _route("POST", path, handler, auth=auth, limit=limit, while_suspended=False)


ROUTES: tuple[Route, ...] = (
    # Creation
    _active(f"{_V3}/createRoom", create_room.create_room, limit="room_creation"),
    _active(f"{_ROOM}/upgrade", room_upgrades.upgrade_room, limit="room_creation"),
    # Room membership
    _active(f"{_ROOM}/join", joining.join_room_by_id, auth=Auth.GUEST, limit="joins"),
    _active(f"{_V3}/join/{{roomIdOrAlias}}", joining.join_room, auth=Auth.GUEST, limit="joins"),
    _active(f"{_V3}/knock/{{roomIdOrAlias}}", knocking.knock_room, limit="joins"),
    _active(f"{_ROOM}/invite", inviting.invite_user, limit="invites"),
    _active(f"{_ROOM}/kick", kicking.kick, limit="messages"),
    _active(f"{_ROOM}/ban", banning.ban, limit="messages"),
    _active(f"{_ROOM}/unban", banning.unban, limit="messages"),
    _route("POST", f"{_ROOM}/leave", leaving.leave_room, auth=Auth.GUEST),
    _route("POST", f"{_ROOM}/forget", leaving.forget_room, auth=Auth.GUEST),
    _route("GET", f"{_V3}/joined_rooms", list_joined_rooms.get_joined_rooms, auth=Auth.GUEST),
    # Room participation
    _route(
        "PUT",
        f"{_ROOM}/send/{{eventType}}/{{txnId}}",
        room_send.send_message,
        auth=Auth.GUEST,
        limit="messages",
    ),
    _route(
        "PUT",
        f"{_ROOM}/state/{{eventType}}/{{stateKey}}",
        room_state.set_room_state_with_key,
        auth=Auth.GUEST,
        limit="messages",
    ),
    _route(
        "PUT",
        f"{_ROOM}/state/{{eventType}}",
        room_state.set_room_state_with_key,
        auth=Auth.GUEST,
        limit="messages",
    ),
    _route("PUT", f"{_ROOM}/redact/{{eventId}}/{{txnId}}", redaction.redact_event, limit="messages"),
    # the same as clients of the first years send it; no part of the specification any more
    _route("POST", f"{_ROOM}/send/{{eventType}}", room_send.send_message, auth=Auth.GUEST, limit="messages"),
    _route("POST", f"{_ROOM}/redact/{{eventId}}", redaction.redact_event, limit="messages"),
)
