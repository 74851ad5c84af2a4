"""Room aliases of this server, and published rooms: the schema is migrations/0004_directory.sql."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from homeserver.storage.connection import Executor

ORPHAN_AFTER_MS = 60_000  # an alias without a room is free again: its room's creation failed

RESERVE = """
INSERT INTO room_aliases AS taken (alias, room_nid, created_ms, creator) VALUES ($1, $2, $3, $4)
ON CONFLICT (alias) DO UPDATE
SET room_nid = excluded.room_nid, created_ms = excluded.created_ms, creator = excluded.creator
WHERE taken.created_ms < $3::bigint - $5::bigint
    AND NOT EXISTS (SELECT 1 FROM rooms WHERE rooms.nid = taken.room_nid)
RETURNING 1"""
RELEASE = "DELETE FROM room_aliases WHERE alias = $1 AND room_nid = $2"
ROOM_IDS = """
SELECT alias, room_id FROM room_aliases JOIN rooms ON rooms.nid = room_nid WHERE alias = ANY($1::text[])"""
MOVE = "UPDATE room_aliases SET room_nid = $2 WHERE room_nid = $1"

FETCH = "SELECT room_nid, creator FROM room_aliases WHERE alias = $1"
OF_ROOM = "SELECT alias FROM room_aliases WHERE room_nid = $1 ORDER BY created_ms, alias LIMIT $2"

PUBLISH = "UPDATE rooms SET is_published = true WHERE nid = $1 AND NOT is_published"
WITHDRAW = "UPDATE rooms SET is_published = false WHERE nid = $1 AND is_published RETURNING 1"
IS_PUBLISHED = "SELECT is_published FROM rooms WHERE nid = $1"


@dataclass(frozen=True, slots=True)
class AliasRow:
    """One alias of this server."""

    room_nid: int
    creator: str


async def reserve(source: Executor, alias: str, room_nid: int, creator: str, now_ms: int) -> bool:
    """Take an alias for a room; False if it is taken."""
    return bool(await source.fetchval(RESERVE, alias, room_nid, now_ms, creator, ORPHAN_AFTER_MS))


async def release(source: Executor, alias: str, room_nid: int) -> None:
    """Free the alias of a room."""
    await source.execute(RELEASE, alias, room_nid)


async def room_ids(source: Executor, aliases: Collection[str]) -> dict[str, str]:
    """The rooms of those aliases that have one."""
    return {row["alias"]: row["room_id"] for row in await source.fetch(ROOM_IDS, list(aliases))}


async def move(source: Executor, old_room_nid: int, new_room_nid: int) -> None:
    """Give all aliases of one room to another."""
    await source.execute(MOVE, old_room_nid, new_room_nid)


async def fetch(source: Executor, alias: str) -> AliasRow | None:
    """The alias, if it is taken."""
    row = await source.fetchrow(FETCH, alias)
    return AliasRow(*row) if row is not None else None


async def of_room(source: Executor, room_nid: int, most: int) -> list[str]:
    """The room's aliases, oldest first."""
    return [row["alias"] for row in await source.fetch(OF_ROOM, room_nid, most)]


async def publish(source: Executor, room_nid: int) -> None:
    """Show a room in the directory."""
    await source.execute(PUBLISH, room_nid)


async def withdraw(source: Executor, room_nid: int) -> bool:
    """Take a room out of the directory; whether it was in it."""
    return bool(await source.fetchval(WITHDRAW, room_nid))


async def is_published(source: Executor, room_nid: int) -> bool:
    """Whether the room is in the directory."""
    return bool(await source.fetchval(IS_PUBLISHED, room_nid))


async def move_publication(source: Executor, old_room_nid: int, new_room_nid: int) -> None:
    """Have the directory show one room in place of another, if it shows that one.

    One row at a time: a statement that locks two could wait for a batch of the engine that waits for it.
    """
    if await withdraw(source, old_room_nid):
        await publish(source, new_room_nid)
