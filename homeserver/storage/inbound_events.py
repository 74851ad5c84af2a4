"""Events from other servers that wait for what they refer to: migrations/0009_inbound_events.sql."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.storage.connection import Executor, Row

STORE = """
INSERT INTO inbound_events (room_nid, received_ms, event_id, origin, json)
SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::bytea[])
ON CONFLICT (room_nid, event_id) DO NOTHING
RETURNING 1"""
OLDEST = """
SELECT nid, attempts, received_ms, event_id, origin, json FROM inbound_events
WHERE room_nid = $1 ORDER BY attempts, nid LIMIT $2"""
COUNTS = "SELECT room_nid, count(*) AS count FROM inbound_events GROUP BY room_nid"
REMOVE = """
WITH gone AS (DELETE FROM inbound_events WHERE nid = ANY($1::bigint[]) RETURNING 1)
SELECT count(*) FROM gone"""
REMOVE_OF_ROOM = (
    "WITH gone AS (DELETE FROM inbound_events WHERE room_nid = $1 RETURNING 1) SELECT count(*) FROM gone"
)
# Room versions 1 and 2 refer to events as [event_id, hashes].
REMOVE_CITED = """
WITH of_room AS MATERIALIZED (
    SELECT nid, event_id, origin, json FROM inbound_events WHERE room_nid = $1
), cited AS (
    SELECT DISTINCT origin,
        CASE json_typeof(reference) WHEN 'array' THEN reference ->> 0 ELSE reference #>> '{}' END AS event_id
    FROM of_room CROSS JOIN LATERAL json_array_elements(convert_from(json, 'UTF8')::json -> 'prev_events')
        AS reference
), gone AS (
    DELETE FROM inbound_events WHERE nid IN (
        SELECT nid FROM of_room JOIN cited USING (origin, event_id) ORDER BY nid LIMIT $2
    ) RETURNING 1
) SELECT count(*) FROM gone"""
REMOVE_MOST_TRIED = """
WITH gone AS (
    DELETE FROM inbound_events WHERE nid IN (
        SELECT nid FROM inbound_events JOIN (
            SELECT origin, count(*) AS count FROM inbound_events WHERE room_nid = $1 GROUP BY origin
        ) AS of_origin USING (origin)
        WHERE room_nid = $1 AND attempts > 0
        ORDER BY of_origin.count DESC, attempts DESC, nid LIMIT $2
    ) RETURNING 1
) SELECT count(*) FROM gone"""
COUNT_ATTEMPT = "UPDATE inbound_events SET attempts = least(attempts + 1, 1000) WHERE nid = ANY($1::bigint[])"


async def store(
    database: Executor, room_nid: int, received_ms: int, origin: str, events: Sequence[tuple[str, bytes]]
) -> int:
    """Keep events, as (event_id, json); how many were not kept already."""
    ids, jsons = [event_id for event_id, _ in events], [json for _, json in events]
    rows = await database.fetch(STORE, room_nid, received_ms, ids, [origin] * len(ids), jsons)
    return len(rows)


async def oldest(database: Executor, room_nid: int, limit: int) -> list[Row]:
    """Events of a room, those first that were tried least.

    Columns: nid, attempts, received_ms, event_id, origin, json.
    """
    return await database.fetch(OLDEST, room_nid, limit)


async def counts(database: Executor) -> list[Row]:
    """How many events wait in which rooms: room_nid, count."""
    return await database.fetch(COUNTS)


async def remove(database: Executor, nids: Sequence[int]) -> int:
    """Forget events that are dealt with; how many of them were still there."""
    return int(await database.fetchval(REMOVE, nids))


async def remove_of_room(database: Executor, room_nid: int) -> int:
    """Forget all events of a room; how many they were."""
    return int(await database.fetchval(REMOVE_OF_ROOM, room_nid))


async def remove_cited(database: Executor, room_nid: int, limit: int) -> int:
    """Forget the oldest events of a room that others of the same server come after, which wait too: they can
    be fetched as what is missing before these. How many they were."""
    return int(await database.fetchval(REMOVE_CITED, room_nid, limit))


async def remove_most_tried(database: Executor, room_nid: int, limit: int) -> int:
    """Forget events of a room for which was looked in vain, those first of the server with the most of them;
    how many they were."""
    return int(await database.fetchval(REMOVE_MOST_TRIED, room_nid, limit))


async def count_attempt(database: Executor, nids: Sequence[int]) -> None:
    """Note that what the events refer to was not to be had."""
    await database.execute(COUNT_ATTEMPT, nids)
