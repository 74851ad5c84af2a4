"""Pages of a room's history: what a user may see and asked for, between two points.

Tokens: `t{depth}_{nid}` is the point after an event in history order; a token of /sync, `s{position}_…`,
is the point after a position of the log.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from homeserver.errors import InvalidParam
from homeserver.filters.event_filter import ALL_ROOM_EVENTS, RoomEventFilter
from homeserver.rooms.event import Event
from homeserver.rooms.reading import START, Point, Reading
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.visibility import Visibility
from homeserver.storage import history as sql
from homeserver.storage import relations as relation_sql
from homeserver.storage.connection import Pool, Row

LIMIT_MAX = 1000
ROUNDS_MAX = 5  # of reading, for a page of which the user may see little; they continue from its end
ROUND_FACTOR = 4  # events read for each one wanted, beyond the first round
DEPTHS_PER_EVENT = 2  # looked at for a page; in a room of one server's each event has a depth of its own
_HISTORY_TOKEN = re.compile(r"t([0-9]{1,18})_(-?[0-9]{1,18})")
_SYNC_TOKEN = re.compile(r"s([0-9]{1,18})(?:_[0-9]{1,18}){0,3}")  # of /sync, or a `pos` of sliding sync


def token_of(point: Point) -> str:
    """The token of a point."""
    return f"t{max(point[0], 0)}_{point[1]}"


def before(event: Event) -> Point:
    """The point just before an event."""
    return event.depth, event.nid - 1


def after(event: Event) -> Point:
    """The point just after an event."""
    return event.depth, event.nid


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read: between two points, in which direction, how much, and what of it."""

    after: Point
    upto: Point
    limit: int
    backwards: bool
    passing: RoomEventFilter = ALL_ROOM_EVENTS
    ignored: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Page:
    """Events in the direction asked for. `rest` is where to go on; None if there is no more."""

    events: list[Event]
    rest: Point | None


class HistoryPages:
    """Reads pages."""

    def __init__(self, pool: Pool, visibility: Visibility) -> None:
        self._pool = pool
        self._visibility = visibility

    async def point(self, room: Room, token: str, *, backwards: bool = False) -> Point:
        """The point of a token. Raises InvalidParam for what is none.

        To go `backwards` from a position of the log, it is before the next event, if that is later: between
        them may lie what happened while nobody here was in the room.
        """
        match = _HISTORY_TOKEN.fullmatch(token)
        if match is not None:
            return int(match[1]), int(match[2])
        match = _SYNC_TOKEN.fullmatch(token)
        if match is None:
            raise InvalidParam("This is not a token that this server gave: leave it out to start anew")
        position = int(match[1])
        point = await sql.point_of_position(self._pool, room.nid, position) or START
        if backwards and room.remote_servers:
            point = max(point, await sql.point_before_next(self._pool, room.nid, position) or START)
        return point

    async def read(self, reading: Reading, user_id: str, wanted: Wanted) -> Page:
        """The first events in the direction that the user may see and that pass the filter."""
        room, limit, backwards = reading.room, wanted.limit, wanted.backwards
        lower, upper = wanted.after, min(wanted.upto, reading.end)
        found: list[Event] = []
        if limit <= 0:
            return Page(found, upper if backwards else lower)
        if not wanted.passing.matches_room(room.room_id):
            return Page(found, None)
        size = limit
        for _ in range(ROUNDS_MAX):
            # one more than wanted tells whether there is more
            rows = await self._rows(room, lower, upper, size + 1, backwards=backwards)
            more = len(rows) > size
            read = [Event.of_timeline_row(row) for row in rows[:size]]
            shown = await self._shown(room, user_id, read, wanted)
            missing = limit - len(found)
            if len(shown) > missing or (len(shown) == missing and more):
                found += shown[:missing]
                last = found[-1]
                return Page(found, before(last) if backwards else after(last))
            found += shown
            if not more:
                return Page(found, None)
            if backwards:
                upper = before(read[-1])
            else:
                lower = after(read[-1])
            size = min(limit * ROUND_FACTOR, LIMIT_MAX)
        return Page(found, upper if backwards else lower)

    async def _rows(self, room: Room, lower: Point, upper: Point, size: int, *, backwards: bool) -> list[Row]:
        """A page of rows. Looks at as many depths as it should take first, since a planner that knows
        nothing of a young table yet would rather sort the whole room."""
        span = size * DEPTHS_PER_EVENT
        if backwards:
            near = (min(upper[0], room.depth) - span, 0)
            low, high = max(lower, near), upper
        else:
            low, high = lower, min(upper, (lower[0] + span, 0))
        rows = await sql.page(self._pool, room.nid, low, high, size, backwards=backwards)
        if len(rows) == size or (low, high) == (lower, upper):
            return rows
        return await sql.page(self._pool, room.nid, lower, upper, size, backwards=backwards)

    async def _shown(self, room: Room, user_id: str, events: list[Event], wanted: Wanted) -> list[Event]:
        events = passing_events(events, wanted.passing, wanted.ignored)
        if wanted.passing.needs_relations and events:
            related: dict[str, list[tuple[str, str]]] = {}
            ids = [event.event_id for event in events]
            for row in await relation_sql.senders(self._pool, room.nid, ids):
                if row["sender"] not in wanted.ignored:
                    related.setdefault(row["relates_to"], []).append((row["rel_type"], row["sender"]))
            matches = wanted.passing.matches_relations
            events = [event for event in events if matches(related.get(event.event_id, ()))]
        return await self._visibility.filter(room, user_id, events)

    async def members_of(self, room: Room, user_ids: Collection[str], newest_nid: int) -> list[Event]:
        """The users' member events in force at an event, for clients that load members lazily."""
        found: list[Event] = []
        changed: list[str] = []
        for user_id in user_ids:
            member = room.member(user_id)
            if member is not None and member.nid and member.nid <= newest_nid:
                found.append(member)
            else:
                changed.append(user_id)
        if changed:
            rows = await sql.members_at(self._pool, room.nid, changed, newest_nid)
            found += [Event.of_timeline_row(row) for row in rows]
        return found


def passing_events(events: list[Event], passing: RoomEventFilter, ignored: Collection[str]) -> list[Event]:
    """Those that pass the filter (relations aside), without the messages of ignored users."""
    if ignored:
        # "Servers must still send state events sent by ignored users"
        events = [event for event in events if event.state_key is not None or event.sender not in ignored]
    if passing.passes_all:
        return events
    return [event for event in events if passing.matches_in_room(event.type, event.sender, event.content)]


def lazily_loaded(state: Sequence[Event], senders: Collection[str]) -> list[Event]:
    """State without the members that sent nothing of what is shown."""
    return [event for event in state if event.type != MEMBER or event.state_key in senders]
