"""Sending messages. Source: room_send.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.client.delayed_events import delay_of
from homeserver.api.request import Request
from homeserver.api.response import json_response


async def send_message(request: Request) -> web.Response:
    """PUT /rooms/{roomId}/send/{eventType}/{txnId}: `sendMessage`.

    Older clients POST without a transaction id.
    """
    params = request.params
    content = await request.json_object()
    delay_ms, txn_id = delay_of(request), params.get("txnId")
    if delay_ms is not None and txn_id is not None:
        room_id, event_type = params["roomId"], params["eventType"]
        delay_id = await request.services.delayed_events.schedule(
            request.requester, room_id, event_type, content, delay_ms, txn_id=txn_id
        )
        return json_response({"delay_id": delay_id})
    event_id = await request.services.sending.send(
        request.requester, params["roomId"], params["eventType"], txn_id, content
    )
    return json_response({"event_id": event_id})
