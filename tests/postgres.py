"""One PostgreSQL for the whole test run, and an empty, migrated database for whoever asks."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from homeserver.storage.embedded import EmbeddedPostgres
from homeserver.storage.migrations import migrate

TEMPLATE = "veche_template"


@dataclass(frozen=True)
class TestCluster:
    """A running cluster with a template that has the schema; copies of it take some 30 ms."""

    __test__ = False  # the name is not a test class's

    embedded: EmbeddedPostgres
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def create_database(self, *, empty: bool = False) -> str:
        """Make a database with the schema, or quite empty; return its URL, for ``database.url``."""
        name = f"test_{next(self.numbers)}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {'template1' if empty else TEMPLATE}")
        return self.embedded.dsn(name)

    async def drop_database(self, dsn: str) -> None:
        name = dsn.partition("@/")[2].partition("?")[0]
        await self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.embedded.dsn("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def make_data_dir() -> Path:
    """A new folder that also the account of the database may enter, where the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="veche-"))
    folder.chmod(0o755)
    return folder


@asynccontextmanager
async def running_cluster() -> AsyncIterator[TestCluster]:
    """A cluster in a folder of its own, without fsync, removed at the end."""
    folder = make_data_dir()
    try:
        async with EmbeddedPostgres(folder, shared_buffers_bytes=64 * 1024 * 1024, durable=False) as embedded:
            cluster = TestCluster(embedded)
            await cluster._execute(f"CREATE DATABASE {TEMPLATE}")
            connection = await asyncpg.connect(embedded.dsn(TEMPLATE))
            try:
                await migrate(connection)
            finally:
                await connection.close()
            yield cluster
    finally:
        shutil.rmtree(folder)
