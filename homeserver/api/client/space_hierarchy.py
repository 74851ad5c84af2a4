"""Spaces. Specification file: space_hierarchy.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response
from homeserver.rooms.space_hierarchy import DEPTH_MAX, PAGE_DEFAULT, PAGE_MAX, HierarchyQuery


async def get_space_hierarchy(request: Request) -> web.Response:
    """GET /rooms/{roomId}/hierarchy: `getSpaceHierarchy`."""
    query = HierarchyQuery(
        suggested_only=request.query_bool("suggested_only"),
        max_depth=request.query_int("max_depth", DEPTH_MAX, most=DEPTH_MAX),
        limit=request.query_int("limit", PAGE_DEFAULT, least=1, most=PAGE_MAX),
        since=request.query("from"),
    )
    return json_response(
        await request.services.space_hierarchy.page(request.requester, request.params["roomId"], query)
    )
