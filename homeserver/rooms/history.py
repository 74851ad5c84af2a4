"""Reading a room's past: /messages, /context, single events, and events by time.

Source: message_pagination.yaml, event_context.yaml, rooms.yaml, room_event_by_timestamp.yaml.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from homeserver.accounts.account_data import AccountData
from homeserver.errors import Forbidden, NotFound
from homeserver.filters.event_filter import ALL_ROOM_EVENTS, RoomEventFilter
from homeserver.requester import Requester
from homeserver.rooms.client_events import ClientEvents
from homeserver.rooms.event import Event
from homeserver.rooms.history_gaps import Earlier, EarlierHistory, NoEarlierHistory
from homeserver.rooms.history_pages import (
    LIMIT_MAX,
    HistoryPages,
    Page,
    Wanted,
    after,
    before,
    lazily_loaded,
    passing_events,
    token_of,
)
from homeserver.rooms.reading import END, START, Readers, Reading
from homeserver.rooms.room import Room
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.snapshot_reader import SnapshotReader
from homeserver.rooms.visibility import Visibility
from homeserver.storage import events as event_sql
from homeserver.storage import history as sql
from homeserver.storage.connection import Pool

NO_EVENT = "There is no such event, or you may not see it"
TIME_PAGE = 20  # events near a time read at once
TIME_ROUNDS_MAX = 50
NID_MAX = 2**63 - 1
FETCHES_MAX = 4  # of missing history, for one page
NO_EARLIER_HISTORY = NoEarlierHistory()


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesQuery:
    """The parameters of `getRoomEvents`; `start` is `from`, None for the end of the room to begin with."""

    backwards: bool
    start: str | None
    to: str | None
    limit: int
    filter: RoomEventFilter


@dataclass(frozen=True, slots=True)
class History:
    """What happened in rooms, for those who may see it. Answers are JSON bytes."""

    pool: Pool
    rooms: Rooms
    readers: Readers
    pages: HistoryPages
    visibility: Visibility
    snapshots: SnapshotReader
    client_events: ClientEvents
    account_data: AccountData
    earlier: EarlierHistory = NO_EARLIER_HISTORY

    async def messages(self, requester: Requester, room_id: str, query: MessagesQuery) -> bytes:
        """`getRoomEvents`. Raises Forbidden, InvalidParam (a token)."""
        reading = await self.readers.open(room_id, requester.user_id)
        room, backwards = reading.room, query.backwards
        start = None
        if query.start is not None:
            start = await self.pages.point(room, query.start, backwards=backwards)
        to = await self.pages.point(room, query.to) if query.to is not None else None
        if backwards:
            lower, upper = to or START, start or END
        else:
            lower, upper = start or START, to or END
        ignored = await self.account_data.ignored(requester.user_id)
        wanted = Wanted(lower, upper, min(query.limit, LIMIT_MAX), backwards, query.filter, ignored)
        page, unreached = await self._page(reading, requester.user_id, wanted)
        events = page.events
        start_token = query.start
        if start_token is None:
            if events:
                start = after(events[0]) if backwards else before(events[0])
            start_token = token_of(start or (END if backwards else START))
        parts = [
            b'{"chunk":[%b],"start":%b' % (await self._encode(room, requester, events), _text(start_token))
        ]
        rest = page.rest
        if rest is None and events and unreached:
            rest = before(events[-1])  # there is more, though nobody has it at the moment
        if rest is None and events and not backwards and to is None and reading.left is None:
            rest = after(events[-1])  # neither of the cases in which there is no end: more will come
        if rest is not None:
            parts.append(b',"end":' + _text(token_of(rest)))
        if query.filter.lazy_load_members and events:
            senders = {event.sender for event in events}
            newest = events[0] if backwards else events[-1]
            members = await self.pages.members_of(room, senders, newest.nid)
            parts.append(b',"state":[%b]' % b",".join(await self.client_events.encode_state(room, members)))
        parts.append(b"}")
        return b"".join(parts)

    async def _page(self, reading: Reading, user_id: str, wanted: Wanted) -> tuple[Page, bool]:
        """A page, for which history that is missing here is fetched from others; and whether, where it ends,
        there is some that could not be had."""
        for _ in range(FETCHES_MAX):
            page = await self.pages.read(reading, user_id, wanted)
            if not wanted.backwards or wanted.limit <= 0:
                return page, False
            down_to = page.rest[0] if page.rest is not None else wanted.after[0]
            upto = min(wanted.upto, reading.end)[0]
            outcome = await self.earlier.fetch(reading.room, upto, down_to)
            if outcome is not Earlier.FETCHED:
                return page, outcome is Earlier.UNREACHED
        return await self.pages.read(reading, user_id, wanted), True

    async def context(
        self, requester: Requester, room_id: str, event_id: str, limit: int, passing: RoomEventFilter
    ) -> bytes:
        """`getEventContext`. Raises Forbidden, NotFound."""
        reading = await self.readers.open(room_id, requester.user_id)
        room, user_id = reading.room, requester.user_id
        event = await self.visible_event(reading, requester, event_id)
        ignored = await self.account_data.ignored(user_id)
        limit = min(limit, LIMIT_MAX)
        older = await self.pages.read(
            reading, user_id, Wanted(START, before(event), limit // 2, True, passing, ignored)
        )
        newer = await self.pages.read(
            reading, user_id, Wanted(after(event), END, limit - limit // 2, False, passing, ignored)
        )
        oldest = older.events[-1] if older.events else event
        newest = newer.events[-1] if newer.events else event
        shown = [event, *older.events, *newer.events]
        state = await self._state_around(room, passing, shown, newest)
        encoded = await self.client_events.encode(room, requester, shown, with_room_id=True, ignored=ignored)
        first_newer = 1 + len(older.events)
        return b"".join(
            (
                b'{"start":' + _text(token_of(before(oldest))),
                b',"end":' + _text(token_of(after(newest))),
                b',"event":' + encoded[0],
                b',"events_before":[%b]' % b",".join(encoded[1:first_newer]),
                b',"events_after":[%b]' % b",".join(encoded[first_newer:]),
                b',"state":[%b]}' % b",".join(await self.client_events.encode_state(room, state)),
            )
        )

    async def _state_around(
        self, room: Room, passing: RoomEventFilter, shown: Sequence[Event], newest: Event
    ) -> list[Event]:
        """The room's state "at the last event returned", as far as the filter asks for it."""
        if not passing.matches_room(room.room_id):
            return []
        at_last = await self.snapshots.at_snapshot(room, newest.snapshot)
        if newest.state_key is not None:
            at_last[newest.key] = newest
        state = list(at_last.values())
        if passing.lazy_load_members:
            state = lazily_loaded(state, {event.sender for event in shown})
        return passing_events(state, passing, ())

    async def event(self, requester: Requester, room_id: str, event_id: str) -> bytes:
        """`getOneRoomEvent`. Raises NotFound, also where the room may not be read."""
        try:
            reading = await self.readers.open(room_id, requester.user_id)
        except Forbidden as cause:
            raise NotFound(NO_EVENT) from cause
        event = await self.visible_event(reading, requester, event_id)
        return await self._encode(reading.room, requester, [event])

    async def event_anywhere(self, requester: Requester, event_id: str) -> bytes:
        """`getOneEvent`: as `event`, in whichever room it is."""
        rows = await event_sql.by_ids(self.pool, [event_id])
        if not rows:
            raise NotFound(NO_EVENT)
        room = await self.rooms.get_by_nid(rows[0]["room_nid"])
        return await self.event(requester, room.room_id, event_id)

    async def visible_event(self, reading: Reading, requester: Requester, event_id: str) -> Event:
        """An event of the room that the requester may see and does not ignore. Raises NotFound."""
        rows = await event_sql.by_ids(self.pool, [event_id])
        event = Event.of_timeline_row(rows[0]) if rows else None
        if event is None or event.room_nid != reading.room.nid or event.flags:
            raise NotFound(NO_EVENT)
        visible = await self.visibility.filter(reading.room, requester.user_id, [event])
        if not visible:
            raise NotFound(NO_EVENT)
        event = visible[0]
        if event.state_key is None and event.sender in await self.account_data.ignored(requester.user_id):
            raise NotFound(NO_EVENT)
        return event

    async def nearest(self, requester: Requester, room_id: str, ts: int, *, forwards: bool) -> Event:
        """`getEventByTimestamp`: the closest visible event in a direction. Raises Forbidden, NotFound."""
        reading = await self.readers.open(room_id, requester.user_id)
        found = await self._nearest(reading, requester, ts, forwards=forwards)
        if await self.earlier.fetch_nearer(reading.room, ts, found, forwards=forwards):
            found = await self._nearest(reading, requester, ts, forwards=forwards)
        if found is None:
            direction = "after" if forwards else "before"
            raise NotFound(f"There is no event that you may see {direction} that time")
        return found

    async def _nearest(
        self, reading: Reading, requester: Requester, ts: int, *, forwards: bool
    ) -> Event | None:
        ignored = await self.account_data.ignored(requester.user_id)
        nid = -NID_MAX if forwards else NID_MAX
        for _ in range(TIME_ROUNDS_MAX):
            rows = await sql.near_time(self.pool, reading.room.nid, ts, nid, TIME_PAGE, forwards=forwards)
            events = [Event.of_row(row) for row in rows]
            shown = passing_events(events, ALL_ROOM_EVENTS, ignored)
            visible = await self.visibility.filter(reading.room, requester.user_id, shown)
            if visible:
                return visible[0]
            if len(rows) < TIME_PAGE:
                break
            ts, nid = events[-1].origin_server_ts, events[-1].nid
        return None

    async def _encode(self, room: Room, requester: Requester, events: Sequence[Event]) -> bytes:
        ignored = await self.account_data.ignored(requester.user_id)
        return b",".join(
            await self.client_events.encode(room, requester, events, with_room_id=True, ignored=ignored)
        )


def _text(token: str) -> bytes:
    return orjson.dumps(token)
