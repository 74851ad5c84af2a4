"""History from before this node was in a room, or from while it was away: fetched when somebody pages back.

Source: Server-Server API, "Backfilling and retrieving missing events"; `getEventByTimestamp`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from federation.transport.errors import RequestFailed
from homeserver.clock import Clock, now_ms
from homeserver.commit_log.committer import ChainBroken
from homeserver.errors import NotFound, Unavailable
from homeserver.federating.event_fetching import EventFetching, RoomName
from homeserver.federating.gap_filling import GapFilling, connected
from homeserver.federating.room_access import is_followed
from homeserver.keyed_locks import KeyedLocks
from homeserver.rooms.event import Event
from homeserver.rooms.history_gaps import Earlier
from homeserver.rooms.room import Room
from homeserver.rooms.rooms import Rooms
from homeserver.storage import history_gaps as sql
from homeserver.storage.connection import Pool, Row

log = structlog.get_logger()

PAGE = 100  # events asked for at once
GAPS_MAX = 20  # filled at once
SERVERS_MAX = 3
DEADLINE_S = 25.0  # of a client that waits for its page
NEAREST_DEADLINE_S = 8.0


@dataclass(frozen=True, slots=True)
class Backfilling:
    """A room's history by pages, for one reader of the room at a time. See `EarlierHistory`."""

    pool: Pool
    rooms: Rooms
    fetching: EventFetching
    filling: GapFilling
    clock: Clock = now_ms
    locks: KeyedLocks[int] = field(default_factory=KeyedLocks)

    async def fetch(self, room: Room, upto: int, down_to: int) -> Earlier:
        """See `EarlierHistory`. Rooms without other servers cost nothing."""
        if not room.remote_servers or not is_followed(room):
            return Earlier.NOTHING
        gaps = await self._gaps(room, upto, down_to)
        if not gaps:
            return Earlier.NOTHING
        missing: list[str] = []
        try:
            async with asyncio.timeout(DEADLINE_S), self.locks.hold(room.nid):
                # The layers of the states that this stores are not to be taken for those that lack members.
                room = await self.rooms.whole(room.room_id)
                await sql.close_placed(self.pool, room.nid)
                remaining = await self._gaps(room, upto, down_to)
                if remaining != gaps:
                    return Earlier.FETCHED  # by who was here before us
                missing = [row["event_id"] for row in gaps if row["retry_at_ms"] <= self.clock()]
                if missing and await self._fill(room, missing):
                    return Earlier.FETCHED
        except (ChainBroken, Unavailable, NotFound) as cause:
            log.info("history not fetched", room_id=room.room_id, cause=repr(cause))
        except TimeoutError:
            log.info("history not had in time", room_id=room.room_id)
            await sql.failed(self.pool, room.nid, missing, self.clock())  # so that nobody waits for it again
        return Earlier.UNREACHED

    async def _gaps(self, room: Room, upto: int, down_to: int) -> list[Row]:
        return await sql.highest(self.pool, room.nid, upto, down_to, GAPS_MAX)

    async def _fill(self, room: Room, missing: Sequence[str]) -> bool:
        """Ask one server after another for missing events and what is before them; whether any came."""
        name = RoomName(room.room_id, room.version)
        for server in self.filling.servers(room)[:SERVERS_MAX]:
            try:
                found = connected(missing, await self.fetching.backfill(server, name, missing, PAGE))
            except RequestFailed as failure:
                log.info("history not had", server=server, cause=str(failure))
                continue
            if found and await self.filling.place_history(room, server, found):
                lacking = [event_id for event_id in missing if event_id not in found]
                if lacking:
                    await sql.failed(self.pool, room.nid, lacking, self.clock())
                return True
        await sql.failed(self.pool, room.nid, missing, self.clock())
        return False

    async def fetch_nearer(self, room: Room, ts: int, than: Event | None, *, forwards: bool) -> bool:
        """See `EarlierHistory`: asked only where history is known to be missing."""
        if not room.remote_servers or not is_followed(room) or not await sql.has_any(self.pool, room.nid):
            return False
        if room.partial_servers is not None:
            return False  # see `fetch`: nobody waits here for all the members of a room
        name = RoomName(room.room_id, room.version)
        for server in self.filling.servers(room)[:SERVERS_MAX]:
            try:
                async with asyncio.timeout(NEAREST_DEADLINE_S):
                    event_id, found_ts = await self.fetching.nearest(
                        server, room.room_id, ts, forwards=forwards
                    )
                    if not _is_nearer(ts, found_ts, than, forwards=forwards):
                        continue
                    pdu = await self.fetching.event(server, name, event_id)
                    if pdu is None or not _is_nearer(ts, pdu.origin_server_ts, than, forwards=forwards):
                        continue
                    async with self.locks.hold(room.nid):
                        return await self.filling.place_history(room, server, {pdu.event_id: pdu})
            except (RequestFailed, TimeoutError, ChainBroken, Unavailable) as cause:
                log.info("no nearer event had", server=server, cause=repr(cause))
        return False


def _is_nearer(ts: int, found_ts: int, than: Event | None, *, forwards: bool) -> bool:
    if forwards:
        return found_ts >= ts and (than is None or found_ts < than.origin_server_ts)
    return found_ts <= ts and (than is None or found_ts > than.origin_server_ts)
