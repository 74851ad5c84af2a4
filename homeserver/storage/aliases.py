"""Room aliases of this server, and published rooms: the schema is migrations/0004_directory.sql."""

from __future__ import annotations

from collections.abc import Collection

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

PUBLISH = """
INSERT INTO published_rooms (room_nid, published_ms) VALUES ($1, $2) ON CONFLICT DO NOTHING"""
WITHDRAW = "DELETE FROM published_rooms WHERE room_nid = $1"
IS_PUBLISHED = "SELECT EXISTS (SELECT 1 FROM published_rooms WHERE room_nid = $1)"
MOVE_PUBLICATION = "UPDATE published_rooms SET room_nid = $2 WHERE room_nid = $1"


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


async def publish(source: Executor, room_nid: int, now_ms: int) -> None:
    """Show a room in the directory."""
    await source.execute(PUBLISH, room_nid, now_ms)


async def withdraw(source: Executor, room_nid: int) -> None:
    """Take a room out of the directory."""
    await source.execute(WITHDRAW, room_nid)


async def is_published(source: Executor, room_nid: int) -> bool:
    """Whether the room is in the directory."""
    return bool(await source.fetchval(IS_PUBLISHED, room_nid))


async def move_publication(source: Executor, old_room_nid: int, new_room_nid: int) -> None:
    """Have the directory show one room in place of another, if it shows that one."""
    await source.execute(MOVE_PUBLICATION, old_room_nid, new_room_nid)
