"""Memberships of rooms that this node is not in. Schema: migrations/0011_outside_rooms.sql."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from homeserver.storage.connection import Connection, Executor
from homeserver.storage.events import COLUMNS

Record = asyncpg.Record

NUMBER = """
SELECT nid AS room_nid FROM rooms WHERE room_id = $1
UNION ALL SELECT room_nid FROM outside_rooms WHERE room_id = $1 LIMIT 1"""

WRITE_ROOMS = """
INSERT INTO outside_rooms (room_nid, room_id, version)
SELECT * FROM unnest($1::integer[], $2::text[], $3::text[]) AS r (room_nid, room_id, version)
WHERE NOT EXISTS (SELECT 1 FROM rooms WHERE rooms.nid = r.room_nid)
ON CONFLICT DO NOTHING"""

WRITE_MEMBERSHIPS = """
INSERT INTO outside_memberships (user_nid, room_nid, event_nid, servers, stripped)
SELECT u.nid, w.room_nid, w.event_nid, string_to_array(w.servers, ' '), w.stripped
FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::text[], $5::bytea[])
    AS w (user_id, room_nid, event_nid, servers, stripped) JOIN users u USING (user_id)
ON CONFLICT (user_nid, room_nid) DO UPDATE SET event_nid = excluded.event_nid, servers = excluded.servers,
    stripped = excluded.stripped"""

MEMBERSHIPS = """
SELECT u.user_id, m.membership FROM outside_memberships o JOIN memberships m USING (user_nid, room_nid)
JOIN users u ON u.nid = o.user_nid WHERE o.room_nid = $1 AND o.event_nid = m.event_nid"""

END = "DELETE FROM outside_memberships WHERE room_nid = ANY($1::integer[])"

_SELECT = f"""
SELECT o.room_nid AS outside_nid, coalesce(r.room_id, x.room_id) AS room_id,
    coalesce(r.version, x.version) AS version, o.servers, o.stripped, {COLUMNS}
FROM outside_memberships o JOIN events e ON e.nid = o.event_nid
LEFT JOIN rooms r ON r.nid = o.room_nid LEFT JOIN outside_rooms x ON x.room_nid = o.room_nid"""

OF_USER = f"""{_SELECT} WHERE o.user_nid = $1 AND o.room_nid = ANY($2::integer[])"""

OF_USER_AND_ROOM = f"""{_SELECT}
WHERE o.user_nid = (SELECT nid FROM users WHERE user_id = $1) AND coalesce(r.room_id, x.room_id) = $2
    AND o.event_nid = (SELECT event_nid FROM memberships m
        WHERE m.user_nid = o.user_nid AND m.room_nid = o.room_nid)"""


async def number(database: Executor, room_id: str) -> int | None:
    """The number of a room that is known, or that users are invited to; None for any other."""
    found = await database.fetchval(NUMBER, room_id)
    return int(found) if found is not None else None


async def of_user(database: Executor, user_nid: int, room_nids: Sequence[int]) -> list[Record]:
    """The user's memberships: outside_nid, room_id, version, servers, stripped, and an event's columns."""
    return await database.fetch(OF_USER, user_nid, room_nids)


async def of_user_and_room(database: Executor, user_id: str, room_id: str) -> Record | None:
    """As `of_user`, of one room, if the membership is the user's present one."""
    return await database.fetchrow(OF_USER_AND_ROOM, user_id, room_id)


async def memberships(database: Executor, room_nid: int) -> dict[str, str]:
    """The present memberships of a room that are of this kind, by user id."""
    rows = await database.fetch(MEMBERSHIPS, room_nid)
    return {row["user_id"]: row["membership"] for row in rows}


async def write(
    connection: Connection,
    rooms: Sequence[tuple[int, str, str]],
    memberships: Sequence[tuple[str, int, int, str, bytes]],
) -> None:
    """Store rooms (number, id, version) and memberships (user id, room, event, servers, stripped state)."""
    await connection.execute(WRITE_ROOMS, *(list(column) for column in zip(*rooms, strict=True)))
    columns = (list(column) for column in zip(*memberships, strict=True))
    await connection.execute(WRITE_MEMBERSHIPS, *columns)


async def end(connection: Connection, room_nids: Sequence[int]) -> None:
    """Forget all such memberships of rooms that this node has entered."""
    await connection.execute(END, room_nids)
