"""Responses. CORS headers are on all of them: browsers' clients are clients too.

Source: Client-Server API, "Web Browser Clients".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
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


PIECE_BYTES = 256 * 1024  # are encrypted in a millisecond


def json_response(body: Any, status: int = 200) -> web.Response:
    """An object as JSON."""
    return json_bytes(orjson.dumps(body), status)


def json_bytes(body: bytes, status: int = 200) -> web.Response:
    """JSON that is encoded already."""
    if len(body) <= PIECE_BYTES:
        return web.Response(body=body, status=status, headers=JSON_HEADERS)
    headers = {**JSON_HEADERS, "Content-Length": str(len(body))}
    return web.Response(body=_in_pieces(body), status=status, headers=headers)


async def _in_pieces(body: bytes) -> AsyncIterator[memoryview]:
    """A large body, between the pieces of which others on the event loop get their turn."""
    view = memoryview(body)
    for start in range(0, len(view), PIECE_BYTES):
        yield view[start : start + PIECE_BYTES]
        await asyncio.sleep(0)


EMPTY = b"{}"


def empty_response() -> web.Response:
    """`{}`, the answer of most commands."""
    return web.Response(body=EMPTY, headers=JSON_HEADERS)
