"""The published room directory. Specification file: list_public_rooms.yaml."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from federation.event import JsonObject
from homeserver.api.request import Request, optional_text_field
from homeserver.api.response import empty_response, json_response
from homeserver.errors import BadJson
from homeserver.rooms.public_rooms import DirectoryQuery

VISIBILITIES = ("public", "private")


async def get_room_visibility_on_directory(request: Request) -> web.Response:
    """GET /directory/list/room/{roomId}: `getRoomVisibilityOnDirectory`."""
    published = await request.services.directory.is_published(request.params["roomId"])
    return json_response({"visibility": "public" if published else "private"})


async def set_room_visibility_on_directory(request: Request) -> web.Response:
    """PUT /directory/list/room/{roomId}: `setRoomVisibilityOnDirectory`."""
    visibility = (await request.json_object()).get("visibility", "public")
    if visibility not in VISIBILITIES:
        raise BadJson("'visibility' must be public or private")
    await request.services.directory.set_published(
        request.requester, request.params["roomId"], visibility == "public"
    )
    return empty_response()


async def get_public_rooms(request: Request) -> web.Response:
    """GET /publicRooms: `getPublicRooms`."""
    query = DirectoryQuery(
        limit=request.query_int("limit", 0), since=request.query("since"), server=request.query("server")
    )
    return json_response(
        await request.services.directories.page(request.optional_requester, request.asker, query)
    )


async def query_public_rooms(request: Request) -> web.Response:
    """POST /publicRooms: `queryPublicRooms`."""
    query = directory_query(await request.json_object(), request.query("server"))
    return json_response(await request.services.directories.page(request.requester, request.asker, query))


def directory_query(body: JsonObject, server: str | None) -> DirectoryQuery:
    """Read the body of `queryPublicRooms`. Raises BadJson, InvalidParam."""
    limit = body.get("limit", 0)
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise BadJson("'limit' must be an integer")
    filter = body.get("filter", {})
    if not isinstance(filter, dict):
        raise BadJson("'filter' must be an object")
    every_network = body.get("include_all_networks", False)
    if not isinstance(every_network, bool):
        raise BadJson("'include_all_networks' must be true or false")
    network = optional_text_field(body, "third_party_instance_id")
    return DirectoryQuery(
        limit=limit,
        since=optional_text_field(body, "since"),
        search_term=optional_text_field(filter, "generic_search_term"),
        room_types=_room_types(filter.get("room_types")),
        third_party_instance_id=None if every_network else network,
        server=server,
    )


def _room_types(value: Any) -> list[str | None] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(each is None or isinstance(each, str) for each in value):
        raise BadJson("'room_types' must be a list of strings and nulls")
    return value
