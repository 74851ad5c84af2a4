"""Events that relate to an event, page by page. Source: relations.yaml, "Relationships API"."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from homeserver.accounts.account_data import AccountData
from homeserver.errors import Forbidden, NotFound
from homeserver.filters.event_filter import ALL_ROOM_EVENTS
from homeserver.requester import Requester
from homeserver.rooms.client_events import ClientEvents
from homeserver.rooms.event import Event
from homeserver.rooms.history import NO_EVENT, History
from homeserver.rooms.history_pages import HistoryPages, after, before, passing_events, token_of
from homeserver.rooms.reading import END, START, Point, Readers, Reading
from homeserver.rooms.visibility import Visibility
from homeserver.storage import relations as sql
from homeserver.storage.connection import Pool

LIMIT_MAX = 500
ROUNDS_MAX = 5
NIDS_LEAST = -(10**18)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationsQuery:
    """The parameters of `getRelatingEvents`; `start` is `from`. `recurse` is None where not given."""

    rel_type: str | None = None
    event_type: str | None = None
    start: str | None = None
    to: str | None = None
    limit: int = 50
    backwards: bool = True
    recurse: bool | None = None


@dataclass(frozen=True, slots=True)
class RelatingEvents:
    """Reads along the order in which events came here: by number."""

    pool: Pool
    readers: Readers
    pages: HistoryPages
    visibility: Visibility
    client_events: ClientEvents
    account_data: AccountData
    history: History

    async def page(self, requester: Requester, room_id: str, event_id: str, query: RelationsQuery) -> bytes:
        """`getRelatingEvents` and its narrower forms, as JSON. Raises NotFound, InvalidParam (a token)."""
        try:
            reading = await self.readers.open(room_id, requester.user_id)
        except Forbidden as cause:
            raise NotFound(NO_EVENT) from cause
        room = reading.room
        await self.history.visible_event(reading, requester, event_id)
        start = await self.pages.point(room, query.start) if query.start is not None else None
        to = await self.pages.point(room, query.to) if query.to is not None else None
        ignored = await self.account_data.ignored(requester.user_id)
        events, rest = await self._read(reading, requester.user_id, event_id, query, (start, to), ignored)
        chunk = await self.client_events.encode(room, requester, events, with_room_id=True, ignored=ignored)
        parts = [b'{"chunk":[%b]' % b",".join(chunk)]
        if rest is not None:
            parts.append(b',"next_batch":' + orjson.dumps(token_of(rest)))
        if query.start is not None:
            parts.append(b',"prev_batch":' + orjson.dumps(query.start))
        if query.recurse is not None:
            parts.append(b',"recursion_depth":%d' % (sql.RECURSION_DEPTH if query.recurse else 1))
        parts.append(b"}")
        return b"".join(parts)

    async def _read(
        self,
        reading: Reading,
        user_id: str,
        event_id: str,
        query: RelationsQuery,
        points: tuple[Point | None, Point | None],
        ignored: frozenset[str],
    ) -> tuple[list[Event], Point | None]:
        """A page of events, and where to go on if there may be more."""
        start, to = points
        lower, upper = _nids(to, start) if query.backwards else _nids(start, to)
        upper = min(upper, reading.end[1])
        limit = min(query.limit, LIMIT_MAX)
        found: list[Event] = []
        rest = start or (END if query.backwards else START)
        if limit <= 0:
            return found, rest
        for _ in range(ROUNDS_MAX):
            rows = await sql.children(
                self.pool,
                reading.room.nid,
                event_id,
                (lower, upper),
                query.rel_type,
                query.event_type,
                limit + 1,
                backwards=query.backwards,
                recurse=query.recurse or False,
            )
            more = len(rows) > limit
            read = [Event.of_timeline_row(row) for row in rows[:limit]]
            shown = passing_events(read, ALL_ROOM_EVENTS, ignored)
            shown = await self.visibility.filter(reading.room, user_id, shown)
            missing = limit - len(found)
            if len(shown) > missing or (len(shown) == missing and more):
                found += shown[:missing]
                return found, before(found[-1]) if query.backwards else after(found[-1])
            found += shown
            if not more:
                return found, None
            rest = before(read[-1]) if query.backwards else after(read[-1])
            if query.backwards:
                upper = rest[1]
            else:
                lower = rest[1]
        return found, rest


def _nids(lower: Point | None, upper: Point | None) -> tuple[int, int]:
    """Two points as bounds of event numbers."""
    least = lower[1] if lower is not None and lower != START else NIDS_LEAST
    return least, upper[1] if upper is not None else END[1]
