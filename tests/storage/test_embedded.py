"""The embedded PostgreSQL: starting, sharing, stopping, and coming back after every kind of death."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from homeserver.config.node import DatabaseConfig
from homeserver.storage.database import open_database
from homeserver.storage.embedded import LOG_BYTES_MAX, EmbeddedPostgres
from homeserver.storage.postgres_binaries import (
    Account,
    EmbeddedPostgresError,
    find_programs,
    require_reachable,
)

MIB = 1024 * 1024


def cluster_at(folder: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(folder, shared_buffers_bytes=16 * MIB)


async def query(cluster: EmbeddedPostgres, statement: str) -> object:
    connection = await asyncpg.connect(cluster.dsn("postgres"))
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_data_and_durable_settings_survive_a_restart(data_dir: Path) -> None:
    async with cluster_at(data_dir) as cluster:
        await query(cluster, "CREATE TABLE kept AS SELECT 7 AS number")
    assert not (data_dir / "postgres" / "postmaster.pid").exists()

    async with cluster_at(data_dir) as cluster:
        assert await query(cluster, "SELECT number FROM kept") == 7
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await query(cluster, f"SHOW {setting}") == "on"


async def test_starting_again_is_fast(data_dir: Path) -> None:
    async with cluster_at(data_dir):
        pass
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with cluster_at(data_dir):
        took = loop.time() - began
    assert took < 0.4


async def test_text_is_ordered_by_code_point(data_dir: Path) -> None:
    async with cluster_at(data_dir) as cluster:
        assert (
            await query(cluster, "SELECT string_agg(x, '' ORDER BY x) FROM unnest('{a,B,é,Z}'::text[]) x")
            == "BZaé"
        )


async def test_the_last_to_leave_stops_the_database(data_dir: Path) -> None:
    first, second = cluster_at(data_dir), cluster_at(data_dir)
    await first.start()
    await second.start()
    assert second.pid == first.pid

    await first.stop()
    assert await query(second, "SELECT 1") == 1

    await second.stop()
    assert not (data_dir / "postgres" / "postmaster.pid").exists()


async def test_many_starting_at_once_share_one_database(data_dir: Path) -> None:
    clusters = [cluster_at(data_dir) for _ in range(5)]
    await asyncio.gather(*(cluster.start() for cluster in clusters))
    try:
        assert len({cluster.pid for cluster in clusters}) == 1
    finally:
        for cluster in clusters:
            await cluster.stop()


async def test_a_killed_database_is_started_again_with_what_was_committed(data_dir: Path) -> None:
    async with cluster_at(data_dir) as cluster:
        keeper = asyncio.create_task(cluster.keep_running())
        await query(cluster, "CREATE TABLE kept AS SELECT 7 AS number")
        idle = await asyncpg.connect(cluster.dsn("postgres"))  # its backend outlives the server for a moment
        killed = cluster.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)

        async def answered() -> object:
            while True:
                try:
                    return await query(cluster, "SELECT number FROM kept")
                except (OSError, asyncpg.PostgresError):
                    await asyncio.sleep(0.02)

        assert await asyncio.wait_for(answered(), 30) == 7
        assert cluster.pid != killed
        idle.terminate()
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


NODE = """
import asyncio, sys
from pathlib import Path
from homeserver.storage.embedded import EmbeddedPostgres

