"""Events from other servers: the schema is migrations/0007_received_events.sql."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from homeserver.storage.connection import Connection, Executor
from homeserver.storage.events import COLUMNS

Record = asyncpg.Record

ROWS_AT_ONCE = 1000

PAST_NIDS = "SELECT nextval('past_nids') AS nid FROM generate_series(1, $1::integer)"

STORE = """
INSERT INTO events (nid, depth, origin_server_ts, room_nid, snapshot, flags, event_id, type, state_key, json)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::integer[], $6::smallint[],
    $7::text[], $8::text[], $9::text[], $10::bytea[])
ON CONFLICT (nid) DO UPDATE SET flags = excluded.flags, snapshot = excluded.snapshot"""

# An outlier takes its place in the graph.
PLACE = """
UPDATE events SET flags = 0, snapshot = p.snapshot
FROM unnest($1::bigint[], $2::integer[]) AS p (nid, snapshot) WHERE events.nid = p.nid"""

WRITE_STATE_CHANGES = """
INSERT INTO state_changes (room_nid, position, event_nids)
SELECT room_nid, position, string_to_array(event_nids, ',')::bigint[]
FROM unnest($1::integer[], $2::bigint[], $3::text[]) AS c (room_nid, position, event_nids)"""

WRITE_PENDING_REDACTIONS = """
INSERT INTO pending_redactions (redacts, event_nid) SELECT * FROM unnest($1::text[], $2::bigint[])
ON CONFLICT DO NOTHING"""

# Look-ups by key, which OFFSET 0 keeps apart from the room: in a table that has grown since it was looked at
# last, the planner would rather read all of the room.
KNOWN = f"""
SELECT {COLUMNS} FROM unnest($2::text[]) AS wanted (event_id)
CROSS JOIN LATERAL (SELECT * FROM events WHERE event_id = wanted.event_id OFFSET 0) AS e
WHERE e.room_nid = $1"""

KNOWN_IDS = """
SELECT e.event_id, e.type, e.state_key, e.flags FROM unnest($2::text[]) AS wanted (event_id)
CROSS JOIN LATERAL (SELECT * FROM events WHERE event_id = wanted.event_id OFFSET 0) AS e
WHERE e.room_nid = $1"""

IN_OTHER_ROOMS = """
SELECT e.event_id FROM unnest($2::text[]) AS wanted (event_id)
CROSS JOIN LATERAL (SELECT * FROM events WHERE event_id = wanted.event_id OFFSET 0) AS e
WHERE e.room_nid <> $1"""

PENDING_REDACTIONS = f"""
SELECT p.redacts, {COLUMNS} FROM pending_redactions p
CROSS JOIN LATERAL (SELECT * FROM events WHERE nid = p.event_nid OFFSET 0) AS e
WHERE p.redacts = ANY($1::text[]) AND e.room_nid = $2 ORDER BY e.nid"""

# Events of some depths with one prev event each, and the state before them.
FOLLOWING = """
SELECT e.snapshot, ARRAY(
    SELECT CASE json_typeof(reference) WHEN 'array' THEN reference ->> 0 ELSE reference #>> '{}' END
    FROM json_array_elements(convert_from(e.json, 'UTF8')::json -> 'prev_events') AS reference
) AS prev_events
FROM events e
WHERE e.room_nid = $1 AND e.flags = 0 AND e.snapshot >= 0
    AND json_array_length(convert_from(e.json, 'UTF8')::json -> 'prev_events') = 1
    AND e.depth BETWEEN $2 AND $3
ORDER BY e.depth, e.nid LIMIT 200"""

# What is reachable by auth_events, down to what is known already. Room versions 1 and 2 refer to events as
# [event_id, hashes]. UNION ends on a cycle.
AUTH_EDGES = """
WITH RECURSIVE reached AS (
    SELECT unnest($2::text[]) AS event_id
    UNION
    SELECT CASE json_typeof(reference) WHEN 'array' THEN reference ->> 0 ELSE reference #>> '{}' END
    FROM reached
    CROSS JOIN LATERAL (SELECT * FROM events WHERE event_id = reached.event_id OFFSET 0) AS e
    CROSS JOIN LATERAL json_array_elements(convert_from(e.json, 'UTF8')::json -> 'auth_events') AS reference
    WHERE e.room_nid = $1 AND NOT reached.event_id = ANY($3::text[])
)
SELECT e.event_id, e.flags, ARRAY(
    SELECT CASE json_typeof(reference) WHEN 'array' THEN reference ->> 0 ELSE reference #>> '{}' END
    FROM json_array_elements(convert_from(e.json, 'UTF8')::json -> 'auth_events') AS reference
) AS auth_events
FROM reached CROSS JOIN LATERAL (SELECT * FROM events WHERE event_id = reached.event_id OFFSET 0) AS e
WHERE e.room_nid = $1 AND NOT e.event_id = ANY($3::text[])
LIMIT $4"""


async def following(database: Executor, room_nid: int, lowest: int, highest: int) -> list[Record]:
    """Events between two depths with one prev event each: snapshot, prev_events."""
    return await database.fetch(FOLLOWING, room_nid, lowest, highest)


async def next_past_nids(database: Executor, count: int) -> list[int]:
    """Numbers for events that did not arrive live, descending."""
    return [row["nid"] for row in await database.fetch(PAST_NIDS, count)]


async def known(database: Executor, room_nid: int, event_ids: Sequence[str]) -> list[Record]:
    """Those of the events that the room has, of whatever flags."""
    return await database.fetch(KNOWN, room_nid, event_ids)


async def known_ids(database: Executor, room_nid: int, event_ids: Sequence[str]) -> list[Record]:
    """As `known`, with less of each: event_id, type, state_key, flags."""
    return await database.fetch(KNOWN_IDS, room_nid, event_ids)


async def in_other_rooms(database: Executor, room_nid: int, event_ids: Sequence[str]) -> set[str]:
    """Those of the events that other rooms have."""
    return {row["event_id"] for row in await database.fetch(IN_OTHER_ROOMS, room_nid, event_ids)}


async def pending_redactions(database: Executor, room_nid: int, event_ids: Sequence[str]) -> list[Record]:
    """Redactions that waited for one of the events: as rows of events, with `redacts`."""
    return await database.fetch(PENDING_REDACTIONS, event_ids, room_nid)


async def auth_edges(
    database: Executor, room_nid: int, event_ids: Sequence[str], known_ids: Sequence[str], limit: int
) -> list[Record]:
    """Events and all behind them, but for what is known: event_id, flags, auth_events."""
    return await database.fetch(AUTH_EDGES, room_nid, event_ids, known_ids, limit)


async def store(connection: Connection, rows: Sequence[tuple[object, ...]]) -> None:
    """Write events that did not arrive live: the columns of STORE.

    In portions: sending a whole large room's state would hold up everything else on the event loop.
    """
    for start in range(0, len(rows), ROWS_AT_ONCE):
        columns = zip(*rows[start : start + ROWS_AT_ONCE], strict=True)
        await connection.execute(STORE, *(list(column) for column in columns))
