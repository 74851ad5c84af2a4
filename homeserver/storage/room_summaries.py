"""What is shown of rooms to those outside: `rooms.summary`, as `Room.summary` writes it.

The directory reads a range of the index rooms_published (migrations/0004_directory.sql), so a page costs
the same however many rooms are published; a search reads at most a given number of them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from homeserver.storage.connection import Executor

_MEMBERS = "(summary ->> 'num_joined_members')::integer"
_RANGE = "is_published AND ({members}, nid) {beyond} ($1, $2) AND {members} > 0"
_PAGE = """
SELECT nid, members, summary FROM (
    SELECT nid, {members} AS members, summary FROM rooms
    WHERE {range} ORDER BY {members} {order}, nid {order} LIMIT $3
) AS scanned
WHERE summary ->> 'left' IS NULL AND ($4::text[] IS NULL OR NOT EXISTS (
        SELECT 1 FROM unnest($4::text[]) AS word
        WHERE strpos(coalesce(summary ->> 'search', ''), word) = 0))
    AND ($5::text[] IS NULL OR coalesce(summary ->> 'room_type', '') = ANY($5::text[]))
ORDER BY members {order}, nid {order} LIMIT $6"""
_SCAN_END = """
SELECT {members} AS members, nid FROM rooms WHERE {range}
ORDER BY {members} {order}, nid {order} OFFSET $3 LIMIT 1"""


def _statement(template: str, beyond: str, order: str) -> str:
    return template.format(
        members=_MEMBERS, range=_RANGE.format(members=_MEMBERS, beyond=beyond), order=order
    )


SMALLER_ROOMS = _statement(_PAGE, "<", "DESC")
LARGER_ROOMS = _statement(_PAGE, ">", "ASC")
SMALLER_SCAN_END = _statement(_SCAN_END, "<", "DESC")
LARGER_SCAN_END = _statement(_SCAN_END, ">", "ASC")

# Counted up to a bound, estimated beyond.
COUNT = """
SELECT CASE WHEN count(*) <= $1 THEN count(*) ELSE greatest(count(*), (
    SELECT reltuples FROM pg_class WHERE oid = 'rooms_published'::regclass)::bigint) END
FROM (SELECT 1 FROM rooms WHERE is_published LIMIT $1::bigint + 1) AS counted"""
BY_IDS = "SELECT room_id, summary FROM rooms WHERE room_id = ANY($1::text[])"

INTEGER_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Place:
    """A room's place in the order of the directory: by members, then by number."""

    members: int
    room_nid: int


FIRST = Place(INTEGER_MAX, INTEGER_MAX)  # before all rooms


@dataclass(frozen=True, slots=True)
class Listing:
    """A published room."""

    place: Place
    summary: dict[str, Any]


async def published(
    source: Executor,
    beyond: Place,
    *,
    larger: bool,
    words: Sequence[str] | None,
    room_types: Sequence[str] | None,
    scanned_max: int,
    limit: int,
) -> list[Listing]:
    """Published rooms next to a place: the smaller ones largest first, or the larger ones smallest first.

    Of the `scanned_max` next to it come those whose search text has all of `words` (folded), and whose type
    is one of `room_types` ("" for rooms without). None takes all.
    """
    rows = await source.fetch(
        LARGER_ROOMS if larger else SMALLER_ROOMS,
        beyond.members,
        beyond.room_nid,
        scanned_max,
        words,
        room_types,
        limit,
    )
    return [Listing(Place(row["members"], row["nid"]), orjson.loads(row["summary"])) for row in rows]


async def scan_end(source: Executor, beyond: Place, *, larger: bool, scanned_max: int) -> Place | None:
    """The last place that `published` looks at, if there are that many."""
    statement = LARGER_SCAN_END if larger else SMALLER_SCAN_END
    row = await source.fetchrow(statement, beyond.members, beyond.room_nid, scanned_max - 1)
    return Place(row["members"], row["nid"]) if row is not None else None


async def count_published(source: Executor, exact_max: int) -> int:
    """How many rooms are published: exactly up to `exact_max`, about beyond."""
    return int(await source.fetchval(COUNT, exact_max))


async def fetch_summaries(source: Executor, room_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """The summaries of those rooms that this node knows, by room id."""
    rows = await source.fetch(BY_IDS, list(room_ids))
    return {row["room_id"]: orjson.loads(row["summary"]) for row in rows}
