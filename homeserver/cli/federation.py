"""``veche federation``: the other servers that are sent something, whether the node runs or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace

from homeserver.cli.errors import CommandError
from homeserver.clock import now_ms
from homeserver.config.load import load_config
from homeserver.storage import outbox as sql
from homeserver.storage.connection import Pool
from homeserver.storage.database import open_database


def list_servers(config_path: Path) -> None:
    """Print a line for each server that was ever sent anything: how that fares, and what waits for it."""

    async def show() -> None:
        async with database_of(config_path) as pool:
            now = now_ms()
            for row in await sql.all_destinations(pool):
                print(describe(row, now))

    asyncio.run(show())


def retry(config_path: Path, server_name: str) -> None:
    """Have the running node try a server within seconds. Raises CommandError if that is not waited for."""

    async def ask() -> bool:
        async with database_of(config_path) as pool:
            return await sql.retry(pool, server_name)

    if not asyncio.run(ask()):
        raise CommandError(f"{server_name} is not being left alone: see `veche federation list`")
    print(f"{server_name} will be tried again within a few seconds, or when the server is started")


@asynccontextmanager
async def database_of(config_path: Path) -> AsyncIterator[Pool]:
    """The node's database; an embedded one is started unless the node runs."""
    config = load_config(config_path)
    settings = replace(config.database, connections_min=1, connections_max=1)
    database = await open_database(settings, Path(config.server.data_dir))
    try:
        yield database.pool
    finally:
        await database.close()


def describe(row: sql.DestinationRow, now: int) -> str:
    """A server as one line for people and for grep."""
    parts = [row.server_name]
    if row.failures:
        parts.append(f"does not answer ({row.failures} attempts, next at {_time(max(row.retry_at_ms, now))})")
    elif row.last_success_ms:
        parts.append("answers")
    if row.last_success_ms:
        parts.append(f"last reached {_time(row.last_success_ms)}")
    if row.events or row.edus:
        parts.append(f"{row.events} events and {row.edus} other messages wait since {_time(row.oldest_ms)}")
    return "  ".join(parts)


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
