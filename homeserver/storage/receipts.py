"""Receipts: how far each user has read a room, one row a user, type and thread.

Source: Client-Server API, "Receipts": "Each user_id, receipt_type, and categorisation (unthreaded,
or thread_id) tuple must be associated with only a single event_id."
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from homeserver.storage.connection import Connection, Pool

READ = "m.read"
READ_PRIVATE = "m.read.private"
UNTHREADED = ""
MAIN_TIMELINE = "main"
THREAD_HOPS_MAX = 3  # "a maximum of 3 hops is recommended to cover indirect relationships"

SELECT_SINCE = """
SELECT receipts.room_nid, users.user_id, receipts.type, receipts.thread_id, receipts.event_id,
    receipts.event_nid, receipts.ts
FROM receipts JOIN users ON users.nid = receipts.user_nid
WHERE receipts.room_nid = ANY($1::int[]) AND receipts.position > $2
    AND (receipts.type <> 'm.read.private' OR users.user_id = $3)
ORDER BY receipts.position
"""
SELECT_AT_EVENTS = """
SELECT receipts.room_nid, users.user_id, receipts.type, receipts.thread_id, receipts.event_id,
    receipts.event_nid, receipts.ts
FROM receipts JOIN users ON users.nid = receipts.user_nid
WHERE receipts.room_nid = ANY($1::int[]) AND (
    users.user_id = $3 OR (receipts.type = 'm.read' AND receipts.event_nid = ANY($2::bigint[])))
ORDER BY receipts.position
"""
SELECT_READ_MARKS = """
SELECT room_nid, thread_id, max(event_nid) AS event_nid FROM receipts
WHERE user_nid = $1 AND room_nid = ANY($2::int[]) AND type IN ('m.read', 'm.read.private')
GROUP BY room_nid, thread_id
"""
SELECT_TARGET = """
SELECT events.nid, receipts.event_nid AS current FROM events
LEFT JOIN receipts ON receipts.room_nid = events.room_nid AND receipts.user_nid = $3
    AND receipts.type = $4 AND receipts.thread_id = $5
WHERE events.event_id = $1 AND events.room_nid = $2
"""
SELECT_TARGETS = """
SELECT told.number, users.nid AS user_nid, coalesce(events.nid, 0) AS event_nid, receipts.event_nid AS current
FROM unnest($2::int[], $3::text[], $4::text[], $5::text[], $6::text[])
    AS told (number, user_id, type, thread_id, event_id)
JOIN users ON users.user_id = told.user_id
LEFT JOIN LATERAL (
    SELECT nid, room_nid FROM events WHERE event_id = told.event_id OFFSET 0
) AS events ON events.room_nid = $1
LEFT JOIN receipts ON receipts.room_nid = $1 AND receipts.user_nid = users.nid
    AND receipts.type = told.type AND receipts.thread_id = told.thread_id
"""
# By id, whatever the planner believes of the room's size.
SELECT_EVENT_NIDS = """
SELECT e.event_id, e.nid FROM unnest($1::text[]) AS wanted (event_id)
CROSS JOIN LATERAL (SELECT * FROM events WHERE event_id = wanted.event_id OFFSET 0) AS e
WHERE e.room_nid = $2
"""
SELECT_ANCESTORS = """
WITH RECURSIVE ancestors AS (
    SELECT relates_to, rel_type, 1 AS hops FROM event_relations WHERE event_nid = $1
    UNION ALL
    SELECT event_relations.relates_to, event_relations.rel_type, ancestors.hops + 1
    FROM ancestors
    JOIN events ON events.event_id = ancestors.relates_to AND events.room_nid = $2
    JOIN event_relations ON event_relations.event_nid = events.nid
    WHERE ancestors.hops < $3 AND ancestors.rel_type <> 'm.thread'
)
SELECT relates_to, rel_type FROM ancestors ORDER BY hops
"""
UPSERT = """
INSERT INTO receipts (room_nid, user_nid, position, event_nid, ts, type, thread_id, event_id)
SELECT * FROM unnest(
    $1::int[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[])
ON CONFLICT (room_nid, user_nid, type, thread_id) DO UPDATE SET
    position = excluded.position, event_nid = excluded.event_nid, ts = excluded.ts,
    event_id = excluded.event_id
WHERE receipts.event_nid <= excluded.event_nid
"""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A user has read up to an event; ``thread_id`` is "" in an unthreaded receipt."""

    user_id: str
    type: str
    thread_id: str
    event_id: str
    event_nid: int
    ts: int


@dataclass(slots=True, eq=False)
class ReceiptChange:
    """A receipt that moved. ``audience`` are the room's local members, or the user of a private one."""

    room_nid: int
    user_nid: int
    receipt: Receipt
    audience: Collection[str]
    position: int = 0
    is_visible: ClassVar[bool] = True
    size_bytes: ClassVar[int] = 500

    @property
    def owner(self) -> str | None:
        # "Servers MUST NOT send the m.read.private receipt to any other user"
        return self.receipt.user_id if self.receipt.type == READ_PRIVATE else None

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[ReceiptChange]) -> None:
        """Store the changes; what would move a receipt backwards has no effect."""
        furthest: dict[tuple[int, int, str, str], ReceiptChange] = {}
        for change in changes:
            key = (change.room_nid, change.user_nid, change.receipt.type, change.receipt.thread_id)
            present = furthest.get(key)
            if present is None or present.receipt.event_nid <= change.receipt.event_nid:
                furthest[key] = change
        rows = furthest.values()
        await connection.execute(
            UPSERT,
            [change.room_nid for change in rows],
            [change.user_nid for change in rows],
            [change.position for change in rows],
            [change.receipt.event_nid for change in rows],
            [change.receipt.ts for change in rows],
            [change.receipt.type for change in rows],
            [change.receipt.thread_id for change in rows],
            [change.receipt.event_id for change in rows],
        )


