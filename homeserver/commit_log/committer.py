"""Group commit: all that is queued goes into one transaction. See README.md."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import getrandbits

import asyncpg
import structlog

from homeserver.commit_log.change import Chain, Change
from homeserver.errors import Unavailable
from homeserver.storage.connection import Pool, PooledConnection
from homeserver.storage.database import Database

log = structlog.get_logger()

BATCH_CHANGES_MAX = 1000
QUEUE_CHANGES_MAX = 10_000
RECONNECT_SECONDS_MAX = 5.0
CONNECTION_LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)

READ_STREAM = "SELECT position, batch FROM stream"
LOCK_STREAM = "SELECT position FROM stream FOR UPDATE"


class ChainBroken(Exception):
    """Something that these changes were built on was not written; read it again and build anew."""


class BatchUnknown(Exception):
    """The connection broke while committing, and it cannot be told whether the batch is stored."""


@dataclass(slots=True, eq=False)
class Unit:
    """Changes that are written together or not at all."""

    changes: Sequence[Change]
    chain: Chain | None
    future: asyncio.Future[None]

    def fail(self, cause: Exception) -> None:
        if self.chain is not None:
            self.chain.stale = True
        if not self.future.done():
            self.future.set_exception(cause)


@dataclass(slots=True)
class CommitterMetrics:
    """What the node's metrics show of the committer."""

    observe_batch: Callable[[int, float], None]  # changes, seconds
    set_queue_length: Callable[[int], None]
    count_failure: Callable[[], None]


class Committer:
    """Writes what is submitted, batch after batch, on a connection of its own."""

    def __init__(
        self,
        database: Database,
        position: int,
        metrics: CommitterMetrics,
        *,
        queue_max: int = QUEUE_CHANGES_MAX,
    ) -> None:
        self.position = position
        self.on_durable: Callable[[Sequence[Change]], None] = lambda changes: None
        self._database = database
        self._metrics = metrics
        self._queue_max = queue_max
        self._queue: deque[Unit] = deque()
        self._queued_changes = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False

    def submit(self, changes: Sequence[Change], chain: Chain | None) -> asyncio.Future[None]:
        """Queue a unit. Raises Unavailable when the queue is full or the node is stopping."""
        if self._stopping or self._queued_changes > self._queue_max:
            raise Unavailable("The server cannot store more at the moment: try again in a few seconds")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(Unit(changes, chain, future))
        self._queued_changes += len(changes)
        self._idle.clear()
        self._wake.set()
        return future

    async def drain(self) -> None:
        """Take nothing more in, and wait until all that was taken is written."""
        self._stopping = True
        await self._idle.wait()

    async def run(self) -> None:
        """Write batches for ever."""
        connection: PooledConnection | None = None
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._wake.wait()
                units = self._take()
                if not units:
                    continue
                self._metrics.set_queue_length(self._queued_changes)
                started = loop.time()
                connection = await self._write(connection or await self._connect(), units)
                self._metrics.observe_batch(sum(len(unit.changes) for unit in units), loop.time() - started)
                if not self._queue:
                    self._idle.set()
        finally:
            if connection is not None:
                await self._database.pool.release(connection)

    def _take(self) -> list[Unit]:
        """The next batch; at least one unit if there are any."""
        units: list[Unit] = []
        count = 0
        while self._queue and (not units or count + len(self._queue[0].changes) <= BATCH_CHANGES_MAX):
            unit = self._queue.popleft()
            count += len(unit.changes)
            units.append(unit)
        self._queued_changes -= count
        if not self._queue:
            self._wake.clear()
        return units

    async def _connect(self, broken: PooledConnection | None = None) -> PooledConnection:
        """A connection, however long the database is away; `broken` is given back."""
        pool = self._database.pool
        if broken is not None:
            broken.terminate()
            await pool.release(broken)
        delay = 0.05
        while True:
            try:
                return await pool.acquire()
            except CONNECTION_LOST as cause:
                log.warning("database not reached", cause=repr(cause), retry_seconds=delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, RECONNECT_SECONDS_MAX)

    async def _write(self, connection: PooledConnection, units: list[Unit]) -> PooledConnection:
        """Write units together, or one by one where that fails; the connection to go on with."""
        units = [unit for unit in units if not _refuse_stale(unit)]
        if not units:
            return connection
        try:
            connection = await self._transact(connection, units)
        except Exception as cause:  # whatever it was, it concerns these units alone
            self._metrics.count_failure()
            if connection.is_closed():
                connection = await self._connect(connection)
            if len(units) == 1 or isinstance(cause, BatchUnknown):
                for unit in units:
                    unit.fail(cause)
                return connection
            log.warning("batch failed, its units are tried one by one", units=len(units), cause=repr(cause))
            for unit in units:
                connection = await self._write(connection, [unit])
            return connection
        self._finish(units)
        return connection

    def _finish(self, units: Iterable[Unit]) -> None:
        changes = [change for unit in units for change in unit.changes]
        self.position = changes[-1].position
        try:
            self.on_durable(changes)
        finally:  # stored is stored, whatever went wrong in telling of it
            for unit in units:
                if not unit.future.done():
                    unit.future.set_result(None)

    async def _transact(self, connection: PooledConnection, units: list[Unit]) -> PooledConnection:
        """One transaction. Where the connection breaks, finds out what became of it, and tries again."""
        batch = getrandbits(63)
        while True:
            try:
                await self._attempt(connection, units, batch)
                return connection
            except CONNECTION_LOST as cause:
                if isinstance(cause, asyncpg.InterfaceError) and not connection.is_closed():
                    raise
                log.warning("connection to the database lost while committing", cause=repr(cause))
                connection = await self._connect(connection)
                [(position, last_batch)] = await connection.fetch(READ_STREAM)
                if last_batch == batch:
                    return connection
                if position != self.position:
                    self.position = position
                    raise BatchUnknown("another process wrote meanwhile") from cause

    async def _attempt(self, connection: PooledConnection, units: list[Unit], batch: int) -> None:
        by_class: dict[type[Change], list[Change]] = {}
        count = 0
        for unit in units:
            for change in unit.changes:
                by_class.setdefault(type(change), []).append(change)
                count += 1
        base = await self._begin(connection, count, batch)
        try:
            position = base
            for unit in units:
                for change in unit.changes:
                    position += 1
                    change.position = position
            for kind, changes in by_class.items():
                await kind.write(connection, changes)
            await connection.execute("COMMIT")
        except BaseException:
            if not connection.is_closed():
                await connection.execute("ROLLBACK")
            raise

    async def _begin(self, connection: PooledConnection, count: int, batch: int) -> int:
        """Open the transaction and take `count` positions; the position before the first.

        One exchange with the database where no other process has written since we did.
        """
        base = self.position
        status = await connection.execute(
            f"BEGIN; UPDATE stream SET position = {base + count}, batch = {batch} WHERE position = {base}"
        )
        if status == "UPDATE 1":
            return base
        base = int(await connection.fetchval(LOCK_STREAM))
        await connection.execute(f"UPDATE stream SET position = {base + count}, batch = {batch}")
        return base


async def read_position(pool: Pool) -> int:
    """Where the log ends."""
    [(position, _)] = await pool.fetch(READ_STREAM)
    return int(position)


def _refuse_stale(unit: Unit) -> bool:
    if unit.chain is not None and unit.chain.stale:
        unit.fail(ChainBroken())
        return True
    return False
