"""Specification file: server-server/joins-v1.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes, json_response
from homeserver.api.server.joins_v2 import accepted_join


async def make_join(request: Request) -> web.Response:
    """GET /_matrix/federation/v1/make_join/{roomId}/{userId}: `makeJoin`."""
    params = request.params
    versions = request.query_all("ver") or ["1"]  # "Defaults to [1]."
    return json_response(
        await request.services.resident.make(
            request.origin, params["roomId"], params["userId"], "join", versions
        )
    )


async def send_join_v1(request: Request) -> web.Response:
    """PUT /_matrix/federation/v1/send_join/{roomId}/{eventId}: the answer of version 2 behind its status."""
    return json_bytes(b"[200," + await accepted_join(request, omit_members=False) + b"]")
