"""Room aliases. Specification file: directory.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request, text_field
from homeserver.api.response import empty_response, json_response


async def set_room_alias(request: Request) -> web.Response:
    """PUT /directory/room/{roomAlias}: `setRoomAlias`."""
    room_id = text_field(await request.json_object(), "room_id")
    await request.services.directory.set_alias(request.requester, request.params["roomAlias"], room_id)
    return empty_response()


async def get_room_id_by_alias(request: Request) -> web.Response:
    """GET /directory/room/{roomAlias}: `getRoomIdByAlias`."""
    return json_response(
        await request.services.alias_lookup.resolve(request.params["roomAlias"], request.asker)
    )


async def delete_room_alias(request: Request) -> web.Response:
    """DELETE /directory/room/{roomAlias}: `deleteRoomAlias`."""
    await request.services.directory.delete_alias(request.requester, request.params["roomAlias"])
    return empty_response()


async def get_local_aliases(request: Request) -> web.Response:
    """GET /rooms/{roomId}/aliases: `getLocalAliases`."""
    aliases = await request.services.directory.local_aliases(request.requester, request.params["roomId"])
    return json_response({"aliases": aliases})
