"""The filter of /sync, compiled. Source: ``sync_filter.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from homeserver.filters.event_filter import ALL_EVENTS, ALL_ROOM_EVENTS, EventFilter, RoomEventFilter
from homeserver.filters.projection import EventFields

EventFormat = Literal["client", "federation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomFilter:
    """``rooms`` and ``not_rooms`` are "applied before the filters in ``ephemeral``, ``state``,
    ``timeline`` or ``account_data``"."""

    rooms: frozenset[str] | None = None
    not_rooms: frozenset[str] = frozenset()
    include_leave: bool = False
    account_data: RoomEventFilter = ALL_ROOM_EVENTS
    ephemeral: RoomEventFilter = ALL_ROOM_EVENTS
    state: RoomEventFilter = ALL_ROOM_EVENTS
    timeline: RoomEventFilter = ALL_ROOM_EVENTS

    def matches_room(self, room_id: str) -> bool:
        return room_id not in self.not_rooms and (self.rooms is None or room_id in self.rooms)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncFilter:
    """``event_fields`` is None where events are to be sent whole."""

    event_fields: EventFields | None = None
    event_format: EventFormat = "client"
    presence: EventFilter = ALL_EVENTS
    account_data: EventFilter = ALL_EVENTS
    room: RoomFilter = RoomFilter()

    @property
    def sends_encoded_events(self) -> bool:
        """Whether events go out just as they are for everyone: in the client format and whole, so
        that bytes already encoded can be spliced in."""
        return self.event_fields is None and self.event_format == "client"


NO_FILTER = SyncFilter()
