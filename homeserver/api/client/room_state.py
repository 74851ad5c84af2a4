"""Setting state. Source: room_state.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.client.delayed_events import delay_of
from homeserver.api.request import Request
from homeserver.api.response import json_response


async def set_room_state_with_key(request: Request) -> web.Response:
    """PUT /rooms/{roomId}/state/{eventType}/{stateKey}: `setRoomStateWithKey`.

    An empty key may be left out together with its slash.
    """
    params = request.params
    content = await request.json_object()
    delay_ms = delay_of(request)
    if delay_ms is not None:
        room_id, event_type, state_key = params["roomId"], params["eventType"], params.get("stateKey", "")
        delay_id = await request.services.delayed_events.schedule(
            request.requester, room_id, event_type, content, delay_ms, state_key=state_key
        )
        return json_response({"delay_id": delay_id})
    event_id = await request.services.state_setting.put(
        request.requester, params["roomId"], params["eventType"], params.get("stateKey", ""), content
    )
    return json_response({"event_id": event_id})
