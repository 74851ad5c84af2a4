"""``veche federation``: which servers answer, what waits for them, and trying one again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from homeserver.cli.federation import describe
from homeserver.cli.main import main
from homeserver.storage import outbox as sql
from tests.cli.test_users import veche
from tests.postgres import TestCluster

WELL, AWAY = "well.test", "away.test"


@pytest.fixture
async def node(data_dir: Path, postgres: TestCluster) -> AsyncIterator[tuple[Path, str]]:
    """A configuration and the URL of its database, in which two servers are known."""
    path = data_dir / "veche.toml"
    assert main(["init", "--server-name", "company.test", "--config", str(path)]) == 0
    url = await postgres.create_database()
    path.write_text(path.read_text().replace("#url = ", f'url = "{url}" # ', 1))
    connection = await asyncpg.connect(url)
    async with connection.transaction():
        waiting = [sql.OutboxRow(1, (WELL, AWAY), edu=b"{}"), sql.OutboxRow(2, (AWAY,), edu=b"{}")]
        await sql.write(connection, waiting)
    await sql.store_progress(
        connection,
        [sql.Progress(WELL, 2, 0, 0, 1_700_000_000_000), sql.Progress(AWAY, 0, 7, 4_102_444_800_000, 0)],
    )
    await connection.close()
    yield path, url
    await postgres.drop_database(url)


async def test_servers_are_listed_and_one_is_tried_again(node: tuple[Path, str]) -> None:
    path, url = node
    config = ("--config", str(path))
    status, output, errors = await veche("federation", "list", *config)
    assert status == 0, errors
    away, well = output.splitlines()
    assert status == 0
    assert away.startswith(
        f"{AWAY}  does not answer (7 attempts, next at 2100-01-01T00:00:00+00:00)  "
        "0 events and 2 other messages wait since 20"
    )
    assert well == f"{WELL}  answers  last reached 2023-11-14T22:13:20+00:00"

    status, output, _ = await veche("federation", "retry", AWAY, *config)
    assert (status, output.split()[0]) == (0, AWAY)
    connection = await asyncpg.connect(url)
    assert await sql.to_retry(connection) == [AWAY]
    await connection.close()
    for name in (WELL, "unknown.test"):
        status, _, errors = await veche("federation", "retry", name, *config)
        assert status == 1 and errors.startswith(f"veche: {name} is not being left alone")


def test_a_server_that_has_nothing_to_tell_of_is_its_name() -> None:
    assert describe(sql.DestinationRow("new.test", 0, 0, 0, 0, 0, 0, 0), 0) == "new.test"
