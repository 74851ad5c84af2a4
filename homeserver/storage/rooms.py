"""Rooms and memberships: the schema is migrations/0001_engine.sql."""

from __future__ import annotations

from collections.abc import Collection

import asyncpg

from homeserver.storage.connection import Executor

Record = asyncpg.Record

NEXT_NID = "SELECT nextval('room_nids')"
_ROOM = """
SELECT nid, room_id, version, generation, snapshot, extremities,
    (SELECT servers FROM partial_rooms WHERE room_nid = nid) AS partial_servers
FROM rooms"""
BY_ID = f"{_ROOM} WHERE room_id = $1"
BY_NID = f"{_ROOM} WHERE nid = $1"

MEMBERSHIPS_OF_USERS = """
SELECT u.user_id, m.room_nid, coalesce(r.room_id, x.room_id) AS room_id, m.event_nid, m.since, m.membership,
    m.forgotten, o.event_nid IS NOT DISTINCT FROM m.event_nid AS outside
FROM users u JOIN memberships m ON m.user_nid = u.nid LEFT JOIN rooms r ON r.nid = m.room_nid
LEFT JOIN outside_rooms x ON x.room_nid = m.room_nid
LEFT JOIN outside_memberships o ON o.room_nid = m.room_nid AND o.user_nid = m.user_nid
WHERE u.user_id = ANY($1::text[])"""
CHANGED = """
SELECT room.nid FROM unnest($1::integer[]) AS room (nid)
WHERE EXISTS (SELECT 1 FROM events e WHERE e.room_nid = room.nid AND e.nid > $2 AND e.nid <= $3)
    OR EXISTS (
        SELECT 1 FROM state_changes c
        WHERE c.room_nid = room.nid AND c.position > $2 AND c.position <= $3)
    OR EXISTS (SELECT 1 FROM receipts r WHERE r.room_nid = room.nid AND r.position > $2)"""
FORGET = """
UPDATE memberships SET forgotten = true
WHERE user_nid = (SELECT nid FROM users WHERE user_id = $1) AND room_nid = $2
    AND membership IN ('leave', 'ban')  -- who comes back just now has not forgotten
RETURNING 1"""


async def next_nid(database: Executor) -> int:
    """A number for a new room."""
    return int(await database.fetchval(NEXT_NID))


async def by_id(database: Executor, room_id: str) -> Record | None:
    """The room's row: nid, room_id, version, generation, snapshot, extremities, partial_servers."""
    return await database.fetchrow(BY_ID, room_id)


async def by_nid(database: Executor, nid: int) -> Record | None:
    """As `by_id`."""
    return await database.fetchrow(BY_NID, nid)


async def memberships_of_users(database: Executor, user_ids: Collection[str]) -> dict[str, list[Record]]:
    """Each user's rooms of any membership: room_nid, room_id, event_nid, since, membership, forgotten,
    outside."""
    found: dict[str, list[Record]] = {user_id: [] for user_id in user_ids}
    for row in await database.fetch(MEMBERSHIPS_OF_USERS, list(user_ids)):
        found[row["user_id"]].append(row)
    return found


async def forget(database: Executor, user_id: str, room_nid: int) -> bool:
    """Hide a room from a user who has left it; False if they have not."""
    return bool(await database.fetchval(FORGET, user_id, room_nid))


async def changed_rooms(database: Executor, nids: list[int], since: int, upto: int) -> list[int]:
    """Those of the rooms with events or receipts after a position."""
    if not nids:
        return []
    return [row["nid"] for row in await database.fetch(CHANGED, nids, since, upto)]