async def main() -> None:
    cluster = EmbeddedPostgres(Path(sys.argv[1]), shared_buffers_bytes=16 * 1024 * 1024)
    await cluster.start()
    print(cluster.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def is_alive(pid: int) -> bool:
    """Whether a process is there, and not just waiting for its parent to look at how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("database_too", [False, True])
async def test_a_killed_process_leaves_nothing_in_the_way(data_dir: Path, database_too: bool) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NODE, str(data_dir), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    database_pid = int(await process.stdout.readline())
    process.kill()
    if database_too:
        os.kill(database_pid, signal.SIGKILL)
        async with asyncio.timeout(20):  # on a busy machine it takes a moment to die
            while is_alive(database_pid):
                await asyncio.sleep(0.01)
    await process.wait()

    async with cluster_at(data_dir) as cluster:
        assert (cluster.pid == database_pid) is not database_too  # else it is adopted
        assert await query(cluster, "SELECT 1") == 1
    assert not (data_dir / "postgres" / "postmaster.pid").exists()  # an adopted one is stopped, too


async def test_a_stale_pid_file_naming_another_process_is_no_obstacle(data_dir: Path) -> None:
    async with cluster_at(data_dir) as cluster:
        pass
    # As a container leaves it when it is killed, and the pid belongs to something else in the next one.
    lines = [str(os.getpid()), str(data_dir / "postgres"), "1", "5432", ".", "", "1 1", "ready   "]
    pid_file = data_dir / "postgres" / "postmaster.pid"
    pid_file.write_text("\n".join(lines) + "\n")
    owner = (data_dir / "postgres").stat()
    os.chown(pid_file, owner.st_uid, owner.st_gid)

    async with cluster as again:
        assert await query(again, "SELECT 1") == 1


async def test_a_path_longer_than_sockets_allow_still_works(data_dir: Path) -> None:
    folder = data_dir / ("long" * 30)
    async with cluster_at(folder) as cluster:
        assert await query(cluster, "SELECT 1") == 1


async def test_half_a_cluster_is_made_anew(data_dir: Path) -> None:
    (data_dir / "postgres.partial" / "base").mkdir(parents=True)
    async with cluster_at(data_dir) as cluster:
        assert await query(cluster, "SELECT 1") == 1


async def test_a_cluster_of_another_major_version_is_refused(data_dir: Path) -> None:
    async with cluster_at(data_dir):
        pass
    (data_dir / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedPostgresError, match=r"made by PostgreSQL 17.*backup"):
        await cluster_at(data_dir).start()


async def test_what_the_database_says_is_in_the_error(data_dir: Path) -> None:
    async with cluster_at(data_dir):
        pass
    (data_dir / "postgres" / "global" / "pg_control").write_bytes(b"")
    with pytest.raises(EmbeddedPostgresError, match="pg_control"):
        await cluster_at(data_dir).start()


async def test_the_log_is_bounded_and_shows_no_statements(data_dir: Path) -> None:
    (data_dir / "postgres.log").write_bytes(b"x" * (LOG_BYTES_MAX + 1))
    async with cluster_at(data_dir) as cluster:
        await query(cluster, "CREATE TABLE t (a text PRIMARY KEY)")
        with pytest.raises(asyncpg.UniqueViolationError):
            await query(cluster, "INSERT INTO t VALUES ('private'), ('private')")
    text = (data_dir / "postgres.log").read_text()
    assert "duplicate key" in text
    assert "private" not in text


def test_a_closed_folder_on_the_way_is_named(data_dir: Path) -> None:
    closed = data_dir / "closed"
    (closed / "data").mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(EmbeddedPostgresError, match=rf"{closed} is closed"):
        require_reachable(closed / "data", Account("stranger", 4_000_001, 4_000_001))
    closed.chmod(0o711)
    require_reachable(closed / "data", Account("stranger", 4_000_001, 4_000_001))


def test_programs_below_a_closed_folder_are_linked_into_the_data_folder(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = Account("stranger", 4_000_001, 4_000_001)
    original = find_programs(data_dir, None)
    hidden = data_dir / "home"
    hidden.mkdir(mode=0o700)
    package = original.parent.parent
    (hidden / package.name).mkdir()
    (hidden / package.name / "__init__.py").touch()
    (hidden / package.name / original.parent.name).symlink_to(original.parent)
    monkeypatch.syspath_prepend(str(hidden))
    monkeypatch.delitem(sys.modules, package.name, raising=False)

    linked = find_programs(data_dir, stranger)

    assert linked.is_relative_to(data_dir)
    shown = subprocess.run([linked / "postgres", "--version"], capture_output=True, text=True, check=True)
    assert "18" in shown.stdout
    assert find_programs(data_dir, stranger) == linked


async def test_opening_the_database_creates_it_once_and_migrates(data_dir: Path) -> None:
    for _ in range(2):
        database = await open_database(DatabaseConfig(connections_min=1, connections_max=2), data_dir)
        try:
            assert await database.pool.fetchval("SELECT count(*) FROM schema_migrations") >= 1
        finally:
            await database.close()
