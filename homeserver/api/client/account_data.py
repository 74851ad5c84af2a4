"""Account data. Source: account-data.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import empty_response, json_bytes


async def set_account_data(request: Request) -> web.Response:
    """PUT /user/{userId}/account_data/{type}: `setAccountData`."""
    request.own_user_id()
    content = await request.json_object()
    await request.services.account_data.put(request.requester, request.params["type"], content)
    return empty_response()


async def get_account_data(request: Request) -> web.Response:
    """GET /user/{userId}/account_data/{type}: `getAccountData`."""
    request.own_user_id()
    return json_bytes(await request.services.account_data.get(request.requester, request.params["type"]))


async def set_account_data_per_room(request: Request) -> web.Response:
    """PUT /user/{userId}/rooms/{roomId}/account_data/{type}: `setAccountDataPerRoom`."""
    request.own_user_id()
    content = await request.json_object()
    await request.services.account_data.put(
        request.requester, request.params["type"], content, room_id=request.params["roomId"]
    )
    return empty_response()


async def get_account_data_per_room(request: Request) -> web.Response:
    """GET /user/{userId}/rooms/{roomId}/account_data/{type}: `getAccountDataPerRoom`."""
    request.own_user_id()
    return json_bytes(
        await request.services.account_data.get(
            request.requester, request.params["type"], room_id=request.params["roomId"]
        )
    )
