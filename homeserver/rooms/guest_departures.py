"""Guests leave rooms that are closed to them.

Who closes a room here takes them out in the same breath (`state_setting`); where a user of another server
does, or resolution, they leave soon after. Source: Client-Server API, "Guest Access".
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

import structlog

from homeserver.commit_log.change import Change
from homeserver.errors import MatrixError, Unavailable
from homeserver.rooms.changes import RoomEventChange
from homeserver.rooms.draft import Draft
from homeserver.rooms.event import Event
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.rooms import Rooms
from homeserver.storage.accounts import fetch_guests
from homeserver.storage.connection import Pool

log = structlog.get_logger()

GUEST_ACCESS = "m.room.guest_access"
WAITING_MAX = 10_000  # rooms
DEPARTURES_AT_ONCE = 50  # of guests, that are built without letting other requests in between
RETRY_S = 5.0


async def departures_of_guests(pool: Pool, room: Room) -> list[Draft]:
    """The events by which all guests of this node leave a room.

    "If the m.room.guest_access event is changed to stop this from being the case, the server MUST set those
    users' m.room.member state to leave."
    """
    return [
        Draft(sender=guest, type=MEMBER, state_key=guest, content={"membership": "leave"})
        for guest in await fetch_guests(pool, room.local_members)
    ]


class GuestDepartures:
    """Follows the commit log. ``count_dropped`` is called for what the queue had no place for."""

    def __init__(self, pool: Pool, rooms: Rooms, count_dropped: Callable[[], None]) -> None:
        self._pool = pool
        self._rooms = rooms
        self._count_dropped = count_dropped
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._something = asyncio.Event()

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def follow(self, changes: Sequence[Change]) -> None:
        """Note rooms that were closed to guests; a subscriber of the commit log."""
        for change in changes:
            if not isinstance(change, RoomEventChange):
                continue
            room, event = change.room, change.event
            closed = _closes(event) and not room.is_local(event.sender)
            if change.merge is not None:
                closed = closed or any(_closes(state) for state in change.merge.state)
            if closed and room.local_members and not room.guests_can_join:
                self._waiting[room.room_id] = None
                if len(self._waiting) > WAITING_MAX:
                    self._waiting.popitem(last=False)
                    self._count_dropped()
                self._something.set()

    async def run(self) -> None:
        """Have the guests leave, for ever: a background task."""
        while True:
            await self._something.wait()
            self._something.clear()
            for room_id in list(self._waiting):
                self._waiting.pop(room_id, None)
                try:
                    await self._empty(room_id)
                except Unavailable:
                    self._waiting[room_id] = None
                except MatrixError as cause:
                    log.info("guests not taken out", room_id=room_id, errcode=cause.errcode)
            if self._waiting:
                await asyncio.sleep(RETRY_S)
                self._something.set()

    async def _empty(self, room_id: str) -> None:
        room = await self._rooms.get(room_id)
        if room.guests_can_join:  # again
            return
        departures = await departures_of_guests(self._pool, room)
        for start in range(0, len(departures), DEPARTURES_AT_ONCE):
            await self._rooms.send_all(room_id, departures[start : start + DEPARTURES_AT_ONCE])


def _closes(event: Event) -> bool:
    return event.type == GUEST_ACCESS and event.state_key == ""
