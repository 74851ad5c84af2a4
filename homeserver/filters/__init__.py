"""Filters of /sync, /messages, /context and /search: checked once, compiled, cheap to ask (see README.md)."""

from homeserver.filters.compile import compile_filter, compile_room_event_filter
from homeserver.filters.event_filter import ALL_EVENTS, ALL_ROOM_EVENTS, EventFilter, RoomEventFilter
from homeserver.filters.projection import EventFields
from homeserver.filters.sync_filter import NO_FILTER, RoomFilter, SyncFilter

__all__ = [
    "ALL_EVENTS",
    "ALL_ROOM_EVENTS",
    "NO_FILTER",
    "EventFields",
    "EventFilter",
    "RoomEventFilter",
    "RoomFilter",
    "SyncFilter",
    "compile_filter",
    "compile_room_event_filter",
]
