"""Specification file: admin.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request, flag_field
from homeserver.api.response import json_response


async def get_who_is(request: Request) -> web.Response:
    """GET /admin/whois/{userId}: `getWhoIs`."""
    return json_response(await request.services.moderation.whois(request.requester, request.params["userId"]))


async def get_admin_suspend_user(request: Request) -> web.Response:
    """GET /admin/suspend/{userId}: `getAdminSuspendUser`."""
    suspended = await request.services.moderation.is_suspended(request.params["userId"])
    return json_response({"suspended": suspended})


async def set_admin_suspend_user(request: Request) -> web.Response:
    """PUT /admin/suspend/{userId}: `setAdminSuspendUser`."""
    suspended = flag_field(await request.json_object(), "suspended")
    await request.services.moderation.set_suspended(request.params["userId"], suspended)
    return json_response({"suspended": suspended})


async def get_admin_lock_user(request: Request) -> web.Response:
    """GET /admin/lock/{userId}: `getAdminLockUser`."""
    return json_response({"locked": await request.services.moderation.is_locked(request.params["userId"])})


async def set_admin_lock_user(request: Request) -> web.Response:
    """PUT /admin/lock/{userId}: `setAdminLockUser`."""
    locked = flag_field(await request.json_object(), "locked")
    await request.services.moderation.set_locked(request.params["userId"], locked)
    return json_response({"locked": locked})
