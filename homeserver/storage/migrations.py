"""The schema's versions: numbered SQL files, applied in order, forward only.

``migrations/NNNN_name.sql`` is run once, in a transaction of its own, under a lock that lets one process of
all do it. A file that has been applied is never changed: a new one is added, written so that the previous
release still runs beside the new schema.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from homeserver.storage.connection import Connection

FOLDER = Path(__file__).with_name("migrations")
ADVISORY_LOCK = 0x76656368650001  # "veche", 1: an arbitrary number that nobody else in the database uses

CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    sha256 bytea NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
SELECT_APPLIED = "SELECT number, sha256 FROM schema_migrations"
INSERT_APPLIED = "INSERT INTO schema_migrations (number, name, sha256) VALUES ($1, $2, $3)"


class MigrationError(Exception):
    """The schema cannot be brought to this release's version; the message names the file."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.sql.encode()).digest()


def read_migrations(folder: Path = FOLDER) -> list[Migration]:
    """All steps in order. Raises MigrationError on a wrong name, a gap, or a number given twice."""
    migrations: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        match = re.fullmatch(r"(\d{4})_([a-z0-9_]+)", path.stem)
        if match is None:
            raise MigrationError(f"{path.name} is not named like 0001_name.sql")
        number = int(match[1])
        if number != len(migrations) + 1:
            raise MigrationError(f"{path.name} should have the number {len(migrations) + 1:04}")
        migrations.append(Migration(number, match[2], path.read_text()))
    return migrations


async def migrate(connection: Connection, folder: Path = FOLDER) -> int:
    """Apply what is missing; return how many steps that were.

    Raises MigrationError if a step fails (nothing of it remains), or if an applied one was changed since.
    A newer schema is left alone: it still carries this release.
    """
    migrations = read_migrations(folder)
    if not _missing(migrations, await _applied(connection)):
        return 0
    await connection.execute("SELECT pg_advisory_lock($1)", ADVISORY_LOCK)
    try:
        await connection.execute(CREATE_TABLE)
        missing = _missing(migrations, await _applied(connection))  # another process may have been first
        for migration in missing:
            try:
                async with connection.transaction():
                    await connection.execute(migration.sql)
                    await connection.execute(
                        INSERT_APPLIED, migration.number, migration.name, migration.sha256
                    )
            except asyncpg.PostgresError as error:
                raise MigrationError(
                    f"migration {migration.number:04}_{migration.name}.sql failed: {error}"
                ) from error
        return len(missing)
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", ADVISORY_LOCK)


async def _applied(connection: Connection) -> dict[int, bytes]:
    """Number and sha256 of each applied step."""
    try:
        rows = await connection.fetch(SELECT_APPLIED)
    except asyncpg.UndefinedTableError:
        return {}
    return {row["number"]: row["sha256"] for row in rows}


def _missing(migrations: list[Migration], applied: dict[int, bytes]) -> list[Migration]:
    for migration in migrations:
        if applied.get(migration.number, migration.sha256) != migration.sha256:
            raise MigrationError(
                f"migration {migration.number:04}_{migration.name}.sql is not the one that this database "
                "was made with: applied migrations are never changed, add a new one"
            )
    return [migration for migration in migrations if migration.number not in applied]
