"""Events, their snapshots and relations: the schema is migrations/0001_engine.sql.

Rows of events have the columns of COLUMNS; `homeserver.rooms.event.Event.of_row` takes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from homeserver.storage.connection import Executor

Record = asyncpg.Record

COLUMNS = """e.nid, e.depth, e.origin_server_ts, e.replaces, e.redacted_by, e.room_nid, e.snapshot,
    e.device_nid, e.flags, e.event_id, e.type, e.state_key, e.txn_id, e.json"""
# Look-ups by key and not joins: whatever the planner thinks of the table's size, they stay look-ups.
REDACTION_COLUMNS = """(SELECT r.json FROM events r WHERE r.nid = e.redacted_by) AS redaction_json,
    (SELECT r.event_id FROM events r WHERE r.nid = e.redacted_by) AS redaction_id"""
TIMELINE_COLUMNS = f"""{COLUMNS},
    (SELECT p.json FROM events p WHERE p.nid = e.replaces) AS replaced_json,
    (SELECT p.event_id FROM events p WHERE p.nid = e.replaces) AS replaced_id, {REDACTION_COLUMNS}"""
# Of current state, nobody asks what was before.
STATE_COLUMNS = f"{COLUMNS}, NULL::bytea AS replaced_json, NULL::text AS replaced_id, {REDACTION_COLUMNS}"

# One statement a batch: the rooms' rows, if nobody else wrote them, and the events.
# Returns how many rooms were written.
WRITE_EVENTS = """
WITH written AS (
    UPDATE rooms SET generation = w.generation, snapshot = w.snapshot,
        extremities = string_to_array(w.extremities, ',')::bigint[],
        summary = coalesce(w.summary::jsonb, rooms.summary)
    FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::integer[], $5::text[], $6::text[])
        AS w (nid, expected, generation, snapshot, extremities, summary)
    WHERE rooms.nid = w.nid AND rooms.generation = w.expected
    RETURNING 1
), stored AS (
    INSERT INTO events (nid, depth, origin_server_ts, replaces, room_nid, snapshot, device_nid, flags,
        event_id, type, state_key, txn_id, json)
    SELECT * FROM unnest($7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::integer[],
        $12::integer[], $13::integer[], $14::smallint[], $15::text[], $16::text[], $17::text[],
        $18::text[], $19::bytea[])
)
SELECT count(*) FROM written"""

CREATE_ROOMS = """
INSERT INTO rooms (nid, room_id, version, generation, snapshot, extremities, summary)
SELECT nid, room_id, version, 0, 0, '{}', '{}' FROM unnest($1::integer[], $2::text[], $3::text[])
    AS r (nid, room_id, version)"""

WRITE_SNAPSHOTS = """
INSERT INTO state_snapshots (room_nid, number, parent, height, event_nids)
SELECT room_nid, number, parent, height, string_to_array(event_nids, ',')::bigint[]
FROM unnest($1::integer[], $2::integer[], $3::integer[], $4::integer[], $5::text[])
    AS s (room_nid, number, parent, height, event_nids)"""

INTERN_USERS = "INSERT INTO users (user_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING"

# since 0: the membership kept its value
WRITE_MEMBERSHIPS = """
INSERT INTO memberships AS m (user_nid, room_nid, event_nid, since, membership)
SELECT u.nid, w.room_nid, w.event_nid, w.since, w.membership
FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5::text[])
    AS w (user_id, room_nid, event_nid, since, membership)
    JOIN users u USING (user_id)
ON CONFLICT (user_nid, room_nid) DO UPDATE SET event_nid = excluded.event_nid,
    since = CASE WHEN excluded.since = 0 THEN m.since ELSE excluded.since END,
    membership = excluded.membership, forgotten = m.forgotten AND excluded.since = 0"""

WRITE_RELATIONS = """
INSERT INTO event_relations (event_nid, room_nid, relates_to, rel_type, type, sender, key)
SELECT *
FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])"""

REDACT = """
UPDATE events SET json = r.json, redacted_by = r.redacted_by
FROM unnest($1::bigint[], $2::bytea[], $3::bigint[]) AS r (nid, json, redacted_by)
WHERE events.nid = r.nid"""
UNRELATE = "DELETE FROM event_relations WHERE event_nid = ANY($1::bigint[])"

BY_NIDS = f"SELECT {COLUMNS} FROM events e WHERE e.nid = ANY($1::bigint[])"
BY_IDS = f"SELECT {TIMELINE_COLUMNS} FROM events e WHERE e.event_id = ANY($1::text[])"
BY_TRANSACTION = f"""
SELECT {COLUMNS} FROM events e
WHERE e.device_nid = $1 AND e.txn_id = $2 AND e.room_nid = $3 AND e.type = $4"""
OF_STATE_TYPE = f"""
SELECT {COLUMNS} FROM events e
WHERE e.room_nid = $1 AND e.type = $2 AND e.state_key = $3 AND e.flags & 2 = 0 ORDER BY e.nid"""

# The newest events of each room up to a position, newest first.
NEWEST_OF_ROOMS = f"""
SELECT {TIMELINE_COLUMNS} FROM unnest($1::integer[], $2::bigint[], $3::bigint[])
    AS room (nid, since, upto)
