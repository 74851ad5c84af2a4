"""Modules › Threading › Querying threads in a room: threads_list.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes

LIMIT_DEFAULT = 20


async def get_thread_roots(request: Request) -> web.Response:
    """GET /rooms/{roomId}/threads: `getThreadRoots`."""
    return json_bytes(
        await request.services.threads.page(
            request.requester,
            request.params["roomId"],
            participated=request.query_choice("include", ("all", "participated"), "all") == "participated",
            limit=request.query_int("limit", LIMIT_DEFAULT, least=1),
            start=request.query("from") or None,
        )
    )
