"""Inviting people by address. Source: third_party_membership.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.rooms.inviting import refuse_third_party_invites


async def invite_by_3pid(request: Request) -> web.Response:
    """POST /rooms/{roomId}/invite: `inviteBy3PID`, for members. This node asks no identity server."""
    await request.services.rooms.get_joined(request.params["roomId"], request.requester.user_id)
    refuse_third_party_invites()
