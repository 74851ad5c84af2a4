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
RECONNECT_SECONDS_MIN = 0.05
RECONNECT_SECONDS_MAX = 5.0
CONNECTION_LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server ended the session while it was idle
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)
CONFLICTS_MAX = 5  # of one batch with other transactions, of which the database ended ours
LOSSES_MAX = 5  # of the connection while one batch is written: that may be the batch's own fault

LOCK_STREAM = "SELECT position, batch FROM stream FOR UPDATE"


class ChainBroken(Exception):
    """Something that these changes were built on was not written; read it again and build anew."""


class BatchLost(Unavailable):
    """The connection broke each time that a batch was written, and it is not stored."""

    def __init__(self) -> None:
        super().__init__("The database was lost while this was being stored: try again")


class BatchUnknown(Unavailable):
    """The connection broke while committing, and it cannot be told whether the batch is stored."""

    def __init__(self) -> None:
        super().__init__("The database was lost while this was being stored: try again")


@dataclass(slots=True, eq=False)
class Unit:
    """Changes that are written together or not at all."""

    changes: Sequence[Change]
    chain: Chain | None
    future: asyncio.Future[None]
    weight: int

    def fail(self, cause: Exception) -> None:
        if self.chain is not None:
            self.chain.stale = True
        if not self.future.done():
            self.future.set_exception(cause)
            self.future.exception()  # whoever waits for it gets it; nobody has to


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
        self._connection: PooledConnection | None = None
        self._queue: deque[Unit] = deque()
        self._queued_changes = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False

    def submit(
        self, changes: Sequence[Change], chain: Chain | None, weight: int | None = None
    ) -> asyncio.Future[None]:
        """Queue a unit, which counts as ``weight`` changes where that is not how many there are.

        Raises Unavailable when the queue is full or the node is stopping.
        """
        if self._stopping or self._queued_changes > self._queue_max:
            raise Unavailable("The server cannot store more at the moment: try again in a few seconds")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not changes:
            future.set_result(None)
            return future
        unit = Unit(changes, chain, future, len(changes) if weight is None else weight)
        self._queue.append(unit)
        self._queued_changes += unit.weight
        self._idle.clear()
        self._wake.set()
        return future

    async def drain(self) -> None:
        """Take nothing more in, and wait until all that was taken is written."""
        self._stopping = True
        await self._idle.wait()

    async def run(self) -> None:
        """Write batches for ever."""
        try:
            while True:
                await self._wake.wait()
                await self._write_next()
        finally:
            await self._drop_connection()

    async def _write_next(self) -> None:
        units = self._take()
        self._metrics.set_queue_length(self._queued_changes)
        try:
            await self._write_timed(units)
        finally:  # whatever went wrong, nobody waits for ever
            for unit in units:
                if not unit.future.done():
                    unit.fail(BatchUnknown())
            if not self._queue:
                self._idle.set()

    async def _write_timed(self, units: list[Unit]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await self._write(units)
        self._metrics.observe_batch(sum(len(unit.changes) for unit in units), loop.time() - started)

    def _take(self) -> list[Unit]:
        """The next batch; at least one unit if there are any."""
        units: list[Unit] = []
        count = 0
        while self._queue and (not units or count + self._queue[0].weight <= BATCH_CHANGES_MAX):
            unit = self._queue.popleft()
            count += unit.weight
            units.append(unit)
        self._queued_changes -= count
        if not self._queue:
            self._wake.clear()
        return units

    async def _connected(self) -> PooledConnection:
        """The connection, or a new one if it was lost, however long the database is away."""
        if self._connection is not None and not _is_closed(self._connection):
            return self._connection
        await self._drop_connection()
        delay = RECONNECT_SECONDS_MIN
        while True:
            try:
                self._connection = await self._database.pool.acquire()
                return self._connection
            except CONNECTION_LOST as cause:
                log.warning("database not reached", cause=repr(cause), retry_seconds=delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, RECONNECT_SECONDS_MAX)

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            if not _is_closed(connection):
                connection.terminate()
            await self._database.pool.release(connection)

    async def _write(self, units: list[Unit]) -> None:
        """Write units together, or one by one where that fails."""
        units = [unit for unit in units if not _refuse_stale(unit)]
        if not units:
            return
        try:
            await self._transact(units)
        except Exception as cause:  # whatever it was, it concerns these units alone
            self._metrics.count_failure()
            if len(units) == 1 or isinstance(cause, BatchUnknown | BatchLost):
                for unit in units:
                    unit.fail(cause)
                return
            log.warning("batch failed, its units are tried one by one", units=len(units), cause=repr(cause))
            for unit in units:
                await self._write([unit])
            return
        self._finish(units)

    def _finish(self, units: Iterable[Unit]) -> None:
        changes = [change for unit in units for change in unit.changes]
        self.position = changes[-1].position
        try:
            self.on_durable(changes)
        finally:  # stored is stored, whatever went wrong in telling of it
            for unit in units:
                if not unit.future.done():
                    unit.future.set_result(None)

    async def _transact(self, units: list[Unit]) -> None:
        """One transaction. Where the connection breaks, finds out what became of it, and tries again; so it
        does where the database ended it for another transaction's sake."""
        batch = getrandbits(63)
        losses = conflicts = 0
        while True:
            connection = await self._connected()
            try:
                if losses and await self._is_stored(connection, batch):
                    return
                await self._attempt(connection, units, batch)
                return
            except asyncpg.TransactionRollbackError as cause:  # a deadlock: it may well pass now
                conflicts += 1
                if conflicts == CONFLICTS_MAX:
                    raise
                log.warning("batch ended by the database, it is tried again", cause=repr(cause))
            except CONNECTION_LOST as cause:
                if isinstance(cause, asyncpg.InterfaceError) and not _is_closed(connection):
                    raise  # a value that cannot be sent: the connection is well
                log.warning("connection to the database lost while committing", cause=repr(cause))
                await self._drop_connection()
                losses += 1
                if losses == LOSSES_MAX:
                    if await self._find_out(batch):
                        return
                    raise BatchLost() from cause

    async def _find_out(self, batch: int) -> bool:
        """As `_is_stored`, however long it takes: what is stored has to be told of, or it would be missed."""
        while True:
            connection = await self._connected()
            try:
                return await self._is_stored(connection, batch)
            except CONNECTION_LOST as cause:
                log.warning("connection to the database lost again", cause=repr(cause))
                await self._drop_connection()
                await asyncio.sleep(RECONNECT_SECONDS_MIN)

    async def _is_stored(self, connection: PooledConnection, batch: int) -> bool:
        """Whether the batch whose connection broke is stored. Raises BatchUnknown if that cannot be told."""
        # The lock waits for the transaction that was cut off: the server may be committing it still.
        [(position, last_batch)] = await connection.fetch(LOCK_STREAM)
        if last_batch == batch:
            return True
        if position != self.position:
            self.position = position
            raise BatchUnknown()
        return False

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
            if not _is_closed(connection):
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
    """Where the log ends.

    The lock waits for a batch of a process that has just died: the database may be committing it still, and
    whoever starts before that would never hear of what is in it.
    """
    [(position, _)] = await pool.fetch(LOCK_STREAM)
    return int(position)


def _is_closed(connection: PooledConnection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # it broke, and the pool has taken it back already
        return True


def _refuse_stale(unit: Unit) -> bool:
    if unit.chain is not None and unit.chain.stale:
        unit.fail(ChainBroken())
        return True
    return False
