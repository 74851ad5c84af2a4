"""Responses. CORS headers are on all of them: browsers' clients are clients too.

Source: Client-Server API, "Web Browser Clients".
"""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "X-Requested-With, Content-Type, Authorization",
}
JSON_HEADERS = {
    "Content-Type": "application/json",
    "Access-Control-Allow-Origin": "*",
    "Cache-Control": "no-cache",
}


def json_response(body: Any, status: int = 200) -> web.Response:
    """An object as JSON."""
    return web.Response(body=orjson.dumps(body), status=status, headers=JSON_HEADERS)


def json_bytes(body: bytes) -> web.Response:
    """JSON that is encoded already."""
    return web.Response(body=body, headers=JSON_HEADERS)


EMPTY = b"{}"


def empty_response() -> web.Response:
    """`{}`, the answer of most commands."""
    return web.Response(body=EMPTY, headers=JSON_HEADERS)