def encode_receipts(receipts: Iterable[Receipt], room_id: str | None = None) -> list[bytes]:
    """``m.receipt`` events as clients get them, in as few events as can be; none without receipts.

    Outside of a room's section they say which room they are of.
    Later receipts of the same user, type and thread replace earlier ones. A second event is needed
    where a user has receipts of several threads at one event: the format has room for one.
    """
    latest = {(receipt.user_id, receipt.type, receipt.thread_id): receipt for receipt in receipts}
    contents: list[dict[str, dict[str, dict[str, Any]]]] = []
    for receipt in latest.values():
        data: dict[str, Any] = {"ts": receipt.ts}
        if receipt.thread_id != UNTHREADED:
            data["thread_id"] = receipt.thread_id
        for content in contents:
            users = content.setdefault(receipt.event_id, {}).setdefault(receipt.type, {})
            if receipt.user_id not in users:
                users[receipt.user_id] = data
                break
        else:
            contents.append({receipt.event_id: {receipt.type: {receipt.user_id: data}}})
    where = b"" if room_id is None else b'"room_id":%b,' % orjson.dumps(room_id)
    return [b'{%b"type":"m.receipt","content":%b}' % (where, orjson.dumps(content)) for content in contents]


async def fetch_receipts_since(
    source: Connection | Pool, room_nids: Collection[int], position: int, user_id: str
) -> dict[int, list[Receipt]]:
    """By room, the receipts after ``position`` that a user may see; 0 gives all there are."""
    found: dict[int, list[Receipt]] = {}
    for row in await source.fetch(SELECT_SINCE, list(room_nids), position, user_id):
        room_nid, *fields = row
        found.setdefault(room_nid, []).append(Receipt(*fields))
    return found


async def fetch_receipts_at(
    source: Connection | Pool, room_nids: Collection[int], event_nids: Collection[int], user_id: str
) -> dict[int, list[Receipt]]:
    """By room, the receipts that stand at some events, and all of the user's own."""
    found: dict[int, list[Receipt]] = {}
    for row in await source.fetch(SELECT_AT_EVENTS, list(room_nids), list(event_nids), user_id):
        room_nid, *fields = row
        found.setdefault(room_nid, []).append(Receipt(*fields))
    return found


async def fetch_read_marks(
    source: Connection | Pool, user_nid: int, room_nids: Collection[int]
) -> dict[int, dict[str, int]]:
    """By room and thread, the number of the event up to which a user has read.

    "Between m.read and m.read.private, the receipt which is more 'ahead' … is used."
    """
    found: dict[int, dict[str, int]] = {}
    for room_nid, thread_id, event_nid in await source.fetch(SELECT_READ_MARKS, user_nid, list(room_nids)):
        found.setdefault(room_nid, {})[thread_id] = event_nid
    return found


async def fetch_target(
    source: Connection | Pool, room_nid: int, event_id: str, user_nid: int, receipt_type: str, thread_id: str
) -> tuple[int, int | None] | None:
    """The number of the event to acknowledge, and of the one acknowledged so far (or None).

    None as a whole if the event is not in the room.
    """
    row = await source.fetchrow(SELECT_TARGET, event_id, room_nid, user_nid, receipt_type, thread_id)
    return (row["nid"], row["current"]) if row else None


async def fetch_targets(
    source: Connection | Pool, room_nid: int, receipts: Sequence[Receipt]
) -> list[tuple[int, int, int, int | None]]:
    """For receipts that another server told of: index, number of the user, of the event (0 if it is not known
    here) and of the one acknowledged so far (or None). Users that this node never met are left out."""
    rows = await source.fetch(
        SELECT_TARGETS,
        room_nid,
        list(range(len(receipts))),
        [receipt.user_id for receipt in receipts],
        [receipt.type for receipt in receipts],
        [receipt.thread_id for receipt in receipts],
        [receipt.event_id for receipt in receipts],
    )
    return [(row[0], row[1], row[2], row[3]) for row in rows]


async def fetch_event_nids(
    source: Connection | Pool, room_nid: int, event_ids: Collection[str]
) -> dict[str, int]:
    """The numbers of those events that are in the room."""
    return {row[0]: row[1] for row in await source.fetch(SELECT_EVENT_NIDS, list(event_ids), room_nid)}


async def fetch_ancestors(source: Connection | Pool, room_nid: int, event_nid: int) -> list[tuple[str, str]]:
    """(event id, relation type) of what an event relates to, and that in turn, up to a thread's root."""
    rows = await source.fetch(SELECT_ANCESTORS, event_nid, room_nid, THREAD_HOPS_MAX)
    return [(row[0], row[1]) for row in rows]
