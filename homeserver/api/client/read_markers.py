"""Read markers. Source: read_markers.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request, optional_text_field
from homeserver.api.response import empty_response
from homeserver.rooms.receipts import RECEIPT_TYPES


async def set_read_marker(request: Request) -> web.Response:
    """POST /rooms/{roomId}/read_markers: `setReadMarker`."""
    body = await request.json_object()
    given = ((name, optional_text_field(body, name)) for name in RECEIPT_TYPES)
    event_ids = {name: event_id for name, event_id in given if event_id is not None}
    await request.services.receipts.mark(request.requester, request.params["roomId"], event_ids)
    return empty_response()
