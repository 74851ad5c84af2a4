"""The newest events of rooms after a position: from the live tail, or from storage for many rooms at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from homeserver.commit_log.log import CommitLog
from homeserver.filters.event_filter import RoomEventFilter
from homeserver.rooms.changes import RoomEventChange
from homeserver.rooms.event import Event
from homeserver.rooms.room import Room
from homeserver.storage import events as event_sql
from homeserver.storage.connection import Pool

TIMELINE_LIMIT_DEFAULT = 10
TIMELINE_LIMIT_MAX = 100
PAGES_MAX = 5  # of storage, for a filter that few events pass
EVENTS_PER_PAUSE = 500  # read from their rows before others on the event loop get their turn
PAGE_FACTOR = 4  # events read for each one wanted, beyond the first page


@dataclass(slots=True)
class Timeline:
    """Events oldest first; `limited` if there are more before them, after the position asked for.

    `hidden` are those that happened while the user was not to see them; of them, only state that still holds
    is left in `events`.
    """

    events: list[Event]
    limited: bool
    hidden: Sequence[Event] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """The room, the position after which its events are wanted (0: all it has), and that of the last."""

    room: Room
    after: int
    upto: int

    @property
    def is_whole(self) -> bool:
        """Whether all that came live is wanted."""
        return self.after == 0


class Timelines:
    """Reads the ends of rooms."""

    def __init__(self, pool: Pool, log: CommitLog) -> None:
        self._pool = pool
        self._log = log

    def from_tail(
        self, wanted: Wanted, limit: int, passing: RoomEventFilter, ignored: frozenset[str]
    ) -> Timeline | None:
        """The timeline if the live tail has all of it."""
        tail = self._log.tail
        covered = tail.covers(wanted.after)
        events = [
            change.event
            for change in tail.of_room(wanted.room.nid, max(wanted.after, tail.start))
            # what was known as an outlier shows in the state
            if isinstance(change, RoomEventChange) and change.position <= wanted.upto and change.event.nid > 0
        ]
        begins = bool(events) and events[0].depth == 1
        shown = list(islice(_shown(reversed(events), passing, ignored), limit + 1))[::-1]
        if len(shown) > limit or (len(shown) == limit and not covered and not begins):
            return Timeline(shown[len(shown) - limit :], True)
        if covered or begins:
            return Timeline(shown, wanted.is_whole and bool(events) and not begins)
        return None

    async def from_storage(
        self,
        wanted: Sequence[Wanted],
        limit: int,
        passing: RoomEventFilter,
        ignored: frozenset[str],
    ) -> dict[int, Timeline]:
        """The timelines by room number, with one query; more only where a filter leaves too little."""
        rooms = {each.room.nid: each for each in wanted}
        found: dict[int, list[Event]] = {nid: [] for nid in rooms}
        ends = {nid: each.upto for nid, each in rooms.items()}
        more = dict.fromkeys(rooms, True)
        has_past = dict.fromkeys(rooms, False)  # fetched, or to be fetched: before all that came live
        page = limit + 1
        for _ in range(PAGES_MAX):
            open_rooms = [nid for nid in rooms if more[nid] and len(found[nid]) <= limit]
            if not open_rooms:
                break
            bounds = [(nid, rooms[nid].after, ends[nid]) for nid in open_rooms]
            read: dict[int, list[Event]] = {nid: [] for nid in open_rooms}
            rows = await event_sql.newest_of_rooms(self._pool, bounds, page)
            for count, row in enumerate(rows, 1):
                read[row["room_nid"]].append(Event.of_timeline_row(row))
                if count % EVENTS_PER_PAUSE == 0:
                    await asyncio.sleep(0)
            for nid, events in read.items():
                more[nid] = len(events) == page
                if events:
                    ends[nid] = events[-1].nid - 1
                    has_past[nid] = rooms[nid].is_whole and events[-1].depth > 1
                found[nid].extend(_shown(events, passing, ignored))
            page = limit * PAGE_FACTOR + 1
        return {
            nid: Timeline(
                events[:limit][::-1],
                more[nid] or len(events) > limit or has_past[nid],
            )
            for nid, events in found.items()
        }


def _shown(events: Iterable[Event], passing: RoomEventFilter, ignored: frozenset[str]) -> Iterator[Event]:
    for event in events:
        # "the server must no longer send the client any new events from them", but for state
        if ignored and event.state_key is None and event.sender in ignored:
            continue
        if passing.passes_all or passing.matches_in_room(
            event.type, event.sender, event.content if passing.contains_url is not None else {}
        ):
            yield event
