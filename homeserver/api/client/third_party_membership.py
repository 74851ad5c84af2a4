"""Inviting people by address. Source: third_party_membership.yaml."""

from __future__ import annotations

from aiohttp import web

from federation.event import JsonObject
from homeserver.api.request import Request
from homeserver.api.response import empty_response
from homeserver.rooms.third_party_invites import InvitedAddress


async def invite_by_3pid(request: Request, body: JsonObject) -> web.Response:
    """POST /rooms/{roomId}/invite: `inviteBy3PID`."""
    await request.services.inviting_by_address.invite(
        request.requester, request.params["roomId"], InvitedAddress.of_body(body)
    )
    return empty_response()
