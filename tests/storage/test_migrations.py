"""The schema's versions: each once, in order, all or nothing, by one process at a time."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from homeserver.storage.migrations import FOLDER, MigrationError, migrate, read_migrations
from homeserver.storage.one_time_keys import ClaimChange, OneTimeKeysChange, fetch_counts, forget_claimed
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


async def test_keys_that_were_claimed_before_0020_stay_claimed(
    connection: asyncpg.Connection, tmp_path: Path
) -> None:
    for path in sorted(FOLDER.glob("*.sql"))[:19]:
        shutil.copy(path, tmp_path)
    await migrate(connection, tmp_path)
    await connection.execute(
        """
        INSERT INTO one_time_keys (device_nid, algorithm, key_id, json, claimed_ms)
        SELECT device, 'a', 'key' || number, '1', CASE WHEN number <= device THEN 1000 END
        FROM generate_series(0, 2) AS device, generate_series(1, 3) AS number
        """
    )
    await migrate(connection)
    assert {
        nid: counts.one_time["a"] for nid, counts in (await fetch_counts(connection, range(3))).items()
    } == {
        0: 3,
        1: 2,
        2: 1,
    }
    change = ClaimChange([(device, "a") for device in range(3)], ["@alice:veche.test"] * 3)
    await ClaimChange.write(connection, [change])
    assert [key[0] for key in change.keys if key is not None] == ["key1", "key2", "key3"]
    again = OneTimeKeysChange(2, {("a", "key1"): b"1", ("a", "key4"): b"1"}, {})
    await OneTimeKeysChange.write(connection, [again])
    assert again.counts is not None and again.counts.one_time == {"a": 1}
    await forget_claimed(connection, 0, 5000)
    await forget_claimed(connection, 6000, 7000)
    select = "SELECT key_id FROM one_time_keys WHERE device_nid = 2"
    assert [row["key_id"] for row in await connection.fetch(select)] == ["key4"]


async def test_the_real_schema_applies_to_an_empty_database(connection: asyncpg.Connection) -> None:
    assert await migrate(connection) == len(read_migrations()) >= 1
