"""The `filter` parameter of the endpoints that page through a room."""

from __future__ import annotations

import orjson

from homeserver.api.request import Request
from homeserver.errors import InvalidParam, NotJson
from homeserver.filters import ALL_ROOM_EVENTS, RoomEventFilter, compile_room_event_filter

LENGTH_MAX = 65536


def room_event_filter(request: Request) -> RoomEventFilter:
    """The RoomEventFilter of a request. Raises InvalidParam, NotJson, BadJson."""
    text = request.query("filter")
    if not text:
        return ALL_ROOM_EVENTS
    if len(text) > LENGTH_MAX:
        raise InvalidParam("The filter is too long")
    try:
        definition = orjson.loads(text)
    except orjson.JSONDecodeError as cause:
        raise NotJson("The filter is not valid JSON") from cause
    return compile_room_event_filter(definition)
