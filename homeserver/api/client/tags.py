"""Room tags. Source: tags.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import empty_response, json_response


async def get_room_tags(request: Request) -> web.Response:
    """GET /user/{userId}/rooms/{roomId}/tags: `getRoomTags`."""
    request.own_user_id()
    return json_response(
        {"tags": await request.services.tags.get(request.requester, request.params["roomId"])}
    )


async def set_room_tag(request: Request) -> web.Response:
    """PUT /user/{userId}/rooms/{roomId}/tags/{tag}: `setRoomTag`."""
    request.own_user_id()
    content = await request.json_object()
    await request.services.tags.put(
        request.requester, request.params["roomId"], request.params["tag"], content
    )
    return empty_response()


async def delete_room_tag(request: Request) -> web.Response:
    """DELETE /user/{userId}/rooms/{roomId}/tags/{tag}: `deleteRoomTag`."""
    request.own_user_id()
    await request.services.tags.delete(request.requester, request.params["roomId"], request.params["tag"])
    return empty_response()
