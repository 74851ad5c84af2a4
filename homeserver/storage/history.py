"""The past of rooms: pages of events in history order, states, and what decides who may see an event.

History order is (depth, nid). The schema is migrations/0001_engine.sql.
"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.storage.connection import Executor, Row
from homeserver.storage.events import COLUMNS, STATE_COLUMNS, TIMELINE_COLUMNS

MEMBER_EVENTS_MAX = 10_000  # of one user in one room, newest first: no honest history is longer

_PAGE = f"""
SELECT {TIMELINE_COLUMNS} FROM (
    SELECT * FROM events WHERE room_nid = $1 AND flags = 0 AND (depth, nid) > ($2, $3)
        AND (depth, nid) <= ($4, $5)
    ORDER BY depth {{order}}, nid {{order}} LIMIT $6
) e ORDER BY e.depth {{order}}, e.nid {{order}}"""
PAGE_BACKWARDS = _PAGE.format(order="DESC")
PAGE_FORWARDS = _PAGE.format(order="ASC")

# What arrived late stands at a lower depth, so the point after a position is that after the deepest of
# the newest few.
POINT_OF_POSITION = """
SELECT depth, nid FROM (
    SELECT depth, nid FROM events WHERE room_nid = $1 AND nid <= $2 AND flags = 0 ORDER BY nid DESC LIMIT 10
) AS newest ORDER BY depth DESC, nid DESC LIMIT 1"""

POINT_BEFORE_NEXT = """
SELECT depth, nid - 1 AS nid FROM events WHERE room_nid = $1 AND nid > $2 AND flags = 0
ORDER BY nid LIMIT 1"""

EVENT_BEFORE_POINT = f"""
SELECT {COLUMNS} FROM events e
WHERE e.room_nid = $1 AND e.flags = 0 AND (e.depth, e.nid) <= ($2, $3)
ORDER BY e.depth DESC, e.nid DESC LIMIT 1"""

_BY_TIME = f"""
SELECT {COLUMNS} FROM events e
WHERE e.room_nid = $1 AND e.flags = 0 AND (e.origin_server_ts, e.nid) {{after}} ($2, $3)
    AND e.origin_server_ts {{after}}= $2
ORDER BY e.origin_server_ts {{order}}, e.nid {{order}} LIMIT $4"""
AFTER_TIME = _BY_TIME.format(after=">", order="ASC")
BEFORE_TIME = _BY_TIME.format(after="<", order="DESC")

# State events by number, with what redacted them but without what they replaced.
STATE_EVENTS = f"""
SELECT {STATE_COLUMNS} FROM events e WHERE e.nid = ANY($1::bigint[])"""

MEMBER_EVENTS = """
SELECT nid, depth, snapshot, flags, json FROM events
WHERE room_nid = $1 AND type = 'm.room.member' AND state_key = $2 ORDER BY nid DESC LIMIT $3"""

# For each user, the member event that was in force at a position.
MEMBERS_AT = f"""
SELECT {STATE_COLUMNS}
FROM unnest($2::text[]) AS wanted (user_id)
CROSS JOIN LATERAL (
    SELECT * FROM events
    WHERE room_nid = $1 AND type = 'm.room.member' AND state_key = wanted.user_id AND nid <= $3 AND flags = 0
    ORDER BY nid DESC LIMIT 1
) e"""

# Whatever may have decided on a user's view of the room: history visibility, and the user's membership.
DECIDING_EVENTS = """
SELECT nid, type, json FROM events
WHERE room_nid = $1 AND type = 'm.room.history_visibility' AND state_key = ''
UNION ALL
(SELECT nid, type, json FROM events
WHERE room_nid = $1 AND type = 'm.room.member' AND state_key = $2 ORDER BY nid DESC LIMIT $3)"""

# The same for a server: its users' member events. What a layer holds of one user is the newest, whatever
# the order of these rows.
DECIDING_EVENTS_OF_SERVER = """
SELECT nid, type, state_key, json FROM events
WHERE room_nid = $1 AND type = 'm.room.history_visibility' AND state_key = ''
UNION ALL
(SELECT nid, type, state_key, json FROM events
WHERE room_nid = $1 AND type = 'm.room.member' AND right(state_key, length($2)) = $2
ORDER BY nid DESC LIMIT $3)"""

# The layers of several snapshots, each with those of its events that are among $3.
LAYERS_WITH = """
WITH RECURSIVE layers AS (
    SELECT number, parent, event_nids FROM state_snapshots
    WHERE room_nid = $1 AND number = ANY($2::integer[])
    UNION
    SELECT s.number, s.parent, s.event_nids FROM layers l
    JOIN state_snapshots s ON s.room_nid = $1 AND s.number = l.parent
)
SELECT number, parent,
    ARRAY(SELECT unnest(event_nids) INTERSECT SELECT unnest($3::bigint[])) AS event_nids
