"""Sync filters, by user and number. Source: Client-Server API, "Filtering"."""

from __future__ import annotations

from homeserver.storage.connection import Connection, Pool

SELECT_NUMBER = "SELECT number FROM filters WHERE user_nid = $1 AND sha256 = $2"
SELECT_DEFINITION = "SELECT definition FROM filters WHERE user_nid = $1 AND number = $2"
INSERT = """
INSERT INTO filters (user_nid, number, sha256, definition)
SELECT $1, coalesce(max(number) + 1, 0), $2, $3 FROM filters WHERE user_nid = $1
HAVING count(*) < $4
ON CONFLICT DO NOTHING RETURNING number
"""


async def find_filter(source: Connection | Pool, user_nid: int, sha256: bytes) -> int | None:
    """The number of the user's filter with this digest, if there is one."""
    number: int | None = await source.fetchval(SELECT_NUMBER, user_nid, sha256)
    return number


async def insert_filter(
    source: Connection | Pool, user_nid: int, sha256: bytes, definition: bytes, *, most: int
) -> int | None:
    """The number of a new filter; None if there are ``most`` already, or another was inserted meanwhile."""
    number: int | None = await source.fetchval(INSERT, user_nid, sha256, definition, most)
    return number


async def fetch_filter(source: Connection | Pool, user_nid: int, number: int) -> bytes | None:
    """The definition, JSON, or None."""
    definition: bytes | None = await source.fetchval(SELECT_DEFINITION, user_nid, number)
    return definition
