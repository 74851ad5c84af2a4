"""Specification file: server-server/third_party_invite.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import empty_response


async def exchange_third_party_invite(request: Request) -> web.Response:
    """PUT /_matrix/federation/v1/exchange_third_party_invite/{roomId}: `exchangeThirdPartyInvite`."""
    body = await request.json_object()
    await request.services.third_party_invites.exchange(request.origin, request.params["roomId"], body)
    return empty_response()


async def on_bind_third_party_identifier(request: Request) -> web.Response:
    """PUT /_matrix/federation/v1/3pid/onbind: `onBindThirdPartyIdentifier`."""
    await request.services.third_party_invites.bound(await request.json_object())
    return empty_response()
