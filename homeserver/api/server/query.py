"""Specification file: server-server/query.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response
from homeserver.errors import NotFound


async def query_profile(request: Request) -> web.Response:
    """GET /_matrix/federation/v1/query/profile: `queryProfile`."""
    user_id, field = request.query_required("user_id"), request.query("field")
    return json_response(await request.services.federation_queries.profile(user_id, field))


async def query_room_directory(request: Request) -> web.Response:
    """GET /_matrix/federation/v1/query/directory: `queryRoomDirectory`."""
    alias = request.query_required("room_alias")
    return json_response(await request.services.federation_queries.room_alias(alias))


async def query_info(request: Request) -> web.Response:
    """GET /_matrix/federation/v1/query/{queryType}: `queryInfo`, also where the type is percent-encoded."""
    match request.params["queryType"]:
        case "profile":
            return await query_profile(request)
        case "directory":
            return await query_room_directory(request)
        case _:
            raise NotFound("This server answers queries of the types profile and directory")
