"""Where a room's history here ends though others have more of it.

A gap is a prev event that is not here. It is noted in the same transaction as the event that names it, and
closed with what fills it. Whoever pages back to one may have it filled (`EarlierHistory`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Protocol, Self

from homeserver.rooms.event import Event
from homeserver.rooms.room import Room
from homeserver.storage import history_gaps as sql
from homeserver.storage.connection import Connection


class Earlier(Enum):
    """What came of fetching history from others."""

    NOTHING = "nothing is known to be missing"
    FETCHED = "there is more now than before"
    UNREACHED = "something is missing, and nobody has it at the moment"


class EarlierHistory(Protocol):
    """Fetches history from other servers: `homeserver.federating.backfilling`."""

    async def fetch(self, room: Room, upto: int, down_to: int) -> Earlier:
        """Fill what is missing between two depths, some of it, the newest first."""
        ...

    async def fetch_nearer(self, room: Room, ts: int, than: Event | None, *, forwards: bool) -> bool:
        """Fetch an event that is nearer to a time than one that is here; whether there is one now."""
        ...


class NoEarlierHistory:
    """For engines that have no other servers to ask."""

    async def fetch(self, room: Room, upto: int, down_to: int) -> Earlier:
        return Earlier.NOTHING

    async def fetch_nearer(self, room: Room, ts: int, than: Event | None, *, forwards: bool) -> bool:
        return False


@dataclass(slots=True, eq=False)
class GapsChange:
    """Gaps of a room that open, as (depth of who names the missing event, its id), and those that close."""

    of_room: int
    opened: Sequence[tuple[int, str]]
    closed: Sequence[str] = ()
    position: int = 0
    is_visible: ClassVar[bool] = False

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[Self]) -> None:
        closed = [(change.of_room, event_id) for change in changes for event_id in change.closed]
        if closed:
            await sql.close_gaps(connection, closed)
        depths: dict[tuple[int, str], int] = {}  # a row can be written once a statement
        for change in changes:
            for depth, event_id in change.opened:
                key = change.of_room, event_id
                depths[key] = max(depth, depths.get(key, depth))
        if depths:
            await sql.open_gaps(connection, [(nid, depth, id) for (nid, id), depth in depths.items()])
