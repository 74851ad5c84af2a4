"""Profiles. Source: profile.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import empty_response, json_response


async def get_user_profile(request: Request) -> web.Response:
    """GET /profile/{userId}: `getUserProfile`."""
    return json_response(await request.services.all_profiles.get(request.params["userId"], request.asker))


async def get_profile_field(request: Request) -> web.Response:
    """GET /profile/{userId}/{keyName}: `getProfileField`."""
    return json_response(
        await request.services.all_profiles.get_field(
            request.params["userId"], request.params["keyName"], request.asker
        )
    )


async def set_profile_field(request: Request) -> web.Response:
    """PUT /profile/{userId}/{keyName}: `setProfileField`."""
    request.own_user_id()
    body = await request.json_object()
    await request.services.profiles.put_field(request.requester, request.params["keyName"], body)
    return empty_response()


async def delete_profile_field(request: Request) -> web.Response:
    """DELETE /profile/{userId}/{keyName}: `deleteProfileField`."""
    request.own_user_id()
    await request.services.profiles.delete_field(request.requester, request.params["keyName"])
    return empty_response()
