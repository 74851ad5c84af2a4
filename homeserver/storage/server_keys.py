"""Other servers' published keys. Schema: migrations/0006_federation.sql."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from homeserver.storage.connection import Executor

SELECT = """
SELECT server_name, document, retired, fetched_ms FROM server_keys WHERE server_name = ANY($1::text[])"""
# Of two processes that fetched at the same time, the later fetch stays.
UPSERT = """
INSERT INTO server_keys (server_name, document, retired, fetched_ms) VALUES ($1, $2, $3, $4)
ON CONFLICT (server_name) DO UPDATE
SET document = excluded.document, retired = excluded.retired, fetched_ms = excluded.fetched_ms
WHERE server_keys.fetched_ms <= excluded.fetched_ms"""


@dataclass(frozen=True, slots=True)
class ServerKeysRow:
    """One server's newest key document, and the keys that it no longer lists, both as JSON."""

    server_name: str
    document: bytes
    retired: bytes
    fetched_ms: int


async def fetch_keys(source: Executor, server_names: Collection[str]) -> list[ServerKeysRow]:
    """What is stored of those servers."""
    return [ServerKeysRow(*row) for row in await source.fetch(SELECT, list(server_names))]


async def store_keys(source: Executor, row: ServerKeysRow) -> None:
    """Store what a server publishes now."""
    await source.execute(UPSERT, row.server_name, row.document, row.retired, row.fetched_ms)
