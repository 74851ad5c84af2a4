"""Events that users schedule: sent after a delay, unless they are cancelled or the delay is restarted.

Clients use it to leave a call when they are gone: the leaving is scheduled, and put off again and again while
they are there. Source: MSC4140, as Element Call uses it; Synapse's form where the proposal is newer.

What is scheduled is stored before it is answered for. What is due is sent the way that it would have been
sent at that moment, by the sender's rights as they are then, and deleted afterwards. A node that is killed in
between sends it again at its next start: a message has the delay id as its transaction id, so it is the same
event; of state it is looked up whether it is there already.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice

import orjson
import structlog

from federation.event import JsonObject
from homeserver.clock import Clock, now_ms
from homeserver.config.node import LimitsConfig
from homeserver.errors import (
    DelayTooLong,
    InvalidParam,
    LimitExceeded,
    MatrixError,
    NotFound,
    TooLarge,
    UserSuspended,
)
from homeserver.keyed_locks import KeyedLocks
from homeserver.requester import Requester
from homeserver.rooms.event import Event
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.sending import TXN_ID_BYTES_MAX, Sending
from homeserver.rooms.state_setting import StateSetting
from homeserver.storage import delayed_events as sql
from homeserver.storage.accounts import lock_account
from homeserver.storage.connection import Pool
from homeserver.storage.delayed_events import DelayedEventRow
from homeserver.supervisor import Supervisor

log = structlog.get_logger()

DELAY_ID_BYTES = 18  # random: whoever knows the id may restart, send or cancel the event
CONTENT_BYTES_MAX = 65_536  # of an event as a whole (Client-Server API, "Size limits")
BATCH = 100  # looked at together
ROOMS_AT_ONCE = 50
NEWER_STATE_MAX = 20  # looked at, to see whether somebody else has set the state since
RETRY_AFTER_MS = 1000  # what could not be stored
POSTPONED_MS = 30_000  # what failed for a reason of our own
WAIT_MAX_S = 60.0
GONE = "There is no such delayed event: it was sent, cancelled, or never scheduled"


@dataclass(frozen=True, slots=True)
class DelayedEvents:
    """The scheduled events of all users."""

    pool: Pool
    rooms: Rooms
    sending: Sending
    state_setting: StateSetting
    limits: LimitsConfig
    supervisor: Supervisor
    clock: Clock = now_ms
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    busy_rooms: set[int] = field(default_factory=set)
    """Numbers of the rooms into which something is being sent, which may take as long as other servers do."""
    locks: KeyedLocks[str] = field(default_factory=KeyedLocks)
    """By delay id: who cancels an event is told so only if it will not be sent."""

    async def schedule(
        self,
        requester: Requester,
        room_id: str,
        event_type: str,
        content: JsonObject,
        delay_ms: int,
        *,
        state_key: str | None = None,
        txn_id: str | None = None,
    ) -> str:
        """The delay id of an event to be sent in ``delay_ms``; durable when this returns.

        With the transaction id of one that waits already, that one. Raises Forbidden, InvalidParam, TooLarge,
        DelayTooLong, LimitExceeded, UserSuspended.
        """
        if requester.is_suspended:
            raise UserSuspended("Your account is suspended: you cannot send events")
        if not event_type:
            raise InvalidParam("An event type is not empty")
        if txn_id is not None and not 1 <= len(txn_id.encode()) <= TXN_ID_BYTES_MAX:
            raise InvalidParam(f"A transaction id has 1 to {TXN_ID_BYTES_MAX} bytes")
        longest_ms = self.limits.delayed_event_max_ms
        if delay_ms > longest_ms:
            raise DelayTooLong(f"An event can be delayed by {longest_ms} ms at most", longest_ms)
        encoded = orjson.dumps(content)
        if len(encoded) > CONTENT_BYTES_MAX:
            raise TooLarge(f"An event may have {CONTENT_BYTES_MAX} bytes at most")
        room = await self.rooms.get_joined(room_id, requester.user_id)
        async with self.pool.acquire() as connection, connection.transaction():
            await lock_account(connection, requester.user_nid)
            count, next_ms = await sql.fetch_use(connection, requester.user_nid)
            if txn_id is not None:
                known = await sql.fetch_of_transaction(
                    connection, requester.device_nid, txn_id, room.nid, event_type
                )
                if known is not None:
                    return known
            now = self.clock()
            if count >= self.limits.delayed_events_per_user:
                raise LimitExceeded(max(1, (next_ms or now) - now))
            delay_id = secrets.token_urlsafe(DELAY_ID_BYTES)
            await sql.insert(
                connection,
                send_at_ms=now + delay_ms,
                started_ms=now,
                position=self.rooms.position,
                user_nid=requester.user_nid,
                device_nid=requester.device_nid,
                room_nid=room.nid,
                delay_id=delay_id,
                event_type=event_type,
                state_key=state_key,
                txn_id=txn_id,
                content=encoded,
            )
        self.changed.set()
        return delay_id

    async def all(self, requester: Requester) -> list[JsonObject]:
        """What the user has scheduled, the next one first."""
        rows = await sql.fetch_of_user(self.pool, requester.user_nid)
        return [_describe(row) for row in rows if not await self._is_overtaken(row)]

    async def one(self, requester: Requester, delay_id: str) -> JsonObject:
        """One of what the user has scheduled. Raises NotFound."""
        row = await sql.fetch_one(self.pool, delay_id)
        if row is None or row.user_nid != requester.user_nid or await self._is_overtaken(row):
            raise NotFound(GONE)
        return _describe(row)

    async def cancel(self, delay_id: str) -> None:
        """Never send it. Raises NotFound."""
        async with self.locks.hold(delay_id):
            row = await self._waiting(delay_id)
            await sql.delete(self.pool, [row.nid])

    async def restart(self, delay_id: str) -> None:
        """Let its delay begin again. Raises NotFound."""
        async with self.locks.hold(delay_id):
            row = await self._waiting(delay_id)
            await sql.restart(self.pool, row.nid, self.clock())

    async def send(self, delay_id: str) -> None:
        """Send it now. Raises NotFound, and whatever sending it raises; then it is gone all the same."""
        async with self.locks.hold(delay_id):
            row = await self._waiting(delay_id)
            # Due from now on, should the node be killed meanwhile.
            await sql.set_time(self.pool, row.nid, self.clock())
            try:
                await self._send(row)
            except MatrixError as refusal:
                if _may_work_later(refusal):
                    raise
                await sql.delete(self.pool, [row.nid])
                raise
            await sql.delete(self.pool, [row.nid])

    async def run(self) -> None:
        """Send what is due, for ever: rooms beside each other, within a room in order."""
        while True:
            self.changed.clear()
            free = ROOMS_AT_ONCE - len(self.busy_rooms)
            due = await sql.fetch_due(self.pool, self.clock(), self.busy_rooms, BATCH) if free else []
            if due:
                in_order = sorted(due, key=lambda row: row.room_nid)  # a stable sort
                for _, rows in islice(groupby(in_order, lambda row: row.room_nid), free):
                    self._begin(list(rows))
                continue
            next_ms = await sql.fetch_next_ms(self.pool, self.busy_rooms) if free else None
            wait_s = WAIT_MAX_S if next_ms is None else min(WAIT_MAX_S, (next_ms - self.clock()) / 1000)
            try:
                await asyncio.wait_for(self.changed.wait(), max(0.0, wait_s))
            except TimeoutError:
                pass

    def _begin(self, rows: Sequence[DelayedEventRow]) -> None:
        self.busy_rooms.add(rows[0].room_nid)
        job = self._send_in_room(rows)
        try:
            self.supervisor.run_once("delayed events of a room", job)
        except BaseException:
            self.busy_rooms.discard(rows[0].room_nid)
            raise

    async def _send_in_room(self, rows: Sequence[DelayedEventRow]) -> None:
        try:
            for row in rows:
                async with self.locks.hold(row.delay_id):
                    await self._send_one_due(row.delay_id)
        finally:
            self.busy_rooms.discard(rows[0].room_nid)
            self.changed.set()

    async def _send_one_due(self, delay_id: str) -> None:
        row = await sql.fetch_one(self.pool, delay_id)
        if row is None or row.send_at_ms > self.clock():  # cancelled or restarted meanwhile
            return
        try:
            if not await self._is_overtaken(row):
                await self._send(row)
        except MatrixError as refusal:
            if _may_work_later(refusal):
                await sql.set_time(self.pool, row.nid, self.clock() + RETRY_AFTER_MS)
                return
            log.info("delayed event refused", user_id=row.user_id, room_id=row.room_id, error=refusal.message)
        except Exception:
            log.exception("delayed event failed", user_id=row.user_id, room_id=row.room_id)
            await sql.set_time(self.pool, row.nid, self.clock() + POSTPONED_MS)
            return
        await sql.delete(self.pool, [row.nid])

    async def _waiting(self, delay_id: str) -> DelayedEventRow:
        row = await sql.fetch_one(self.pool, delay_id)
        if row is None:
            raise NotFound(GONE)
        if await self._is_overtaken(row):
            await sql.delete(self.pool, [row.nid])
            raise NotFound(GONE)
        return row

    async def _is_overtaken(self, row: DelayedEventRow) -> bool:
        """Whether its state was set by somebody else since, which cancels it; or this very event was sent."""
        if row.state_key is None:
            return False
        newer = await sql.fetch_newer_state(
            self.pool, row.room_nid, row.type, row.state_key, row.position, NEWER_STATE_MAX
        )
        return any(_overtakes(Event.of_row(event), row) for event in newer)

    async def _send(self, row: DelayedEventRow) -> None:
        requester = Requester(
            user_id=row.user_id,
            user_nid=row.user_nid,
            device_id="",  # it may be gone, as the user is
            device_nid=row.device_nid,
            token_nid=0,
            is_guest=row.is_guest,
            is_suspended=row.is_suspended,
        )
        content = orjson.loads(row.content)
        if row.state_key is None:
            await self.sending.send(requester, row.room_id, row.type, row.delay_id, content)
        else:
            await self.state_setting.put(requester, row.room_id, row.type, row.state_key, content)


def _overtakes(event: Event, row: DelayedEventRow) -> bool:
    if event.sender != row.user_id:
        return True
    return event.origin_server_ts >= row.send_at_ms and event.content == orjson.loads(row.content)


def _may_work_later(refusal: MatrixError) -> bool:
    return refusal.status >= 500 or isinstance(refusal, LimitExceeded)


def _describe(row: DelayedEventRow) -> JsonObject:
    described: JsonObject = {
        "delay_id": row.delay_id,
        "room_id": row.room_id,
        "type": row.type,
        "content": orjson.loads(row.content),
        "delay_ms": row.delay_ms,
        "delayed_since_ts": row.started_ms,
        # As these were called before, and clients still call them:
        "delay": row.delay_ms,
        "running_since": row.started_ms,
    }
    if row.state_key is not None:
        described["state_key"] = row.state_key
    return described
