"""Which events relate to which: the schema is migrations/0001_engine.sql, `event_relations`.

Related events are taken in the order in which they came here (by number), in which what an event refers
to always stands before it.

`room_nid + 0` keeps the planner from the index by room, where it might go through all of the room's
relations for as long as it knows nothing of a young table.
"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.storage.connection import Executor, Row
from homeserver.storage.events import TIMELINE_COLUMNS

RECURSION_DEPTH = 3  # levels of relations: "Homeservers SHOULD traverse at least 3"
RECURSION_EVENTS_MAX = 20_000  # found on the way
REFERENCES_MAX = 500  # named in one bundle, the newest

# For each event and kind of bundled relation: how many relate to it, the newest, and whether the user's.
SUMMARIES = f"""
SELECT relates_to, rel_type, count(*) AS count, max(event_nid) AS latest,
    bool_or(sender = $4) AS participated,
    (array_agg(event_nid ORDER BY event_nid DESC) FILTER (WHERE rel_type = 'm.reference'))[:{REFERENCES_MAX}]
        AS event_nids
FROM event_relations
WHERE relates_to = ANY($1::text[]) AND rel_type IN ('m.replace', 'm.thread', 'm.reference')
    AND room_nid + 0 = $2 AND event_nid <= $3 AND NOT (sender = ANY($5::text[]))
GROUP BY relates_to, rel_type"""

# The newest few edits of events, given by id, type and sender; the newest first.
EDITS = f"""
SELECT original.event_id AS original_id, {TIMELINE_COLUMNS}
FROM unnest($1::text[], $2::text[], $3::text[]) AS original (event_id, type, sender)
CROSS JOIN LATERAL (
    SELECT events.* FROM event_relations r JOIN events ON events.nid = r.event_nid
    WHERE r.relates_to = original.event_id AND r.rel_type = 'm.replace' AND r.room_nid + 0 = $4
        AND r.event_nid <= $5 AND r.type = original.type AND r.sender = original.sender
        AND events.state_key IS NULL AND events.flags = 0
        AND (r.type = 'm.room.encrypted' OR position('"m.new_content"'::bytea IN events.json) > 0)
    ORDER BY events.origin_server_ts DESC, events.event_id COLLATE "C" DESC LIMIT 5
) e
ORDER BY e.origin_server_ts DESC, e.event_id COLLATE "C" DESC"""

BY_NIDS = f"SELECT {TIMELINE_COLUMNS} FROM events e WHERE e.nid = ANY($1::bigint[])"

# Kinds of relations and senders by target, for filters that ask for them.
SENDERS = """
SELECT DISTINCT relates_to, rel_type, sender FROM event_relations
WHERE relates_to = ANY($1::text[]) AND room_nid + 0 = $2"""

_NARROWED = "AND ($5::text IS NULL OR r.rel_type = $5) AND ($6::text IS NULL OR r.type = $6)"
_CHILDREN = f"""
SELECT {TIMELINE_COLUMNS} FROM (
    SELECT events.* FROM event_relations r JOIN events ON events.nid = r.event_nid
    WHERE r.relates_to = $1 AND r.room_nid + 0 = $2 AND r.event_nid > $3 AND r.event_nid <= $4 {_NARROWED}
        AND events.flags = 0
    ORDER BY r.event_nid {{order}} LIMIT $7
) e ORDER BY e.nid {{order}}"""
CHILDREN_BACKWARDS = _CHILDREN.format(order="DESC")
CHILDREN_FORWARDS = _CHILDREN.format(order="ASC")

_DESCENDANTS = f"""
WITH RECURSIVE related AS (
    SELECT r.event_nid, 1 AS level FROM event_relations r
    WHERE r.relates_to = $1 AND r.room_nid + 0 = $2 {_NARROWED}
    UNION
    SELECT r.event_nid, p.level + 1 FROM related p
    JOIN events parent ON parent.nid = p.event_nid
    JOIN event_relations r ON r.relates_to = parent.event_id
    WHERE p.level < {RECURSION_DEPTH} AND r.room_nid + 0 = $2 {_NARROWED}
), found AS (
    SELECT DISTINCT event_nid FROM (SELECT event_nid FROM related LIMIT {RECURSION_EVENTS_MAX}) AS bounded
)
SELECT {TIMELINE_COLUMNS} FROM (
    SELECT events.* FROM found f JOIN events ON events.nid = f.event_nid
    WHERE f.event_nid > $3 AND f.event_nid <= $4 AND events.flags = 0
    ORDER BY f.event_nid {{order}} LIMIT $7
) e ORDER BY e.nid {{order}}"""
DESCENDANTS_BACKWARDS = _DESCENDANTS.format(order="DESC")
DESCENDANTS_FORWARDS = _DESCENDANTS.format(order="ASC")

# Thread roots by their newest event below a number, which is found by walking back from there.
THREADS = f"""
WITH threads AS (
    SELECT r.relates_to, r.event_nid AS latest FROM event_relations r
    WHERE r.room_nid = $1 AND r.rel_type = 'm.thread' AND r.event_nid < $2
        AND NOT (r.sender = ANY($4::text[]))
        AND NOT EXISTS (
            SELECT FROM event_relations newer
            WHERE newer.relates_to = r.relates_to AND newer.rel_type = 'm.thread'
                AND newer.event_nid > r.event_nid AND newer.event_nid <= $3 AND newer.room_nid + 0 = $1
                AND NOT (newer.sender = ANY($4::text[]))
        )
    ORDER BY r.event_nid DESC LIMIT $6
)
SELECT t.latest, EXISTS (
    SELECT FROM event_relations own
    WHERE own.relates_to = t.relates_to AND own.rel_type = 'm.thread' AND own.sender = $5
) AS participated, {TIMELINE_COLUMNS}
FROM threads t LEFT JOIN events e ON e.event_id = t.relates_to AND e.room_nid = $1 AND e.flags = 0
ORDER BY t.latest DESC"""


async def summaries(
    database: Executor, room_nid: int, event_ids: Sequence[str], upto: int, user_id: str, ignored: list[str]
) -> list[Row]:
    """relates_to, rel_type, count, latest, participated, event_nids (of references, the newest first)."""
    return await database.fetch(SUMMARIES, event_ids, room_nid, upto, user_id, ignored)


async def edits(
    database: Executor, room_nid: int, originals: Sequence[tuple[str, str, str]], upto: int
) -> list[Row]:
    """Of each (event id, type, sender), the newest edits: a timeline's columns and original_id."""
    ids, types, senders = ([each[index] for each in originals] for index in range(3))
    return await database.fetch(EDITS, ids, types, senders, room_nid, upto)


