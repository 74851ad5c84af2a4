"""Rooms › Getting events, state and members of a room: rooms.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes
from homeserver.errors import InvalidParam
from homeserver.rooms.state_reading import MembersQuery

MEMBERSHIPS = ("join", "invite", "knock", "leave", "ban")


async def get_one_room_event(request: Request) -> web.Response:
    """GET /rooms/{roomId}/event/{eventId}: `getOneRoomEvent`."""
    return json_bytes(
        await request.services.history.event(
            request.requester, request.params["roomId"], request.params["eventId"]
        )
    )


async def get_room_state_with_key(request: Request) -> web.Response:
    """GET /rooms/{roomId}/state/{eventType}/{stateKey}: `getRoomStateWithKey`."""
    return json_bytes(
        await request.services.state_reading.state_event(
            request.requester,
            request.params["roomId"],
            request.params["eventType"],
            request.params.get("stateKey", ""),
            whole=request.query_choice("format", ("content", "event"), "content") == "event",
        )
    )


async def get_room_state(request: Request) -> web.Response:
    """GET /rooms/{roomId}/state: `getRoomState`."""
    return json_bytes(await request.services.state_reading.state(request.requester, request.params["roomId"]))


async def get_members_by_room(request: Request) -> web.Response:
    """GET /rooms/{roomId}/members: `getMembersByRoom`."""
    query = MembersQuery(
        at=request.query("at") or None,
        membership=_membership(request, "membership"),
        not_membership=_membership(request, "not_membership"),
    )
    return json_bytes(
        await request.services.state_reading.members(request.requester, request.params["roomId"], query)
    )


async def get_joined_members_by_room(request: Request) -> web.Response:
    """GET /rooms/{roomId}/joined_members: `getJoinedMembersByRoom`."""
    return json_bytes(
        await request.services.state_reading.joined_members(request.requester, request.params["roomId"])
    )


def _membership(request: Request, name: str) -> str | None:
    value = request.query(name)
    if value is not None and value not in MEMBERSHIPS:
        raise InvalidParam(f"The query parameter {name!r} must be one of {', '.join(MEMBERSHIPS)}")
    return value
