"""Tokens for LiveKit, in the form in which clients ask for them: MSC4195, and what lk-jwt-service had before.

Both take a `delay_id` by which the service may put off the delayed leaving of whoever is in the call. It is
not taken over here, and clients go on with that themselves.
"""

from __future__ import annotations

from aiohttp import web

from federation.event import JsonObject
from homeserver.api.request import Request, object_field, text_field
from homeserver.api.response import json_response
from homeserver.errors import Unauthorized

ID_LENGTH_MAX = 1024


async def get_sfu(request: Request) -> web.Response:
    """POST /sfu/get, of clients before MatrixRTC had slots."""
    body = await request.json_object()
    room_id = text_field(body, "room", most_bytes=ID_LENGTH_MAX)
    device_id = text_field(body, "device_id", most_bytes=ID_LENGTH_MAX)
    user_id = await _user_of(request, body)
    return json_response(await request.services.livekit.token_by_device(user_id, room_id, device_id))


async def get_token(request: Request) -> web.Response:
    """POST /get_token."""
    body = await request.json_object()
    room_id = text_field(body, "room_id", most_bytes=ID_LENGTH_MAX)
    slot_id = text_field(body, "slot_id", most_bytes=ID_LENGTH_MAX)
    member = object_field(body, "member")
    member_id = text_field(member, "id", most_bytes=ID_LENGTH_MAX)
    device_id = text_field(member, "claimed_device_id", most_bytes=ID_LENGTH_MAX)
    claimed_user_id = text_field(member, "claimed_user_id", most_bytes=ID_LENGTH_MAX)
    user_id = await _user_of(request, body)
    if user_id != claimed_user_id:
        raise Unauthorized("The OpenID token is not that of the user in 'claimed_user_id'")
    livekit = request.services.livekit
    return json_response(await livekit.token(user_id, room_id, slot_id, device_id, member_id))


async def _user_of(request: Request, body: JsonObject) -> str:
    token = object_field(body, "openid_token")
    return await request.services.openid_proofs.user_of(
        text_field(token, "access_token"), text_field(token, "matrix_server_name", most_bytes=ID_LENGTH_MAX)
    )
