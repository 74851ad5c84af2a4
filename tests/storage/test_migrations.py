"""The schema's versions: each once, in order, all or nothing, by one process at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from homeserver.storage.migrations import MigrationError, migrate, read_migrations
from tests.postgres import TestCluster


@pytest.fixture
async def connection(postgres: TestCluster) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database in which nothing has been migrated."""
    url = await postgres.create_database(empty=True)
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()
    await postgres.drop_database(url)


def write(folder: Path, **files: str) -> None:
    for name, sql in files.items():
        (folder / f"{name[1:]}.sql").write_text(sql)


async def test_steps_are_applied_once_and_in_order(connection: asyncpg.Connection, tmp_path: Path) -> None:
    write(
        tmp_path,
        _0001_first="CREATE TABLE t (a int)",
        _0002_second="INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)",
    )
    assert await migrate(connection, tmp_path) == 2
    assert await migrate(connection, tmp_path) == 0
    write(tmp_path, _0003_third="INSERT INTO t SELECT count(*) + 10 FROM t")
    assert await migrate(connection, tmp_path) == 1
    assert [row["a"] for row in await connection.fetch("SELECT a FROM t ORDER BY a")] == [1, 2, 12]


async def test_of_a_failed_step_nothing_remains(connection: asyncpg.Connection, tmp_path: Path) -> None:
    write(tmp_path, _0001_first="CREATE TABLE t (a int)", _0002_second="INSERT INTO t VALUES (1); SELECT 1/0")
    with pytest.raises(MigrationError, match=r"0002_second\.sql failed: division by zero"):
        await migrate(connection, tmp_path)
    assert await connection.fetchval("SELECT count(*) FROM t") == 0

    write(tmp_path, _0002_second="INSERT INTO t VALUES (1)")
    assert await migrate(connection, tmp_path) == 1
    assert await connection.fetchval("SELECT count(*) FROM t") == 1


async def test_processes_that_start_together_migrate_once(
    connection: asyncpg.Connection, tmp_path: Path, postgres: TestCluster
) -> None:
    write(tmp_path, _0001_first="CREATE TABLE t (a int); SELECT pg_sleep(0.1)")
    url = postgres.embedded.dsn(await connection.fetchval("SELECT current_database()"))
    others = [await asyncpg.connect(url) for _ in range(3)]
    counts = await asyncio.gather(*(migrate(each, tmp_path) for each in (connection, *others)))
    assert sorted(counts) == [0, 0, 0, 1]
    for other in others:
        await other.close()


async def test_an_applied_step_must_not_change(connection: asyncpg.Connection, tmp_path: Path) -> None:
    write(tmp_path, _0001_first="CREATE TABLE t (a int)")
    await migrate(connection, tmp_path)
    write(tmp_path, _0001_first="CREATE TABLE t (a bigint)")
    with pytest.raises(MigrationError, match=r"0001_first.sql is not the one .* add a new one"):
        await migrate(connection, tmp_path)


async def test_the_previous_release_runs_beside_a_newer_schema(
    connection: asyncpg.Connection, tmp_path: Path
) -> None:
    write(tmp_path, _0001_first="CREATE TABLE t (a int)", _0002_second="ALTER TABLE t ADD b int")
    await migrate(connection, tmp_path)
    (tmp_path / "0002_second.sql").unlink()
    assert await migrate(connection, tmp_path) == 0


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["0001_a", "0003_b"], "0003_b.sql should have the number 0002"),
        (["0001_a", "0001_b"], "0001_b.sql should have the number 0002"),
        (["1_a"], "1_a.sql is not named like 0001_name.sql"),
        (["0001-A"], "is not named like"),
    ],
)
def test_misnamed_files_are_refused(tmp_path: Path, names: list[str], said: str) -> None:
    for name in names:
        (tmp_path / f"{name}.sql").touch()
    with pytest.raises(MigrationError, match=said):
        read_migrations(tmp_path)


async def test_the_real_schema_applies_to_an_empty_database(connection: asyncpg.Connection) -> None:
    assert await migrate(connection) == len(read_migrations()) >= 1
