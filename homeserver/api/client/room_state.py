"""Setting state. Source: room_state.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response


async def set_room_state_with_key(request: Request) -> web.Response:
    """PUT /rooms/{roomId}/state/{eventType}/{stateKey}: `setRoomStateWithKey`.

    An empty key may be left out together with its slash.
    """
    params = request.params
    content = await request.json_object()
    event_id = await request.services.state_setting.put(
        request.requester, params["roomId"], params["eventType"], params.get("stateKey", ""), content
    )
    return json_response({"event_id": event_id})
