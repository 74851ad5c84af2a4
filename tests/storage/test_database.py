"""Opening the database: what is refused, and what the pool does with its connections."""

from __future__ import annotations

import os
from pathlib import Path

import asyncpg
import pytest

from homeserver.config.node import DatabaseConfig
from homeserver.storage.database import DatabaseError, open_database
from tests.postgres import TestCluster


async def test_a_server_that_does_not_answer_is_named_as_the_cause(data_dir: Path) -> None:
    config = DatabaseConfig(url="postgresql://veche@127.0.0.1:1/veche")
    with pytest.raises(DatabaseError, match=r"cannot be reached.*check database\.url"):
        await open_database(config, data_dir)
    assert os.listdir(data_dir) == []  # no embedded one is started instead


async def test_a_database_of_another_encoding_is_refused(postgres: TestCluster, data_dir: Path) -> None:
    connection = await asyncpg.connect(postgres.embedded.dsn("postgres"))
    await connection.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    await connection.close()
    url = postgres.embedded.dsn("ascii")
    with pytest.raises(DatabaseError, match="encoding is SQL_ASCII: create it with"):
        await open_database(DatabaseConfig(url=url), data_dir)
    await postgres.drop_database(url)


async def test_a_transaction_left_open_does_not_reach_the_next_user(
    database_url: str, data_dir: Path
) -> None:
    config = DatabaseConfig(url=database_url, connections_min=1, connections_max=1)
    database = await open_database(config, data_dir)
    async with database.pool.acquire() as connection:
        await connection.execute("CREATE TABLE left_open (a int)")
        await connection.execute("BEGIN; INSERT INTO left_open VALUES (1)")
    assert await database.pool.fetchval("SELECT count(*) FROM left_open") == 0
    await database.close()


async def test_closing_does_not_wait_for_ever_for_a_query(
    database_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeserver.storage.database.CLOSE_TIMEOUT_S", 0.1)
    config = DatabaseConfig(url=database_url, connections_min=1, connections_max=1)
    database = await open_database(config, data_dir)
    held = await database.pool.acquire()
    await database.close()
    with pytest.raises(asyncpg.InterfaceError):
        await held.execute("SELECT 1")
