"""Events that wait: which are tried first, and which make place where there are too many."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio

from homeserver.storage import inbound_events as sql

ROOM, OTHER = 1, 2


@pytest_asyncio.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection to an empty table."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("DELETE FROM inbound_events")
    yield connection
    await connection.close()


async def waiting(connection: asyncpg.Connection[asyncpg.Record], room_nid: int = ROOM) -> list[str]:
    return [row["event_id"] for row in await sql.oldest(connection, room_nid, 100)]


async def keep(connection: asyncpg.Connection[asyncpg.Record], origin: str, *names: str) -> int:
    return await sql.store(connection, ROOM, 1, origin, [(name, b"{}") for name in names])


async def test_an_event_waits_once(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    assert await keep(connection, "a.test", "$1", "$2") == 2
    assert await keep(connection, "b.test", "$2", "$3") == 1
    assert await waiting(connection) == ["$1", "$2", "$3"]
    assert [(row["room_nid"], row["count"]) for row in await sql.counts(connection)] == [(ROOM, 3)]


async def test_what_was_tried_least_comes_first(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await keep(connection, "a.test", "$1", "$2", "$3")
    rows = await sql.oldest(connection, ROOM, 2)
    await sql.count_attempt(connection, [row["nid"] for row in rows])
    assert await waiting(connection) == ["$3", "$1", "$2"]


async def test_who_has_the_most_waiting_makes_place(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await keep(connection, "honest.test", "$honest")
    await keep(connection, "flood.test", "$1", "$2", "$3")
    rows = await sql.oldest(connection, ROOM, 100)
    await sql.count_attempt(connection, [row["nid"] for row in rows])
    await sql.count_attempt(connection, [rows[0]["nid"]])
    await keep(connection, "flood.test", "$new")
    assert await sql.remove_most_tried(connection, ROOM, 2) == 2
    assert await waiting(connection) == ["$new", "$3", "$honest"]
    assert await sql.remove_most_tried(connection, ROOM, 100) == 2  # what was not tried yet stays
    assert await waiting(connection) == ["$new"]


async def test_what_events_of_the_same_server_lead_back_to_makes_place(
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    """Room versions 1 and 2 refer to events by pairs."""
    chain = [("$1", b'{"prev_events":[]}'), ("$2", b'{"prev_events":["$1"]}')]
    chain += [("$3", b'{"prev_events":[["$2",{"sha256":"x"}],"$else"]}'), ("$4", b'{"prev_events":["$3"]}')]
    await sql.store(connection, ROOM, 1, "a.test", chain)
    await sql.store(connection, ROOM, 1, "b.test", [("$5", b'{"prev_events":["$4"]}')])
    assert await sql.remove_cited(connection, ROOM, 1) == 1
    assert await waiting(connection) == ["$2", "$3", "$4", "$5"]
    assert await sql.remove_cited(connection, ROOM, 100) == 2
    assert await waiting(connection) == ["$4", "$5"]  # what only another server says to come after stays


async def test_a_room_that_is_left_is_forgotten(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await keep(connection, "a.test", "$1", "$2")
    await sql.store(connection, OTHER, 1, "a.test", [("$1", b"{}")])
    assert await sql.remove_of_room(connection, ROOM) == 2
    assert (await waiting(connection), await waiting(connection, OTHER)) == ([], ["$1"])