async def by_nids(database: Executor, nids: Sequence[int]) -> list[Row]:
    """Events by number, in no order, with a timeline's columns."""
    return await database.fetch(BY_NIDS, nids)


async def senders(database: Executor, room_nid: int, event_ids: Sequence[str]) -> list[Row]:
    """Who relates to these events, and how: relates_to, rel_type, sender."""
    return await database.fetch(SENDERS, event_ids, room_nid)


async def children(
    database: Executor,
    room_nid: int,
    event_id: str,
    bounds: tuple[int, int],
    rel_type: str | None,
    event_type: str | None,
    limit: int,
    *,
    backwards: bool,
    recurse: bool,
) -> list[Row]:
    """Events with bounds[0] < number <= bounds[1] that relate to one; a timeline's columns."""
    if recurse:
        sql = DESCENDANTS_BACKWARDS if backwards else DESCENDANTS_FORWARDS
    else:
        sql = CHILDREN_BACKWARDS if backwards else CHILDREN_FORWARDS
    return await database.fetch(sql, event_id, room_nid, *bounds, rel_type, event_type, limit)


async def threads(
    database: Executor,
    room_nid: int,
    before: int,
    upto: int,
    ignored: list[str],
    user_id: str,
    limit: int,
) -> list[Row]:
    """Thread roots, those with the newest events first: a timeline's columns, latest, participated.

    The columns of a root are None where it is not known here. `before` bounds the newest event of a
    thread; events after `upto` do not count at all.
    """
    return await database.fetch(THREADS, room_nid, before, upto, ignored, user_id, limit)
