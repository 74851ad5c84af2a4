"""Opening the node's database: PostgreSQL by URL, or the embedded one, with the schema up to date."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from homeserver.config.node import DatabaseConfig
from homeserver.storage.connection import Connection, Pool
from homeserver.storage.embedded import EmbeddedPostgres
from homeserver.storage.migrations import migrate

DATABASE = "veche"
SERVER_VERSION_MIN = 14
CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 10.0


class DatabaseError(Exception):
    """The database cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Database:
    """An open database. ``embedded`` is None where the administrator runs PostgreSQL."""

    pool: Pool
    embedded: EmbeddedPostgres | None

    async def close(self) -> None:
        """Close the connections, cutting those still in use after CLOSE_TIMEOUT_S; leave the embedded one."""
        try:
            await asyncio.wait_for(self.pool.close(), CLOSE_TIMEOUT_S)
        except TimeoutError:
            self.pool.terminate()
        finally:
            if self.embedded is not None:
                await self.embedded.stop()


async def open_database(config: DatabaseConfig, data_dir: Path) -> Database:
    """Start the embedded PostgreSQL if no URL is configured, migrate the schema, and open the pool.

    Raises DatabaseError (not reachable, too old, wrong encoding), EmbeddedPostgresError, MigrationError.
    """
    if config.url is not None:
        return Database(await open_pool(config.url, config), None)
    embedded = EmbeddedPostgres(data_dir, shared_buffers_bytes=config.embedded_shared_buffers_bytes)
    await embedded.start()
    try:
        await _ensure_database(embedded)
        return Database(await open_pool(embedded.dsn(DATABASE), config), embedded)
    except BaseException:
        await embedded.stop()
        raise


async def _ensure_database(embedded: EmbeddedPostgres) -> None:
    """Create the database of the embedded cluster if it is new."""
    try:
        connection = await asyncpg.connect(embedded.dsn(DATABASE), timeout=CONNECT_TIMEOUT_S)
    except asyncpg.InvalidCatalogNameError:
        connection = await asyncpg.connect(embedded.dsn("postgres"), timeout=CONNECT_TIMEOUT_S)
        await connection.execute(f"CREATE DATABASE {DATABASE}")
    await connection.close()


async def open_pool(dsn: str, config: DatabaseConfig) -> Pool:
    """Check the server at ``dsn``, bring the schema up to date, and open connections to it.

    Raises DatabaseError, MigrationError.
    """
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S)
    except (OSError, asyncpg.PostgresError, TimeoutError, ValueError) as error:
        raise DatabaseError(
            f"the database cannot be reached: {str(error) or 'no answer'}; "
            "check database.url, and that PostgreSQL runs"
        ) from error
    try:
        await _check_server(connection)
        await migrate(connection)
    finally:
        await connection.close()
    return await asyncpg.create_pool(
        dsn,
        min_size=config.connections_min,
        max_size=config.connections_max,
        max_inactive_connection_lifetime=300.0,
        max_queries=10_000_000,
        reset=_keep_session,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        # Statements are constants, so all of them fit and are planned once a connection.
        statement_cache_size=500,
        max_cached_statement_lifetime=0,
        # All queries are short ones by key: they are never worth compiling, and their indexes are in memory.
        server_settings={"application_name": "veche", "jit": "off", "random_page_cost": "1.1"},
    )


async def _keep_session(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Skip asyncpg's reset of connections that go back to the pool, which costs a round trip each time.

    Nothing in the node changes a session's settings, listens, or locks beyond a transaction on them.
    """


async def _check_server(connection: Connection) -> None:
    version = connection.get_server_version()
    if version.major < SERVER_VERSION_MIN:
        raise DatabaseError(
            f"the database server is PostgreSQL {version.major}; {SERVER_VERSION_MIN} or newer is needed"
        )
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise DatabaseError(
            f"the database's encoding is {encoding}: create it with "
            "`createdb --encoding=UTF8 --locale=C --template=template0 NAME`"
        )
