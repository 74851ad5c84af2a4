"""Specification file: server-server/public_rooms.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.client.list_public_rooms import directory_query
from homeserver.api.request import Request
from homeserver.api.response import json_response
from homeserver.rooms.public_rooms import DirectoryQuery


async def get_public_rooms(request: Request) -> web.Response:
    """GET /_matrix/federation/v1/publicRooms: `getPublicRooms`."""
    every_network = request.query_bool("include_all_networks")
    query = DirectoryQuery(
        limit=request.query_int("limit", 0),
        since=request.query("since"),
        third_party_instance_id=None if every_network else request.query("third_party_instance_id"),
    )
    return json_response(await request.services.public_rooms.page_for_servers(query))


async def query_public_rooms(request: Request) -> web.Response:
    """POST /_matrix/federation/v1/publicRooms: `queryPublicRooms`."""
    query = directory_query(await request.json_object(), None)
    return json_response(await request.services.public_rooms.page_for_servers(query))
