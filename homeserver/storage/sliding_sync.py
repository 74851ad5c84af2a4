"""Sliding sync: connections, and what the order and the filters of a user's rooms are made of.

Schema: migrations/0014_sliding_sync.sql.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from homeserver.storage.connection import Executor, Row

# Where the node's process dies, what was sent to the database is kept all the same; only a power failure of
# the database's machine can lose it, and then the client begins a new connection.
_WITHOUT_WAITING = "waiting AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))"
# A new connection takes the place of the one of the same name, and of those of the device that were not used
# for longest.
CREATE = f"""
WITH {_WITHOUT_WAITING}, surplus AS (
    DELETE FROM sliding_sync_connections WHERE device_nid = $2 AND conn_id IN (
        SELECT conn_id FROM sliding_sync_connections WHERE device_nid = $2 AND conn_id <> $3
        ORDER BY used_ms DESC OFFSET $7)
)
INSERT INTO sliding_sync_connections (number, device_nid, conn_id, used_ms, whole_generation, whole, deltas)
SELECT $1, $2, $3, $4, $5, $6, '[]' FROM waiting
ON CONFLICT (device_nid, conn_id) DO UPDATE SET number = excluded.number, used_ms = excluded.used_ms,
    whole_generation = excluded.whole_generation, whole = excluded.whole, deltas = excluded.deltas"""
WRITE_DELTAS = f"""
WITH {_WITHOUT_WAITING}
UPDATE sliding_sync_connections SET deltas = $2, used_ms = $3 FROM waiting WHERE number = $1
RETURNING 1"""
WRITE_WHOLE = f"""
WITH {_WITHOUT_WAITING}
UPDATE sliding_sync_connections SET whole_generation = $4, whole = $5, deltas = $2, used_ms = $3
FROM waiting WHERE number = $1
RETURNING 1"""
SELECT = """
SELECT number, used_ms, whole_generation, whole, deltas FROM sliding_sync_connections
WHERE device_nid = $1 AND conn_id = $2"""
TOUCH = "UPDATE sliding_sync_connections SET used_ms = $2 WHERE number = $1"
DELETE_UNUSED = """
DELETE FROM sliding_sync_connections WHERE number IN (
    SELECT number FROM sliding_sync_connections WHERE used_ms < $1 LIMIT $2)"""

# $2 names the rooms, all of them if NULL. The newest event of a room is one of its extremities. Of who is
# not in a room, `json` is the member event; of who left, `was_joined` whether they ever came in (canonical
# JSON has no spaces, and quotes inside of strings are escaped). Of rooms that this node is not in, `stripped`
# is what another server showed of them.
LISTED_ROOMS = """
SELECT m.room_nid, coalesce(r.room_id, x.room_id) AS room_id, m.membership, m.event_nid, m.since, m.forgotten,
    r.summary ->> 'name' AS name, coalesce(r.summary ? 'encryption', false) AS encrypted,
    r.summary ->> 'room_type' AS room_type,
    CASE WHEN m.membership = 'join' THEN (SELECT max(nid) FROM unnest(r.extremities) AS nid)
        ELSE greatest(m.event_nid, m.since) END AS activity,
    CASE WHEN m.membership <> 'join' THEN (SELECT e.json FROM events e WHERE e.nid = m.event_nid) END AS json,
    CASE WHEN o.event_nid = m.event_nid THEN o.stripped END AS stripped,
    m.membership IN ('leave', 'ban') AND EXISTS (
        SELECT 1 FROM events e
        WHERE e.room_nid = m.room_nid AND e.type = 'm.room.member' AND e.state_key = u.user_id
            AND e.flags = 0 AND position('"membership":"join"'::bytea IN e.json) > 0) AS was_joined
FROM users u JOIN memberships m ON m.user_nid = u.nid LEFT JOIN rooms r ON r.nid = m.room_nid
LEFT JOIN outside_rooms x ON x.room_nid = m.room_nid
LEFT JOIN outside_memberships o ON o.room_nid = m.room_nid AND o.user_nid = m.user_nid
WHERE u.user_id = $1 AND ($2::integer[] IS NULL OR m.room_nid = ANY($2::integer[]))"""

# The newest event of each room that counts as activity, among its last $4 ones.
NEWEST_OF_TYPES = """
SELECT room.nid, (
    SELECT newest.nid FROM (
        SELECT e.nid, e.type FROM events e
        WHERE e.room_nid = room.nid AND e.nid <= $2 AND e.nid > 0 AND e.flags = 0
        ORDER BY e.nid DESC LIMIT $4
    ) AS newest WHERE newest.type = ANY($3::text[]) ORDER BY newest.nid DESC LIMIT 1
) AS newest FROM unnest($1::integer[]) AS room (nid)"""


@dataclass(frozen=True, slots=True)
class ConnectionRow:
    """One stored connection; ``whole`` and ``deltas`` are JSON."""

    number: int
    used_ms: int
    whole_generation: int
    whole: bytes
    deltas: bytes


async def create_connection(
    database: Executor,
    number: int,
    device_nid: int,
    conn_id: str,
    used_ms: int,
    generation: int,
    whole: bytes,
    *,
    most: int,
) -> None:
    """Store a new connection in place of the one of the same name; the device keeps ``most`` of them."""
    await database.execute(CREATE, number, device_nid, conn_id, used_ms, generation, whole, most - 1)


async def fetch_connection(database: Executor, device_nid: int, conn_id: str) -> ConnectionRow | None:
    """A device's connection of this name."""
    row = await database.fetchrow(SELECT, device_nid, conn_id)
    return ConnectionRow(*row) if row is not None else None


async def write_deltas(database: Executor, number: int, deltas: bytes, used_ms: int) -> bool:
    """Replace what came after the whole state; False if the connection is gone."""
    return bool(await database.fetchval(WRITE_DELTAS, number, deltas, used_ms))


async def write_whole(
    database: Executor, number: int, deltas: bytes, used_ms: int, generation: int, whole: bytes
) -> bool:
    """Replace all of a connection's state; False if the connection is gone."""
    return bool(await database.fetchval(WRITE_WHOLE, number, deltas, used_ms, generation, whole))


async def touch_connection(database: Executor, number: int, used_ms: int) -> None:
    """Note that a connection is still in use."""
    await database.execute(TOUCH, number, used_ms)


async def delete_unused_connections(database: Executor, before_ms: int, limit: int) -> int:
    """Delete connections not used since a time; how many there were, at most ``limit``."""
    status: str = await database.execute(DELETE_UNUSED, before_ms, limit)
    return int(status.rpartition(" ")[2])


async def fetch_listed_rooms(
    database: Executor, user_id: str, room_nids: Sequence[int] | None = None
) -> list[Row]:
    """The user's rooms of any membership, or those of them that are named, with what lists need to know."""
    return await database.fetch(LISTED_ROOMS, user_id, room_nids)


async def fetch_newest_of_types(
    database: Executor, room_nids: Collection[int], upto: int, types: Sequence[str], depth: int
) -> dict[int, int]:
    """By room, the number of its newest event of some types among the last ``depth`` up to a position."""
    rows = await database.fetch(NEWEST_OF_TYPES, list(room_nids), upto, types, depth)
    return {row["nid"]: row["newest"] for row in rows if row["newest"] is not None}
