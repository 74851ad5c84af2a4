"""Filters. Source: filter.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes, json_response


async def define_filter(request: Request) -> web.Response:
    """POST /user/{userId}/filter: `defineFilter`."""
    request.own_user_id()
    definition = await request.json_object()
    return json_response({"filter_id": await request.services.filters.define(request.requester, definition)})


async def get_filter(request: Request) -> web.Response:
    """GET /user/{userId}/filter/{filterId}: `getFilter`."""
    request.own_user_id()
    return json_bytes(
        await request.services.filters.definition(request.requester, request.params["filterId"])
    )
