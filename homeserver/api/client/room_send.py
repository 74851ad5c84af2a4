"""Sending messages. Source: room_send.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response


async def send_message(request: Request) -> web.Response:
    """PUT /rooms/{roomId}/send/{eventType}/{txnId}: `sendMessage`."""
    params = request.params
    content = await request.json_object()
    event_id = await request.services.sending.send(
        request.requester, params["roomId"], params["eventType"], params["txnId"], content
    )
    return json_response({"event_id": event_id})
