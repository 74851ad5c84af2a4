"""Lists that are marked to be asked for while the commit log writes: neither is in the other's way.

The database ends a deadlock by failing one of the two, whichever it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from itertools import count
from typing import Any

import asyncpg
import pytest_asyncio

from homeserver.storage import remote_devices as sql
from homeserver.storage.connection import Connection
from homeserver.storage.device_lists import DeviceListChange
from homeserver.storage.remote_devices import RemoteListTouched

PATIENCE_S = 20.0
names = count(1)


@pytest_asyncio.fixture
async def writing(database_url: str) -> AsyncIterator[Connection]:
    """The commit log's connection."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def marking(database_url: str) -> AsyncIterator[Connection]:
    """That on which lists are marked."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def new_list(connection: Connection) -> tuple[str, int]:
    """A user of another server whom this node had not met, with a list: the id and the number."""
    user_id = f"@carol-{next(names)}:peer.test"
    known = await sql.begin_asking(connection, user_id)
    assert known.is_stale and known.updates == 0
    return user_id, known.user_nid


async def begin_behind(
    writing: Connection, marking: Connection, job: Coroutine[Any, Any, object]
) -> asyncio.Task[object]:
    """Begin a job on one connection; it waits for what the other has locked when this returns."""
    task = asyncio.create_task(job)
    async with asyncio.timeout(PATIENCE_S):
        while not await writing.fetchval(
            "SELECT cardinality(pg_blocking_pids($1)) > 0", marking.get_server_pid()
        ):
            assert not task.done()
            await asyncio.sleep(0.01)
    return task


async def test_a_list_is_asked_for_while_its_user_is_told_of(
    writing: Connection, marking: Connection
) -> None:
    user_id, nid = await new_list(marking)
    async with writing.transaction():
        await RemoteListTouched.write(writing, [RemoteListTouched(nid, makes_stale=True)])
        asking = await begin_behind(writing, marking, sql.begin_asking(marking, user_id))
        await DeviceListChange.write(writing, [DeviceListChange(user_id, nid, position=1)])
    known = await asking
    assert isinstance(known, sql.RemoteList)
    assert (known.user_nid, known.updates) == (nid, 1)


async def test_many_lists_are_wanted_while_some_of_them_are_written(
    writing: Connection, marking: Connection
) -> None:
    first, first_nid = await new_list(marking)
    second, second_nid = await new_list(marking)
    await marking.execute("UPDATE remote_device_lists SET is_stale = false")
    async with writing.transaction():
        await RemoteListTouched.write(writing, [RemoteListTouched(second_nid, makes_stale=False)])
        wanting = await begin_behind(writing, marking, sql.want_lists(marking, [first, second]))
        await RemoteListTouched.write(writing, [RemoteListTouched(first_nid, makes_stale=False)])
    await wanting
    lists = [await sql.fetch_list(marking, user_id) for user_id in (first, second)]
    assert [known is not None and (known.is_stale, known.updates) for known in lists] == [(True, 1)] * 2
