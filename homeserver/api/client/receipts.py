"""Receipts. Source: receipts.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import empty_response
from homeserver.errors import InvalidParam


async def post_receipt(request: Request) -> web.Response:
    """POST /rooms/{roomId}/receipt/{receiptType}/{eventId}: `postReceipt`."""
    body = await request.json_object()
    thread_id = body.get("thread_id")
    if "thread_id" in body and not isinstance(thread_id, str):
        raise InvalidParam("thread_id must be a string that is not empty")
    await request.services.receipts.post(
        request.requester,
        request.params["roomId"],
        request.params["receiptType"],
        request.params["eventId"],
        thread_id,
    )
    return empty_response()
