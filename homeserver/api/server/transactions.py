"""Specification file: server-server/transactions.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes


async def send_transaction(request: Request) -> web.Response:
    """PUT /_matrix/federation/v1/send/{txnId}: `sendTransaction`."""
    body = await request.json_object()
    return json_bytes(await request.services.inbox.receive(request.origin, request.params["txnId"], body))
