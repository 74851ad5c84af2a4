"""Specification file: to_device.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import empty_response
from homeserver.encryption.to_device_sending import read_messages
from homeserver.errors import MissingParam


async def send_to_device(request: Request) -> web.Response:
    """PUT /sendToDevice/{eventType}/{txnId}: `sendToDevice`."""
    body, params = await request.json_object(), request.params
    if "messages" not in body:
        raise MissingParam("'messages' is required: user ids with device ids and contents")
    messages = read_messages(body["messages"])
    await request.services.to_device.send(request.requester, params["eventType"], params["txnId"], messages)
    return empty_response()
