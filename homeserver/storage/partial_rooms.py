"""Rooms whose members are not all known. Schema: migrations/0018_partial_rooms.sql."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeserver.storage.connection import Connection, Executor

INSERT = """
INSERT INTO partial_rooms (room_nid, join_event_id, first_snapshot, servers) VALUES ($1, $2, $3, $4)"""
SELECT_ALL = """
SELECT r.room_id, p.room_nid, p.join_event_id, p.first_snapshot, p.servers
FROM partial_rooms p JOIN rooms r ON r.nid = p.room_nid"""
SELECT = f"{SELECT_ALL} WHERE r.room_id = $1"
DELETE = "DELETE FROM partial_rooms WHERE room_nid = $1"
MEMBERS = """
SELECT event_id, nid, state_key FROM events
WHERE room_nid = $1 AND event_id = ANY($2::text[]) AND type = 'm.room.member' AND flags & 2 = 0"""

# Each layer that starts a state gets the members that it lacks; all states above it have them then.
COMPLETE_LAYERS = """
WITH members AS (
    SELECT e.nid, e.state_key AS user_id
    FROM unnest(string_to_array($3, ',')::bigint[]) AS m (nid) JOIN events e USING (nid)
), roots AS (
    SELECT number, event_nids FROM state_snapshots WHERE room_nid = $1 AND parent = 0 AND number >= $2
), present AS (
    SELECT r.number, e.state_key FROM roots r CROSS JOIN unnest(r.event_nids) AS n (nid)
    JOIN events e ON e.nid = n.nid WHERE e.type = 'm.room.member'
), lacking AS (
    SELECT r.number, array_agg(m.nid) AS nids
    FROM roots r CROSS JOIN members m
    LEFT JOIN present p ON p.number = r.number AND p.state_key = m.user_id
    WHERE p.number IS NULL GROUP BY r.number
)
UPDATE state_snapshots s SET event_nids = l.nids || s.event_nids
FROM lacking l WHERE s.room_nid = $1 AND s.number = l.number"""

INTERN_MEMBERS = """
INSERT INTO users (user_id)
SELECT e.state_key FROM unnest(string_to_array($1, ',')::bigint[]) AS m (nid) JOIN events e USING (nid)
ORDER BY 1 ON CONFLICT DO NOTHING"""

# What other servers told of users while this node was not in the room is older than the join: by the state
# before that it is so or not. Who is not in the state at all has left, as of the join.
CORRECT_MEMBERSHIPS = """
WITH entry AS (
    SELECT e.nid FROM partial_rooms p JOIN events e ON e.event_id = p.join_event_id WHERE p.room_nid = $1
), told AS (
    SELECT m.user_nid, u.user_id FROM memberships m JOIN users u ON u.nid = m.user_nid, entry
    WHERE m.room_nid = $1 AND m.since < entry.nid AND m.event_nid < entry.nid
), stated AS (
    SELECT told.user_nid, told.user_id, coalesce(known.nid, entry.nid) AS event_nid,
        coalesce(known.membership, 'leave') AS membership
    FROM entry CROSS JOIN told LEFT JOIN (
        SELECT m.nid, m.membership, e.state_key
        FROM unnest(string_to_array($3, ',')::bigint[], string_to_array($4, ',')) AS m (nid, membership)
            JOIN events e USING (nid)
    ) AS known ON known.state_key = told.user_id
)
UPDATE memberships m SET event_nid = stated.event_nid, since = $2, membership = stated.membership,
    forgotten = false
FROM stated WHERE m.room_nid = $1 AND m.user_nid = stated.user_nid AND m.membership <> stated.membership
RETURNING stated.user_id, m.event_nid, m.membership"""

# Whoever has come, gone or been invited since is known better already.
WRITE_MEMBERSHIPS = """
INSERT INTO memberships (user_nid, room_nid, event_nid, since, membership)
SELECT u.nid, $1, m.nid, $2, m.membership
FROM unnest(string_to_array($3, ',')::bigint[], string_to_array($4, ',')) AS m (nid, membership)
    JOIN events e USING (nid) JOIN users u ON u.user_id = e.state_key
ON CONFLICT DO NOTHING"""

FINISH = """
UPDATE rooms SET generation = generation + 1,
    summary = jsonb_set(summary, '{num_joined_members}', to_jsonb($3::integer))
WHERE nid = $1 AND generation = $2 RETURNING 1"""


@dataclass(frozen=True, slots=True)
class PartialRoomRow:
    """One such room."""

    room_id: str
    room_nid: int
    join_event_id: str
    first_snapshot: int
    servers: Sequence[str]


async def insert(
    connection: Connection, room_nid: int, join_event_id: str, first_snapshot: int, servers: Sequence[str]
) -> None:
    """Keep in mind that a room lacks members."""
    await connection.execute(INSERT, room_nid, join_event_id, first_snapshot, list(servers))


async def fetch_all(database: Executor) -> list[PartialRoomRow]:
    """All such rooms."""
    return [PartialRoomRow(*row) for row in await database.fetch(SELECT_ALL)]


async def fetch(database: Executor, room_id: str) -> PartialRoomRow | None:
    """The room's row, if it lacks members."""
    row = await database.fetchrow(SELECT, room_id)
    return PartialRoomRow(*row) if row is not None else None


async def members(database: Executor, room_nid: int, event_ids: Sequence[str]) -> list[tuple[str, int, str]]:
    """Those of the events that are stored member events and were not rejected: id, number, user."""
    return [tuple(row) for row in await database.fetch(MEMBERS, room_nid, event_ids)]


async def complete(
    connection: Connection,
    room_nid: int,
    first_snapshot: int,
    position: int,
    members: Sequence[tuple[int, str]],
) -> list[tuple[str, int, str]]:
    """Add members to the states that lack them: numbers of member events that stand, and the memberships.

    Returns the user, the number of the event and the membership of those of whom something else was known.
    """
    # Ten thousand elements as arrays cost the driver a stall of the event loop.
    nids = ",".join([str(nid) for nid, _ in members])
    await connection.execute(COMPLETE_LAYERS, room_nid, first_snapshot, nids)
    await connection.execute(INTERN_MEMBERS, nids)
    memberships = ",".join([membership for _, membership in members])
    corrected = await connection.fetch(CORRECT_MEMBERSHIPS, room_nid, position, nids, memberships)
    await connection.execute(WRITE_MEMBERSHIPS, room_nid, position, nids, memberships)
    return [tuple(row) for row in corrected]


async def delete(connection: Connection, room_nid: int) -> None:
    """The room lacks nobody any more."""
    await connection.execute(DELETE, room_nid)
