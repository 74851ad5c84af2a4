"""Inviting users. Source: inviting.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.client.third_party_membership import invite_by_3pid
from homeserver.api.request import Request, optional_text_field, text_field
from homeserver.api.response import empty_response


async def invite_user(request: Request) -> web.Response:
    """POST /rooms/{roomId}/invite: `inviteUser`, or `inviteBy3PID` for a body that names an address."""
    body = await request.json_object()
    if "user_id" not in body and ("medium" in body or "address" in body):
        return await invite_by_3pid(request, body)
    await request.services.inviting.invite(
        request.requester,
        request.params["roomId"],
        text_field(body, "user_id"),
        reason=optional_text_field(body, "reason"),
    )
    return empty_response()
