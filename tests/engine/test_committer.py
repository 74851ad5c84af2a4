"""The committer, where the database or the changes themselves fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import ClassVar

import asyncpg
import pytest
import pytest_asyncio

from homeserver.commit_log.committer import (
    BATCH_CHANGES_MAX,
    CONFLICTS_MAX,
    LOSSES_MAX,
    BatchLost,
    Committer,
    CommitterMetrics,
    read_position,
)
from homeserver.config.node import DatabaseConfig
from homeserver.storage.connection import Connection
from homeserver.storage.database import Database, open_pool

PATIENCE_S = 20.0
names = count(1)


async def _cut_off(connection: Connection) -> None:
    """Have the server end the session, as when it is restarted."""
    await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


async def _lose_a_conflict(connection: Connection) -> None:
    raise asyncpg.DeadlockDetectedError("another transaction was waited for")


async def _fail(connection: Connection) -> None:
    raise ValueError("this change cannot be written")


async def _write(connection: Connection) -> None:
    """Nothing more than every change does."""


Behaviour = Callable[[Connection], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Note:
    """A change that behaves so at its first attempts, one after another, and then is written."""

    name: int
    attempts: list[Behaviour]
    position: int = 0
    is_visible: ClassVar[bool] = False

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[Note]) -> None:
        for change in changes:
            if change.attempts:
                await change.attempts.pop(0)(connection)
        await connection.execute(
            "INSERT INTO notes SELECT unnest($1::int[])", [change.name for change in changes]
        )


@dataclass(slots=True)
class Notes:
    """A committer of notes."""

    database: Database
    committer: Committer

    batches: list[int]
    """How many changes each batch had."""

    async def commit(self, *attempts: Behaviour, weight: int | None = None) -> int:
        """Commit a new note; its name."""
        note = Note(next(names), list(attempts))
        async with asyncio.timeout(PATIENCE_S):
            await self.committer.submit([note], None, weight)
        return note.name

    async def count(self, name: int) -> int:
        stored = await self.database.pool.fetchval("SELECT count(*) FROM notes WHERE name = $1", name)
        assert isinstance(stored, int)
        return stored


@pytest_asyncio.fixture(scope="module")
async def notes(database_url: str) -> AsyncIterator[Notes]:
    pool = await open_pool(database_url, DatabaseConfig(connections_min=1, connections_max=3))
    await pool.execute("CREATE TABLE notes (name integer)")
    database = Database(pool, None)
    batches: list[int] = []
    metrics = CommitterMetrics(lambda changes, _: batches.append(changes), lambda length: None, lambda: None)
    committer = Committer(database, 0, metrics)
    running = asyncio.get_running_loop().create_task(committer.run())
    yield Notes(database, committer, batches)
    async with asyncio.timeout(PATIENCE_S):
        await committer.drain()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await database.close()


async def test_what_is_written_when_the_connection_breaks_is_written_once(notes: Notes) -> None:
    name = await notes.commit(_cut_off)
    assert await notes.count(name) == 1


async def test_what_fails_after_the_connection_broke_fails_alone(notes: Notes) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        await notes.commit(_cut_off, _fail)
    assert await notes.count(await notes.commit()) == 1


async def test_a_batch_that_loses_every_connection_is_given_up(notes: Notes) -> None:
    with pytest.raises(BatchLost):
        await notes.commit(*[_cut_off] * LOSSES_MAX)
    assert await notes.count(await notes.commit()) == 1


async def test_a_batch_that_the_database_ended_for_another_ones_sake_is_tried_again(notes: Notes) -> None:
    name = await notes.commit(_lose_a_conflict, _lose_a_conflict)
    assert await notes.count(name) == 1
    with pytest.raises(asyncpg.DeadlockDetectedError):
        await notes.commit(*[_lose_a_conflict] * CONFLICTS_MAX)


async def test_the_guilty_one_of_a_batch_fails_alone(notes: Notes) -> None:
    outcomes = await asyncio.gather(
        notes.commit(), notes.commit(_write, _fail, _fail), notes.commit(_fail, _fail), return_exceptions=True
    )
    first, second, third = outcomes
    assert isinstance(first, int)
    assert await notes.count(first) == 1
    assert isinstance(second, ValueError)
    assert isinstance(third, ValueError)


async def test_units_that_count_as_many_changes_share_no_batch(notes: Notes) -> None:
    notes.batches.clear()
    heavy = (notes.commit(weight=BATCH_CHANGES_MAX) for _ in range(3))
    await asyncio.gather(notes.commit(), *heavy, notes.commit(), notes.commit())
    assert notes.batches == [1, 1, 1, 1, 2]


async def test_nothing_to_write_is_done_at_once(notes: Notes) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await notes.committer.submit([], None)


async def test_a_node_that_starts_waits_for_the_last_batch_of_the_one_that_died(notes: Notes) -> None:
    before = await read_position(notes.database.pool)
    async with notes.database.pool.acquire() as dying:
        transaction = dying.transaction()
        await transaction.start()
        await dying.execute("UPDATE stream SET position = position + 7")
        reading = asyncio.ensure_future(read_position(notes.database.pool))
        done, _ = await asyncio.wait((reading,), timeout=0.2)
        assert not done
        await transaction.commit()
        async with asyncio.timeout(PATIENCE_S):
            assert await reading == before + 7
    await notes.database.pool.execute("UPDATE stream SET position = $1", before)  # as this committer has it


async def test_a_node_that_cannot_connect_waits_for_the_database(notes: Notes) -> None:
    async def restart(connection: Connection) -> None:
        await _cut_off(connection)
        raise asyncpg.CannotConnectNowError("the database system is starting up")

    name = await notes.commit(restart)
    assert await notes.count(name) == 1
