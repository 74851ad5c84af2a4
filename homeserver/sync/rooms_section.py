"""The `rooms` of an answer of /sync, each as JSON bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from homeserver.commit_log.log import CommitLog
from homeserver.filters.event_filter import RoomEventFilter
from homeserver.rooms.changes import RoomEventChange
from homeserver.rooms.client_events import EVENTS_PER_PAUSE, ClientEvents
from homeserver.rooms.event import Event
from homeserver.rooms.room import Room
from homeserver.rooms.stripped_state import stripped_state
from homeserver.rooms.user_rooms import UserRoom
from homeserver.storage.receipts import Receipt, encode_receipts
from homeserver.sync.context import SyncContext
from homeserver.sync.room_state import RoomStates, State
from homeserver.sync.seen_timelines import SeenTimelines
from homeserver.sync.summaries import encode_summary, has_name, heroes
from homeserver.sync.timelines import Timeline
from homeserver.sync.token import SyncToken
from homeserver.sync.unread import Counts, UnreadCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomNews:
    """One room of an answer: what was read of it, for `RoomsSection` to encode.

    `anew` where the client is told of the room from the start. `typing` is None if nothing changed.
    """

    room: Room
    entry: UserRoom
    timeline: Timeline
    anew: bool
    receipts: Sequence[Receipt] = ()
    typing: Sequence[str] | None = None
    account_data: Sequence[bytes] = ()


class RoomsSection:
    """Encodes rooms by the requester's membership."""

    def __init__(
        self,
        log: CommitLog,
        states: RoomStates,
        unread: UnreadCounts,
        seen: SeenTimelines,
        client_events: ClientEvents,
    ) -> None:
        self._log = log
        self._states = states
        self._unread = unread
        self._seen = seen
        self._client_events = client_events

    async def joined(self, context: SyncContext, news: RoomNews) -> bytes | None:
        """A room that the user is in; None if nothing of it is to be told."""
        filters = context.request.filter.room
        room, timeline = news.room, news.timeline
        await self._hide(context, news)
        named_by = None if has_name(room) else heroes(room, context.requester.user_id)
        state = await self._state(context, news, [event for _, event in named_by or ()])
        ephemeral = self._encode_ephemeral(news, filters.ephemeral)
        account_data = _filtered_account_data(room, news.account_data, filters.account_data)
        empty = not (timeline.events or state or ephemeral or account_data)
        if empty and not (news.anew or timeline.limited or news.receipts):
            return None
        parts = [b'{"timeline":', await self._timeline(context, news)]
        parts += [_state_key(context), _events(await self._encode_state(context, room, state))]
        if news.anew or any(event.type == "m.room.member" for event in (*timeline.events, *state.values())):
            parts += [b',"summary":', encode_summary(room, named_by)]
        parts += [b',"ephemeral":', _events(ephemeral), b',"account_data":', _events(account_data)]
        parts += [self._unread_counts(context, room, filters.timeline), b"}"]
        return b"".join(parts)

    async def left(self, context: SyncContext, news: RoomNews) -> bytes:
        """A room that the user has left, up to the leaving."""
        await self._hide(context, news)
        state = await self._state(context, news, [])
        passing = context.request.filter.room.account_data
        account_data = _filtered_account_data(news.room, news.account_data, passing)
        return b"".join(
            (
                b'{"timeline":',
                await self._timeline(context, news),
                _state_key(context),
                _events(await self._encode_state(context, news.room, state)),
                b',"account_data":',
                _events(account_data),
                b"}",
            )
        )

    def stripped(self, room: Room, user_id: str, membership: str) -> bytes:
        """A room that the user is invited to or knocks on."""
        events = orjson.dumps(stripped_state(room, user_id))
        return b'{"%b_state":{"events":%b}}' % (membership.encode(), events)

    async def _hide(self, context: SyncContext, news: RoomNews) -> None:
        """Drop what the user may not see from the timeline."""
        if not news.anew and news.entry.membership == "join" and context.since >= news.entry.since:
            return  # a member sees all that happens while being one
        await self._seen.hide(context, news.room, news.entry, news.timeline, anew=news.anew)

    async def _state(self, context: SyncContext, news: RoomNews, named_by: Sequence[Event]) -> State:
        filters = context.request.filter.room
        passing = filters.state
        room, timeline = news.room, news.timeline
        everything = news.anew or context.request.full_state
        if news.entry.membership != "join":
            state = await self._states.of_departed(context, room, news.entry, timeline, everything=everything)
        elif everything:
            state = await self._states.full(context, room, timeline)
        else:
            state = await self._states.delta(context, room, timeline, filters.timeline)
        if passing.lazy_load_members:
            state = await self._states.lazy(
                context,
                room,
                state,
                timeline,
                named_by,
                redundant=passing.include_redundant_members,
                anew=everything or news.entry.membership != "join",
            )
        if passing.passes_all:
            return state
        if not passing.matches_room(room.room_id):
            return {}
        return {
            key: event
            for key, event in state.items()
            if passing.matches_in_room(event.type, event.sender, event.content)
        }

    async def _encode_state(self, context: SyncContext, room: Room, state: State) -> list[bytes]:
        projected = context.request.filter
        if projected.sends_encoded_events:
            encoded: list[bytes] = []
            for event in state.values():
                encoded.append(event.encode_state())
                if len(encoded) % EVENTS_PER_PAUSE == 0:
                    await asyncio.sleep(0)
            return encoded
        return await self._client_events.encode(
            room, context.requester, list(state.values()), with_room_id=False, sync_filter=projected
        )

    async def _timeline(self, context: SyncContext, news: RoomNews) -> bytes:
        timeline = news.timeline
        events = timeline.events
        if events:
            start = events[0].nid - 1
        else:
            start = context.upto if news.anew or timeline.limited else context.since
        token = SyncToken(start, context.now.ephemeral)
        encoded = await self.encode_timeline(context, news.room, news.entry, events)
        return b'{"events":[%b],"limited":%b,"prev_batch":"%b"}' % (
            b",".join(encoded),
            b"true" if timeline.limited else b"false",
            str(token).encode(),
        )

    async def encode_timeline(
        self, context: SyncContext, room: Room, entry: UserRoom, events: Sequence[Event]
    ) -> list[bytes]:
        """A room's events as the requester, whose membership is `entry`, sees them."""
        if not events:
            return []
        request = context.request
        memberships = _plain_memberships(room, entry, events, context.requester.user_id)
        plain = request.filter.sends_encoded_events and memberships is not None
        if not room.always_shared and any(event.prev_content is not None for event in events):
            plain = False  # what was before may be hidden from the user
        if plain and memberships is not None and not self._related(room, events):
            device = context.requester.device_nid
            return [
                event.encode(context.now_ms, device_nid=device, membership=membership)
                for event, membership in zip(events, memberships, strict=True)
            ]
        return await self._client_events.encode(
            room,
            context.requester,
            events,
            with_room_id=False,
            sync_filter=request.filter,
            ignored=context.ignored,
        )

    def _related(self, room: Room, events: Sequence[Event]) -> bool:
        """Whether anything may relate to the events: what does came later, so it is in the tail too."""
        tail = self._log.tail
        if not tail.covers(events[0].nid):
            return True
        ids = {event.event_id for event in events}
        return any(
            change.relation is not None and change.relation.event_id in ids
            for change in tail.of_room(room.nid, events[0].nid)
            if isinstance(change, RoomEventChange)
        )

    def _encode_ephemeral(self, news: RoomNews, passing: RoomEventFilter) -> list[bytes]:
        if not passing.passes_all and not passing.matches_room(news.room.room_id):
            return []
        encoded: list[bytes] = []
        if news.receipts and (passing.passes_all or passing.events.matches("m.receipt", None)):
            encoded += encode_receipts(news.receipts)
        if news.typing is not None and (passing.passes_all or passing.events.matches("m.typing", None)):
            encoded.append(b'{"type":"m.typing","content":{"user_ids":%b}}' % orjson.dumps(list(news.typing)))
        return encoded

    def _unread_counts(self, context: SyncContext, room: Room, passing: RoomEventFilter) -> bytes:
        counter = self._unread.cached(context.requester.user_id, room, context.upto, context.ignored)
        threads = counter.threads if counter is not None else {}
        if not passing.unread_thread_notifications:
            total = Counts(
                sum(counts.notifications for counts in threads.values()),
                sum(counts.highlights for counts in threads.values()),
            )
            return b',"unread_notifications":' + _encode_counts(total)
        main = threads.get("main", Counts())
        others = b",".join(
            orjson.dumps(root) + b":" + _encode_counts(counts)
            for root, counts in threads.items()
            if root != "main"
        )
        return b',"unread_notifications":%b,"unread_thread_notifications":{%b}' % (
            _encode_counts(main),
            others,
        )


def _state_key(context: SyncContext) -> bytes:
    return b',"%b":' % context.request.state_name.encode()


def _encode_counts(counts: Counts) -> bytes:
    return b'{"notification_count":%d,"highlight_count":%d}' % (counts.notifications, counts.highlights)


def _plain_memberships(
    room: Room, entry: UserRoom, events: Sequence[Event], user_id: str
) -> list[str] | None:
    """The user's membership at each event where the current member event tells it, else None."""
    if events[0].nid >= entry.event_nid:
        return [entry.membership] * len(events)
    member = room.member(user_id)
    if member is None or member.nid != entry.event_nid or member.replaces is not None:
        return None
    return [entry.membership if event.nid >= entry.event_nid else "leave" for event in events]


def _filtered_account_data(room: Room, events: Sequence[bytes], passing: RoomEventFilter) -> Sequence[bytes]:
    if passing.passes_all:
        return events
    if not passing.matches_room(room.room_id):
        return ()
    return [event for event in events if passing.events.matches(orjson.loads(event)["type"], None)]


def _events(events: Sequence[bytes]) -> bytes:
    return b'{"events":[%b]}' % b",".join(events)
