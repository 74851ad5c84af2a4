"""Specification file: server-server/joins-v2.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes


async def send_join_v2(request: Request) -> web.Response:
    """PUT /_matrix/federation/v2/send_join/{roomId}/{eventId}: `sendJoinV2`."""
    return json_bytes(await accepted_join(request, omit_members=request.query_bool("omit_members")))


async def accepted_join(request: Request, *, omit_members: bool) -> bytes:
    """Accept the join in a request; the answer of version 2."""
    params = request.params
    room, join = await request.services.resident.accept(
        request.origin, params["roomId"], params["eventId"], await request.json_object(), "join"
    )
    return await request.services.join_answers.of(room, join, omit_members=omit_members)
