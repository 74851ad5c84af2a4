"""A room's state at an event, and what authorises events, as other servers are told of them.

Serves `getRoomState`, `getRoomStateIds`, `getEventAuth`, and the answer to a join: `state_before`, then
`auth_chain_ids`, then `encoded` for the events' bytes as they are stored, spliced into the answer without
being read. Rooms with ten thousand members cost a few queries of bounded size, between which others get
their turn. Source: Server-Server API, "Retrieving events", "Joining Rooms".
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from homeserver.errors import NotFound
from homeserver.rooms.auth_chains import AuthChains
from homeserver.rooms.event import FLAG_OUTLIER, FLAG_REJECTED, Event
from homeserver.rooms.room import Room
from homeserver.rooms.snapshot_reader import SnapshotReader, State
from homeserver.storage import received_events as sql
from homeserver.storage.connection import Pool

EVENTS_PER_QUERY = 1000


@dataclass(frozen=True, slots=True)
class RoomStateAnswers:
    """Reads what is durable: what is being committed is not answered for."""

    pool: Pool
    snapshots: SnapshotReader
    chains: AuthChains

    async def event(self, room: Room, event_id: str) -> Event:
        """An event of the room, outliers included. Raises NotFound."""
        rows = await sql.known(self.pool, room.nid, [event_id])
        if not rows:
            raise NotFound("There is no such event in the room")
        return Event.of_row(rows[0])

    async def state_before(self, room: Room, event_id: str) -> State:
        """The state before an event. Raises NotFound, also where that state is not known here, or the event
        is rejected: nothing is told on the strength of what should not be."""
        event = await self.event(room, event_id)
        if event.flags & (FLAG_OUTLIER | FLAG_REJECTED) or event.snapshot < 0:
            raise NotFound("The state at this event is not known to this server")
        return await self.snapshots.at_snapshot(room, event.snapshot)

    async def auth_chain_ids(self, room: Room, event_ids: Collection[str]) -> list[str]:
        """All that authorises these events, and what authorises that; they themselves only if they
        authorise others of them. Raises Unavailable where the room's state has too long a history."""
        return await self.chains.behind(room, event_ids)

    async def encoded(self, room: Room, event_ids: Sequence[str]) -> list[bytes]:
        """Events as they were signed, or redacted. Those that are not known are left out."""
        found: list[bytes] = []
        for start in range(0, len(event_ids), EVENTS_PER_QUERY):
            rows = await sql.known(self.pool, room.nid, event_ids[start : start + EVENTS_PER_QUERY])
            found += (row["json"] for row in rows)
            await asyncio.sleep(0)
        return found


def ids_of(state: State) -> list[str]:
    """The ids of a state's events."""
    return [event.event_id for event in state.values()]


def json_list(events: Iterable[bytes]) -> bytes:
    """A JSON list of events that are JSON already."""
    return b"[" + b",".join(events) + b"]"
