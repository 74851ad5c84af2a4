"""Events that refer to what is not known here: kept until that is fetched, or given up.

Each was answered for to its sender, so it is durable (`inbound_events`) and survives restarts. One worker a
room at a time, some rooms side by side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from random import Random

import orjson
import structlog

from federation.backoff import Backoffs
from federation.event import PDU, parse_pdu
from homeserver.clock import Clock, now_ms
from homeserver.commit_log.committer import ChainBroken
from homeserver.errors import NotFound, Unavailable
from homeserver.federating.gap_filling import Filled, GapFilling
from homeserver.federating.room_access import is_followed
from homeserver.rooms.receiving import Outcome, Result, encoded
from homeserver.rooms.room import Room
from homeserver.rooms.rooms import Rooms
from homeserver.storage import inbound_events as sql
from homeserver.storage.connection import Pool, Row
from homeserver.supervisor import Supervisor, TooManyJobs

log = structlog.get_logger()

OF_ROOM_MAX = 2_000
IN_ALL_MAX = 40_000
PLACE_MADE = 200  # more than is needed, so that the next events need not make place again
AT_ONCE = 100  # events of a room that are worked on together
ROOMS_AT_ONCE = 16
FILL_TIMEOUT_S = 120.0  # that a room is worked on
ATTEMPTS_MAX = 12
KEPT_MIN_MS = 3600 * 1000  # however often it was tried meanwhile, since others came
PATIENCE_MS = 600 * 1000  # that all of a state is waited for: a server may just be away, with its keys


class WaitingEvents:
    """Keeps events and has them worked on. ``count_event`` is told what became of each in the end."""

    def __init__(
        self,
        pool: Pool,
        rooms: Rooms,
        filling: GapFilling,
        supervisor: Supervisor,
        *,
        count_event: Callable[[str], None],
        clock: Clock = now_ms,
    ) -> None:
        self._pool = pool
        self._rooms = rooms
        self._filling = filling
        self._supervisor = supervisor
        self._count_event = count_event
        self._clock = clock
        self._random = Random()
        self._counts: dict[int, int] = {}  # of events, by room
        self._due: dict[int, int] = {}  # by room, when it is worked on next
        self._wanted: dict[int, set[str]] = {}  # by room, what those that wait refer to, known or not
        self._working: set[int] = set()
        self._backoffs = Backoffs()
        self._wake = asyncio.Event()

    @property
    def count(self) -> int:
        """How many events wait."""
        return sum(self._counts.values())

    async def add(self, room: Room, origin: str, pdus: Sequence[PDU]) -> bool:
        """Keep events, which are durable then. False if there are too many already."""
        excess = self._counts.get(room.nid, 0) + len(pdus) - OF_ROOM_MAX
        if excess > 0 and not await self._make_place(room.nid, excess):
            return False
        if self.count + len(pdus) > IN_ALL_MAX:
            return False
        events = [(pdu.event_id, encoded(pdu)) for pdu in pdus]
        new = await sql.store(self._pool, room.nid, self._clock(), origin, events)
        if new:
            self._counts[room.nid] = self._counts.get(room.nid, 0) + new
            self._want(room.nid, pdus)
            self._do(room.nid, self._clock())
        return True

    async def _make_place(self, room_nid: int, needed: int) -> bool:
        """Let go of events of a room that is full; False if that does not do.

        First of those that the newest lead back to: after a long absence they come faster than they can be
        worked on, and are fetched when it is the newest ones' turn. Then of those for which was looked in
        vain: so nobody can fill it for good.
        """
        gone = await sql.remove_cited(self._pool, room_nid, needed + PLACE_MADE)
        if gone < needed:
            given_up = await sql.remove_most_tried(self._pool, room_nid, needed - gone)
            for _ in range(given_up):
                self._count_event("given_up")
            gone += given_up
        self._counts[room_nid] -= gone
        return gone >= needed

    def something_came(self, room_nid: int, event_ids: Iterable[str]) -> None:
        """Events of a room were taken in: some may have waited for them."""
        wanted = self._wanted.get(room_nid)
        if wanted is not None and not wanted.isdisjoint(event_ids):
            self._do(room_nid, self._clock())

    def _want(self, room_nid: int, pdus: Iterable[PDU]) -> None:
        """Note what events that wait refer to."""
        wanted = self._wanted.setdefault(room_nid, set())
        for pdu in pdus:
            wanted.update(pdu.prev_events, pdu.auth_events)

    def _do(self, room_nid: int, at_ms: int) -> None:
        self._due[room_nid] = min(at_ms, self._due.get(room_nid, at_ms))
        self._wake.set()

    async def run(self) -> None:
        """Start the work that is due, for ever: a background task."""
        for row in await sql.counts(self._pool):
            self._counts[row["room_nid"]] = row["count"]
            self._due.setdefault(row["room_nid"], 0)
        while True:
            self._wake.clear()
            wait_s = self._start_due()
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _start_due(self) -> float | None:
        """Start what is due; the seconds until the next is, None if nothing is known to come."""
        now = self._clock()
        for room_nid in sorted(self._due, key=self._due.__getitem__):
            if self._due[room_nid] > now or len(self._working) >= ROOMS_AT_ONCE:
                break
            if room_nid in self._working:
                continue
            try:
                self._supervisor.run_once("missing events", self._work(room_nid))
            except TooManyJobs:
                self._due[room_nid] = now + 1000
                break
            self._working.add(room_nid)
            del self._due[room_nid]
        waiting = [due for nid, due in self._due.items() if nid not in self._working]
        if not waiting or len(self._working) >= ROOMS_AT_ONCE:
            return None  # whoever ends wakes us
        return max(0, min(waiting) - now) / 1000

    async def _work(self, room_nid: int) -> None:
        """Work on the events of a room until none is left, or none gets any further."""
        progress = False
        try:
            while rows := await sql.oldest(self._pool, room_nid, AT_ONCE):
                settled = await self._try(room_nid, rows)
                progress = progress or settled
                if not settled:
                    break
            else:
                self._counts.pop(room_nid, None)
                self._wanted.pop(room_nid, None)
        except (ChainBroken, Unavailable) as cause:  # others were faster
            log.info("missing events wait", cause=repr(cause))
        finally:
            self._working.discard(room_nid)
            key = str(room_nid)
            if progress or room_nid not in self._counts:
                self._backoffs.succeeded(key)
            if room_nid in self._counts:
                failed = self._backoffs.failed(key, self._clock(), self._random.random())
                self._do(room_nid, failed.retry_at_ms)
            self._wake.set()

    async def _try(self, room_nid: int, rows: Sequence[Row]) -> bool:
        """Try some events; whether something became of one of them."""
        try:
            room = await self._rooms.get_by_nid(room_nid)
        except NotFound:
            room = None
        if room is None or not is_followed(room):
            gone = await sql.remove_of_room(self._pool, room_nid)
            log.info("waiting events dropped: nobody here is in the room", count=gone)
            return True
        version = room.version
        pdus = {
            row["event_id"]: parse_pdu(orjson.loads(row["json"]), version, event_id=row["event_id"])
            for row in rows
        }
        self._want(room_nid, pdus.values())
        patient = self._clock() < min(row["received_ms"] for row in rows) + PATIENCE_MS
        try:
            async with asyncio.timeout(FILL_TIMEOUT_S):
                filled = await self._filling.fill(
                    room, [row["origin"] for row in rows], list(pdus.values()), patient=patient
                )
        except TimeoutError:  # somebody answers slowly: others get their turn
            missing = {id: Result(id, Outcome.MISSING) for id in pdus}
            filled = Filled(missing, ())
        settled: list[int] = []
        tried: list[int] = []
        given_up: list[int] = []
        for row in rows:
            outcome = filled.results[row["event_id"]].outcome
            if outcome is not Outcome.MISSING:
                self._count_event(outcome.value)
                settled.append(row["nid"])
            elif row["event_id"] in filled.hopeless or self._is_over(row):
                self._count_event("given_up")
                given_up.append(row["nid"])
            else:
                tried.append(row["nid"])
        if given_up:
            log.warning("events given up: what they refer to is not to be had", count=len(given_up))
        gone = await sql.remove(self._pool, settled + given_up)
        await sql.count_attempt(self._pool, tried)
        self._counts[room_nid] = self._counts.get(room_nid, 0) - gone
        return bool(settled)

    def _is_over(self, row: Row) -> bool:
        """Whether an event was tried often enough, and for long enough."""
        received_ms, attempts = int(row["received_ms"]), int(row["attempts"])
        return attempts + 1 >= ATTEMPTS_MAX and self._clock() >= received_ms + KEPT_MIN_MS
