"""Redacting events. Source: redaction.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request, optional_text_field
from homeserver.api.response import json_response


async def redact_event(request: Request) -> web.Response:
    """PUT /rooms/{roomId}/redact/{eventId}/{txnId}: `redactEvent`.

    Older clients POST without a transaction id.
    """
    params = request.params
    reason = optional_text_field(await request.json_object(), "reason")
    event_id = await request.services.sending.redact(
        request.requester, params["roomId"], params["eventId"], params.get("txnId"), reason=reason
    )
    return json_response({"event_id": event_id})
