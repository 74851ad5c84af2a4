"""Walking a room's graph of events from the newer to the older. The schema is migrations/0001_engine.sql."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.storage.connection import Executor, Row
from homeserver.storage.events import COLUMNS

# Breadth first, since a recursive query yields its rows as it finds them, and ends when there are enough.
# Room versions 1 and 2 refer to events as [event_id, hashes]. UNION ends on a cycle. Outliers (flag 1) are
# in the answer where they are reached, but not walked on from. Look-ups by id and not joins: whatever the
# planner thinks of the table's size, they stay look-ups.
WALK_BACK = """
WITH RECURSIVE reached AS (
    SELECT unnest($2::text[]) AS event_id
    UNION
    SELECT previous.event_id FROM (
        SELECT CASE json_typeof(reference) WHEN 'array' THEN reference ->> 0 ELSE reference #>> '{}' END
            AS event_id
        FROM reached
        CROSS JOIN LATERAL (SELECT * FROM events WHERE event_id = reached.event_id OFFSET 0) AS e
        CROSS JOIN LATERAL json_array_elements(convert_from(e.json, 'UTF8')::json -> 'prev_events')
            AS reference
        WHERE e.room_nid = $1 AND e.flags & 1 = 0 AND e.depth > $3
    ) AS previous
    WHERE NOT previous.event_id = ANY($4::text[])
)
SELECT event_id FROM reached LIMIT $5"""

PLACED = f"""
SELECT {COLUMNS} FROM unnest($2::text[]) AS wanted (event_id)
CROSS JOIN LATERAL (SELECT * FROM events WHERE event_id = wanted.event_id OFFSET 0) AS e
WHERE e.room_nid = $1 AND e.flags & 1 = 0"""


async def walk_back(
    database: Executor,
    room_nid: int,
    start: Sequence[str],
    limit: int,
    *,
    min_depth: int = -1,
    ending: Sequence[str] = (),
) -> list[str]:
    """Ids of events: ``start``, and by their prev events what is before, nearest first, known or not.

    The walk does not go beyond events of ``min_depth``, and leaves out ``ending`` and what is behind it.
    """
    rows = await database.fetch(WALK_BACK, room_nid, start, min_depth, ending, limit)
    return [row["event_id"] for row in rows]


async def placed(database: Executor, room_nid: int, event_ids: Sequence[str]) -> list[Row]:
    """Those of the events that stand in the room's graph, refused ones too, outliers not; in no order."""
    return await database.fetch(PLACED, room_nid, event_ids)
