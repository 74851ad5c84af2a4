"""Where a room's history here ends though there is more elsewhere: migrations/0009_inbound_events.sql."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.storage.connection import Executor, Row

OPEN = """
INSERT INTO history_gaps (room_nid, depth, event_id)
SELECT * FROM unnest($1::integer[], $2::bigint[], $3::text[])
ON CONFLICT (room_nid, event_id) DO UPDATE SET depth = greatest(history_gaps.depth, excluded.depth)"""
CLOSE = """
DELETE FROM history_gaps g USING unnest($1::integer[], $2::text[]) AS c (room_nid, event_id)
WHERE g.room_nid = c.room_nid AND g.event_id = c.event_id"""
CLOSE_PLACED = """
DELETE FROM history_gaps g USING events e
WHERE g.room_nid = $1 AND e.event_id = g.event_id AND e.room_nid = $1 AND e.flags & 1 = 0"""
HIGHEST = """
SELECT depth, event_id, retry_at_ms FROM history_gaps
WHERE room_nid = $1 AND depth <= $2 AND depth >= $3 ORDER BY depth DESC, event_id LIMIT $4"""
FAILED = """
UPDATE history_gaps SET failures = least(failures + 1, 1000),
    retry_at_ms = $3::bigint + least(1000 * (1 << least(failures, 12)), 3600000)
WHERE room_nid = $1 AND event_id = ANY($2::text[])"""
ANY = "SELECT EXISTS (SELECT 1 FROM history_gaps WHERE room_nid = $1)"


async def open_gaps(database: Executor, gaps: Sequence[tuple[int, int, str]]) -> None:
    """Note gaps: the room, the depth of an event that cites the missing one, and the missing one's id."""
    await database.execute(OPEN, *([gap[index] for gap in gaps] for index in range(3)))


async def close_gaps(database: Executor, gaps: Sequence[tuple[int, str]]) -> None:
    """Events are missing no more."""
    await database.execute(CLOSE, [room_nid for room_nid, _ in gaps], [event_id for _, event_id in gaps])


async def close_placed(database: Executor, room_nid: int) -> None:
    """Close the gaps of a room whose event came in some other way."""
    await database.execute(CLOSE_PLACED, room_nid)


async def highest(database: Executor, room_nid: int, upto: int, down_to: int, limit: int) -> list[Row]:
    """Gaps between two depths, the newest first: depth, event_id, retry_at_ms."""
    return await database.fetch(HIGHEST, room_nid, upto, down_to, limit)


async def failed(database: Executor, room_nid: int, event_ids: Sequence[str], now_ms: int) -> None:
    """Nobody had these: leave them alone for a second, twice as long each time, up to an hour."""
    await database.execute(FAILED, room_nid, event_ids, now_ms)


async def has_any(database: Executor, room_nid: int) -> bool:
    """Whether anything of a room's history is known to be missing."""
    return bool(await database.fetchval(ANY, room_nid))
