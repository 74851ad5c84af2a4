"""Specification file: server-server/space_hierarchy.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response


async def get_space_hierarchy(request: Request) -> web.Response:
    """GET /_matrix/federation/v1/hierarchy/{roomId}: `getSpaceHierarchy`."""
    suggested_only = request.query_bool("suggested_only")
    return json_response(
        await request.services.federation_hierarchy.of_space(
            request.origin, request.params["roomId"], suggested_only
        )
    )