CROSS JOIN LATERAL (
    SELECT * FROM events WHERE room_nid = room.nid AND nid > room.since AND nid <= room.upto AND flags = 0
    ORDER BY nid DESC LIMIT $4
) e
ORDER BY e.room_nid, e.nid DESC"""

# State events of a room after one position and up to another, oldest first, and what resolution made
# current in between.
STATE_CHANGES = f"""
SELECT {STATE_COLUMNS} FROM (
    SELECT nid, nid AS position, 0 AS turn FROM events
    WHERE room_nid = $1 AND nid > $2 AND nid <= $3 AND state_key IS NOT NULL AND flags = 0
    UNION ALL
    SELECT unnest(event_nids), position, 1 FROM state_changes
    WHERE room_nid = $1 AND position > $2 AND position <= $3
) AS changed JOIN events e USING (nid)
ORDER BY changed.position, changed.turn"""

# Of each room, the newest events that could notify a user with the default push rules.
NEWEST_NOTIFYING = f"""
SELECT {COLUMNS} FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) AS room (nid, since, upto)
CROSS JOIN LATERAL (
    SELECT * FROM events
    WHERE room_nid = room.nid AND nid > room.since AND nid <= room.upto AND flags = 0
        AND (state_key IS NULL OR type = 'm.room.tombstone' OR (type = 'm.room.member' AND state_key = $4))
    ORDER BY nid DESC LIMIT $5
) e"""

SNAPSHOT_LAYERS = """
WITH RECURSIVE layers AS (
    SELECT number, parent, height, event_nids FROM state_snapshots WHERE room_nid = $1 AND number = $2
    UNION ALL
    SELECT s.number, s.parent, s.height, s.event_nids FROM layers l
    JOIN state_snapshots s ON s.room_nid = $1 AND s.number = l.parent
)
SELECT number, parent, height, event_nids FROM layers ORDER BY height"""

LAST_NUMBERS = """
SELECT (SELECT coalesce(max(number), 0) FROM state_snapshots WHERE room_nid = $1) AS snapshot,
    (SELECT coalesce(max(position), 0) FROM state_changes WHERE room_nid = $1) AS state_change"""


async def by_nids(database: Executor, nids: Sequence[int]) -> list[Record]:
    """Events by number, in no order."""
    return await database.fetch(BY_NIDS, nids)


async def by_ids(database: Executor, event_ids: Sequence[str]) -> list[Record]:
    """Events by id, in no order, with the columns of a timeline."""
    return await database.fetch(BY_IDS, event_ids)


async def by_transaction(
    database: Executor, device_nid: int, txn_id: str, room_nid: int, type: str
) -> Record | None:
    """The event that a device sent with this transaction id."""
    return await database.fetchrow(BY_TRANSACTION, device_nid, txn_id, room_nid, type)


async def of_state_type(database: Executor, room_nid: int, type: str, state_key: str) -> list[Record]:
    """Every event that a piece of state ever had, as far as is known here, oldest first; no rejected ones."""
    return await database.fetch(OF_STATE_TYPE, room_nid, type, state_key)


async def newest_of_rooms(
    database: Executor, rooms: Sequence[tuple[int, int, int]], limit: int
) -> list[Record]:
    """The `limit` newest events of each room, of (number, after, up to); newest first within a room."""
    return await database.fetch(
        NEWEST_OF_ROOMS, [r[0] for r in rooms], [r[1] for r in rooms], [r[2] for r in rooms], limit
    )


async def newest_notifying(
    database: Executor, rooms: Sequence[tuple[int, int, int]], user_id: str, limit: int
) -> list[Record]:
    """Of each room of (number, after, up to), at most `limit` events that may notify the user, in no order.

    State events are left out but for those that the default push rules know.
    """
    return await database.fetch(
        NEWEST_NOTIFYING,
        [r[0] for r in rooms],
        [r[1] for r in rooms],
        [r[2] for r in rooms],
        user_id,
        limit,
    )


async def state_changes(database: Executor, room_nid: int, since: int, upto: int) -> list[Record]:
    """State events with since < position <= upto, oldest first."""
    return await database.fetch(STATE_CHANGES, room_nid, since, upto)


async def snapshot_layers(database: Executor, room_nid: int, number: int) -> list[Record]:
    """The layers of a snapshot, lowest first: number, parent, height, event_nids."""
    return await database.fetch(SNAPSHOT_LAYERS, room_nid, number)


async def last_numbers(database: Executor, room_nid: int) -> tuple[int, int]:
    """The room's highest snapshot number, and the position of the last change by resolution; 0 for none."""
    [row] = await database.fetch(LAST_NUMBERS, room_nid)
    return row["snapshot"], row["state_change"]
