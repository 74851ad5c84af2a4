"""What other servers may ask about a room's events.

Source: Server-Server API, "Backfilling and retrieving missing events", "Retrieving events", "Retrieving event
authorization information". Answers are JSON bytes, bounded, and only for servers that are in the room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from federation.errors import BadIdentifier
from federation.identifiers import check_event_id
from homeserver.clock import Clock, now_ms
from homeserver.errors import InvalidParam, NotFound
from homeserver.federating.room_access import RoomAccess
from homeserver.federating.room_state_answers import RoomStateAnswers, ids_of, json_list
from homeserver.federating.server_visibility import ServerVisibility
from homeserver.rooms.event import Event
from homeserver.rooms.room import Room
from homeserver.rooms.rooms import Rooms
from homeserver.storage import event_graph, history
from homeserver.storage import events as event_sql
from homeserver.storage.connection import Pool

BACKFILL_MAX = 100
MISSING_MAX = 100
EVENT_IDS_MAX = 100  # named in one question
TIME_PAGE = 20
TIME_ROUNDS_MAX = 10
NID_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class EventAnswers:
    """Answers for what is stored here; nobody else is asked."""

    server_name: str
    pool: Pool
    rooms: Rooms
    access: RoomAccess
    states: RoomStateAnswers
    visibility: ServerVisibility
    clock: Clock = now_ms

    async def event(self, origin: str, event_id: str) -> bytes:
        """`getEvent`. Raises NotFound, Forbidden."""
        _check_ids([event_id])
        rows = await event_sql.by_ids(self.pool, [event_id])
        if not rows:
            raise NotFound("This server does not have the event")
        event = Event.of_row(rows[0])
        room = await self.access.open((await self.rooms.get_by_nid(event.room_nid)).room_id, origin)
        return self._transaction(await self.visibility.encoded(room, origin, [event]))

    async def state(self, origin: str, room_id: str, event_id: str) -> bytes:
        """`getRoomState`: the state before an event, and its auth chain. Raises NotFound, Forbidden."""
        room, state_ids, chain_ids = await self._state_ids(origin, room_id, event_id)
        pdus = await self.states.encoded(room, state_ids)
        chain = await self.states.encoded(room, chain_ids)
        return b'{"auth_chain":%b,"pdus":%b}' % (json_list(chain), json_list(pdus))

    async def state_ids(self, origin: str, room_id: str, event_id: str) -> bytes:
        """`getRoomStateIds`: as `state`. Raises NotFound, Forbidden."""
        _, state_ids, chain_ids = await self._state_ids(origin, room_id, event_id)
        return orjson.dumps({"auth_chain_ids": chain_ids, "pdu_ids": state_ids})

    async def _state_ids(self, origin: str, room_id: str, event_id: str) -> tuple[Room, list[str], list[str]]:
        # Also at events that none of the server's users may see: who joins with `omit_members` asks for the
        # state at the event before the join, and whoever fills a gap for that at the events in it.
        _check_ids([event_id])
        room = await self.access.open(room_id, origin)
        state_ids = ids_of(await self.states.state_before(room, event_id))
        return room, state_ids, await self.states.auth_chain_ids(room, state_ids)

    async def event_auth(self, origin: str, room_id: str, event_id: str) -> bytes:
        """`getEventAuth`: the auth chain of an event. Raises NotFound, Forbidden."""
        _check_ids([event_id])
        room = await self.access.open(room_id, origin)
        event = await self.states.event(room, event_id)
        ids = await self.states.auth_chain_ids(room, [event.event_id])
        return b'{"auth_chain":%b}' % json_list(await self.states.encoded(room, ids))

    async def backfill(self, origin: str, room_id: str, event_ids: Sequence[str], limit: int) -> bytes:
        """`backfillRoom`: these events and what precedes them, newest first. Raises NotFound, Forbidden."""
        _check_ids(event_ids)
        room = await self.access.open(room_id, origin)
        found = await event_graph.walk_back(self.pool, room.nid, event_ids, min(limit, BACKFILL_MAX))
        events = await self._placed(room, found)
        events.reverse()
        return self._transaction(await self.visibility.encoded(room, origin, events))

    async def missing_events(
        self,
        origin: str,
        room_id: str,
        earliest: Sequence[str],
        latest: Sequence[str],
        min_depth: int,
        limit: int,
    ) -> bytes:
        """`getMissingPreviousEvents`: what precedes ``latest``, oldest first. Raises NotFound, Forbidden."""
        _check_ids(earliest)
        _check_ids(latest)
        room = await self.access.open(room_id, origin)
        limit = min(limit, MISSING_MAX)
        found = await event_graph.walk_back(
            self.pool, room.nid, latest, limit + len(latest), min_depth=min_depth, ending=earliest
        )
        wanted = [event_id for event_id in found if event_id not in set(latest)][:limit]
        events = [event for event in await self._placed(room, wanted) if event.depth >= min_depth]
        return b'{"events":%b}' % json_list(await self.visibility.encoded(room, origin, events))

    async def nearest(self, origin: str, room_id: str, ts: int, *, forwards: bool) -> bytes:
        """`getEventByTimestamp`: the closest event that the server may have. Raises NotFound, Forbidden."""
        room = await self.access.open(room_id, origin)
        nid = -NID_MAX if forwards else NID_MAX
        at = ts
        for _ in range(TIME_ROUNDS_MAX):
            rows = await history.near_time(self.pool, room.nid, at, nid, TIME_PAGE, forwards=forwards)
            events = [Event.of_row(row) for row in rows]
            visible = await self.visibility.visible(room, origin, events) if events else set()
            for event in events:
                if event.event_id in visible:
                    found = {"event_id": event.event_id, "origin_server_ts": event.origin_server_ts}
                    return orjson.dumps(found)
            if len(rows) < TIME_PAGE:
                break
            at, nid = events[-1].origin_server_ts, events[-1].nid
        raise NotFound(f"There is no event {'after' if forwards else 'before'} that time")

    async def _placed(self, room: Room, event_ids: Sequence[str]) -> list[Event]:
        """Those that stand in the room's graph, the oldest first."""
        rows = await event_graph.placed(self.pool, room.nid, event_ids)
        return sorted((Event.of_row(row) for row in rows), key=lambda event: (event.depth, event.nid))

    def _transaction(self, events: Sequence[bytes]) -> bytes:
        return b'{"origin":%b,"origin_server_ts":%d,"pdus":%b}' % (
            orjson.dumps(self.server_name),
            self.clock(),
            json_list(events),
        )


def _check_ids(event_ids: Sequence[str]) -> None:
    """Raises InvalidParam for what are no event ids, or too many."""
    if len(event_ids) > EVENT_IDS_MAX:
        raise InvalidParam(f"At most {EVENT_IDS_MAX} events can be named at once")
    for event_id in event_ids:
        try:
            check_event_id(event_id)
        except BadIdentifier as cause:
            raise InvalidParam("This is not a valid event id") from cause