FROM layers"""


async def page(
    database: Executor,
    room_nid: int,
    after: tuple[int, int],
    upto: tuple[int, int],
    limit: int,
    *,
    backwards: bool,
) -> list[Row]:
    """Events with after < (depth, nid) <= upto, in history order or its reverse; a timeline's columns."""
    sql = PAGE_BACKWARDS if backwards else PAGE_FORWARDS
    return await database.fetch(sql, room_nid, *after, *upto, limit)


async def point_of_position(database: Executor, room_nid: int, position: int) -> tuple[int, int] | None:
    """(depth, nid) of the room's last event up to a position of the log; None before its first."""
    row = await database.fetchrow(POINT_OF_POSITION, room_nid, position)
    return (row["depth"], row["nid"]) if row is not None else None


async def point_before_next(database: Executor, room_nid: int, position: int) -> tuple[int, int] | None:
    """(depth, nid) just before the room's first event after a position of the log; None if there is none."""
    row = await database.fetchrow(POINT_BEFORE_NEXT, room_nid, position)
    return (row["depth"], row["nid"]) if row is not None else None


async def event_before_point(database: Executor, room_nid: int, point: tuple[int, int]) -> Row | None:
    """The last event up to a point of the history."""
    return await database.fetchrow(EVENT_BEFORE_POINT, room_nid, *point)


async def near_time(
    database: Executor, room_nid: int, ts: int, nid: int, limit: int, *, forwards: bool
) -> list[Row]:
    """Events beyond (origin_server_ts, nid), the nearest first."""
    return await database.fetch(AFTER_TIME if forwards else BEFORE_TIME, room_nid, ts, nid, limit)


async def state_events(database: Executor, nids: Sequence[int]) -> list[Row]:
    """State events by number, in no order, with a timeline's columns."""
    return await database.fetch(STATE_EVENTS, nids)


async def member_events(database: Executor, room_nid: int, user_id: str) -> list[Row]:
    """A user's member events in a room, newest first: nid, depth, snapshot, flags, json."""
    return await database.fetch(MEMBER_EVENTS, room_nid, user_id, MEMBER_EVENTS_MAX)


async def members_at(database: Executor, room_nid: int, user_ids: Sequence[str], position: int) -> list[Row]:
    """The users' member events in force at a position, with a timeline's columns."""
    return await database.fetch(MEMBERS_AT, room_nid, user_ids, position)


async def deciding_events(database: Executor, room_nid: int, user_id: str) -> list[Row]:
    """The room's history visibility events and the user's member events: nid, type, json."""
    return await database.fetch(DECIDING_EVENTS, room_nid, user_id, MEMBER_EVENTS_MAX)


async def deciding_events_of_server(database: Executor, room_nid: int, server: str) -> list[Row]:
    """The room's history visibility events and a server's member events: nid, type, state_key, json."""
    return await database.fetch(DECIDING_EVENTS_OF_SERVER, room_nid, f":{server}", MEMBER_EVENTS_MAX)


async def layers_with(
    database: Executor, room_nid: int, numbers: Sequence[int], nids: Sequence[int]
) -> list[Row]:
    """The layers below these snapshots: number, parent, and which of the events `nids` each holds."""
    return await database.fetch(LAYERS_WITH, room_nid, numbers, nids)
