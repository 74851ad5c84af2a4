"""Events that a user may have been notified of, over all their rooms."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.storage.connection import Connection, Pool

CANDIDATES = """
SELECT room.nid AS room_nid, candidate.nid FROM unnest($1::integer[], $2::bigint[]) AS room (nid, since)
CROSS JOIN LATERAL (
    SELECT nid FROM events
    WHERE room_nid = room.nid AND nid > room.since AND nid < $3 AND flags = 0
        AND (state_key IS NULL OR type = 'm.room.tombstone' OR (type = 'm.room.member' AND state_key = $4))
    ORDER BY nid DESC LIMIT $5
) AS candidate
"""


async def fetch_candidates(
    source: Connection | Pool, rooms: Sequence[tuple[int, int]], before: int, user_id: str, limit: int
) -> dict[int, list[int]]:
    """Of each room of (number, since), the newest events' numbers below ``before``, at most ``limit``."""
    rows = await source.fetch(
        CANDIDATES, [room[0] for room in rooms], [room[1] for room in rooms], before, user_id, limit
    )
    found: dict[int, list[int]] = {}
    for room_nid, nid in rows:
        found.setdefault(room_nid, []).append(nid)
    return found
