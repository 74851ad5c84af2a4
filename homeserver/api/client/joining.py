"""Joining rooms. Source: joining.yaml.

`via` names servers to join through; a room that this node takes part in needs none.
"""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request, optional_text_field
from homeserver.api.response import json_response
from homeserver.errors import BadJson, InvalidParam

PARAMETERS = ("reason", "third_party_signed")


async def join_room_by_id(request: Request) -> web.Response:
    """POST /rooms/{roomId}/join: `joinRoomById`."""
    room_id = request.params["roomId"]
    if not room_id.startswith("!"):
        raise InvalidParam("This takes a room id; /join/{roomIdOrAlias} takes aliases too")
    return await _join(request, room_id)


async def join_room(request: Request) -> web.Response:
    """POST /join/{roomIdOrAlias}: `joinRoom`."""
    return await _join(request, request.params["roomIdOrAlias"])


def servers_named(request: Request) -> list[str]:
    """The servers that a client names: in `via`, or in `server_name`, as it was called before Matrix 1.12."""
    return request.query_all("via") or request.query_all("server_name")


async def _join(request: Request, room_id_or_alias: str) -> web.Response:
    body = await request.json_object()
    third_party_signed = body.get("third_party_signed")
    if third_party_signed is not None and not isinstance(third_party_signed, dict):
        raise BadJson("'third_party_signed' must be an object")
    room_id = await request.services.joining.join(
        request.requester,
        room_id_or_alias,
        via=servers_named(request),
        reason=optional_text_field(body, "reason"),
        third_party_signed=third_party_signed,
        more={key: value for key, value in body.items() if key not in PARAMETERS},
    )
    return json_response({"room_id": room_id})
