"""Each user's room of server notices: the schema is migrations/0004_directory.sql."""

from __future__ import annotations

from homeserver.storage.connection import Executor

ORPHAN_AFTER_MS = 60_000  # a room that is not there by then will never be: its creation failed

FETCH = """
SELECT room_id FROM notice_rooms JOIN rooms ON rooms.nid = room_nid WHERE user_nid = $1"""
RESERVE = """
INSERT INTO notice_rooms AS taken (user_nid, room_nid, created_ms) VALUES ($1, $2, $3)
ON CONFLICT (user_nid) DO UPDATE SET room_nid = excluded.room_nid, created_ms = excluded.created_ms
WHERE taken.created_ms < $3::bigint - $4::bigint
    AND NOT EXISTS (SELECT 1 FROM rooms WHERE rooms.nid = taken.room_nid)
RETURNING 1"""
RELEASE = "DELETE FROM notice_rooms WHERE user_nid = $1 AND room_nid = $2"


async def fetch(source: Executor, user_nid: int) -> str | None:
    """The id of the user's room, if there is one."""
    room_id: str | None = await source.fetchval(FETCH, user_nid)
    return room_id


async def reserve(source: Executor, user_nid: int, room_nid: int, now_ms: int) -> bool:
    """Settle which room will be the user's; False if another one is, or is about to be."""
    return bool(await source.fetchval(RESERVE, user_nid, room_nid, now_ms, ORPHAN_AFTER_MS))


async def release(source: Executor, user_nid: int, room_nid: int) -> None:
    """Take back what `reserve` settled."""
    await source.execute(RELEASE, user_nid, room_nid)
