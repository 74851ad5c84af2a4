"""The `state` of a room in /sync: what a client must know before it reads the timeline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from homeserver.commit_log.log import CommitLog
from homeserver.filters.event_filter import RoomEventFilter
from homeserver.rooms.changes import RoomEventChange
from homeserver.rooms.event import Event
from homeserver.rooms.membership_history import MembershipHistory
from homeserver.rooms.partial_rooms import MembersKnown
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.snapshot_reader import SnapshotReader, durable_state
from homeserver.rooms.user_rooms import UserRoom
from homeserver.storage import events as event_sql
from homeserver.storage import history as history_sql
from homeserver.storage.connection import Pool
from homeserver.sync.context import SyncContext
from homeserver.sync.lazy_members import LazyMembers
from homeserver.sync.timelines import Timeline

StateKey = tuple[str, str]
State = dict[StateKey, Event]


class RoomStates:
    """Works out state sections."""

    def __init__(
        self,
        pool: Pool,
        log: CommitLog,
        lazy_members: LazyMembers,
        snapshots: SnapshotReader,
        memberships: MembershipHistory,
    ) -> None:
        self._pool = pool
        self._snapshots = snapshots
        self._memberships = memberships
        self._log = log
        self._lazy_members = lazy_members

    async def full(self, context: SyncContext, room: Room, timeline: Timeline) -> State:
        """All state at the start of the timeline, or with `use_state_after` at its end."""
        state = durable_state(room, self._log.position)
        if not context.request.use_state_after:
            await self._roll_back(state, timeline)
        return state

    async def _roll_back(self, state: State, timeline: Timeline) -> None:
        """Take the timeline's changes out of `state`. What held before a hidden one is hidden as well."""
        missing: list[int] = []
        hidden = {event.nid for event in timeline.hidden}
        events: Sequence[Event] = timeline.events
        if hidden:
            seen = (event for event in timeline.events if event.nid not in hidden)
            events = sorted((*seen, *timeline.hidden), key=lambda event: event.nid)
        for event in reversed(events):
            if event.state_key is None:
                continue
            current = state.get(event.key)
            if current is not None and current.event_id != event.event_id:
                continue  # resolution decided on another
            state.pop(event.key, None)
            if event.nid in hidden:
                continue
            if isinstance(event.replaces, Event):
                state[event.key] = event.replaces
            elif event.replaces is not None:
                missing.append(event.replaces)
        known = {event.nid for event in events}
        wanted = [nid for nid in missing if nid not in known]
        if wanted:
            for row in await history_sql.state_events(self._pool, wanted):
                event = Event.of_timeline_row(row)
                state.setdefault(event.key, event)

    async def delta(
        self, context: SyncContext, room: Room, timeline: Timeline, passing: RoomEventFilter
    ) -> State:
        """What changed between the last sync and the timeline, or with `use_state_after` up to its end."""
        after = context.request.use_state_after
        resolved = room.resolved_at > context.since
        complete = not timeline.limited and passing.passes_all and not context.ignored
        if complete and not after and not resolved:
            return {}
        events: Iterable[Event]
        if self._log.tail.covers(context.since) and not self._was_completed(context, room):
            events = [
                event
                for change in self._log.tail.of_room(room.nid, context.since)
                if isinstance(change, RoomEventChange) and change.position <= context.upto
                for event in (change.event, *(change.merge.state if change.merge is not None else ()))
                if event.state_key is not None
            ]
        else:
            rows = await event_sql.state_changes(self._pool, room.nid, context.since, context.upto)
            events = map(Event.of_timeline_row, rows)
        return _newest(events, () if after else timeline.events)

    def _was_completed(self, context: SyncContext, room: Room) -> bool:
        """Whether the room's members have become known since: the log has only that they are."""
        changes = self._log.tail.of_room(room.nid, context.since) if room.resolved_at > context.since else ()
        return any(isinstance(change, MembersKnown) for change in changes)

    async def of_departed(
        self, context: SyncContext, room: Room, entry: UserRoom, timeline: Timeline, *, everything: bool
    ) -> State:
        """As `full` or `delta`, for a user who left: nothing after the end of their last stay.

        Who came and left since the last sync is given the full state; who never came, none but of themselves.
        """
        after = context.request.use_state_after
        history = await self._memberships.of(room, context.requester.user_id)
        leaving, state = history.leaving(), State()
        if leaving is None:
            pass
        elif everything or (leaving.nid > context.since and history.at(context.since) != "join"):
            state = await self._snapshots.state_after(room, leaving.nid)
            if not after:
                await self._roll_back(state, timeline)
        elif timeline.limited or after or not context.request.filter.room.timeline.passes_all:
            rows = await event_sql.state_changes(self._pool, room.nid, context.since, leaving.nid)
            state = _newest(map(Event.of_timeline_row, rows), () if after else timeline.events)
        if after:  # whatever ended a later invite, too
            for row in await event_sql.by_nids(self._pool, [entry.event_nid]):
                if row["type"] == MEMBER and row["state_key"] == context.requester.user_id:
                    state[MEMBER, context.requester.user_id] = Event.of_row(row)
        return state

    async def current_of(
        self, context: SyncContext, room: Room, entry: UserRoom, events: Iterable[Event]
    ) -> set[int]:
        """Which of some events, by number, are the state that the user may ask for: the current one, or for
        who left, that after the end of their last stay."""
        if entry.membership == "join":
            state = durable_state(room, self._log.position)
        else:
            leaving = (await self._memberships.of(room, context.requester.user_id)).leaving()
            state = await self._snapshots.state_after(room, leaving.nid) if leaving is not None else {}
        return {
            event.nid
            for event in events
            if event.state_key is not None
            and (current := state.get(event.key)) is not None
            and current.nid == event.nid
        }

    async def lazy(
        self,
        context: SyncContext,
        room: Room,
        state: State,
        timeline: Timeline,
        heroes: Sequence[Event],
        *,
        redundant: bool,
        anew: bool,
    ) -> State:
        """`state` with only the members that matter: the timeline's senders, heroes, the user, and those that
        changed, for "the member list for the room is then maintained by the state in subsequent incremental
        syncs".

        `anew` when the device is told of the room from the start. Source: "Lazy-loading room members".
        """
        device_nid, user_id = context.requester.device_nid, context.requester.user_id
        if anew:
            self._lazy_members.forget(device_nid, room.nid)
        sent = self._lazy_members.of(device_nid, room.nid)
        after = context.request.use_state_after
        shown = {event.state_key: event for event in timeline.events if event.type == MEMBER}
        if anew:
            wanted = {event.sender for event in timeline.events} | {user_id}
            if after:  # the client does not read the members in the timeline
                wanted.update(member for member in shown if member is not None)
            result = {key: event for key, event in state.items() if key[0] != MEMBER or key[1] in wanted}
        else:
            result = dict(state)
            for event in await self._senders(context, room, timeline):
                if redundant or sent.get(event.state_key or "") != event.nid:
                    result.setdefault(event.key, event)
        if anew or shown or any(kind == MEMBER for kind, _ in result):  # there will be a summary, with heroes
            for event in heroes:
                known = not redundant and sent.get(event.state_key or "") == event.nid
                durable = event.nid != 0 and event.nid <= context.upto
                if not known and durable and (after or event.state_key not in shown):
                    result.setdefault(event.key, event)
        news = {key[1]: event.nid for key, event in result.items() if key[0] == MEMBER}
        news |= {member or "": event.nid for member, event in shown.items()}
        if news:
            self._lazy_members.note(device_nid, room.nid, news)
        return result

    async def _senders(self, context: SyncContext, room: Room, timeline: Timeline) -> list[Event]:
        """The member events of those who sent the timeline, as they were before it.

        Left out is who enters or changes in it before sending anything else: the client sees that first.
        """
        if not timeline.events:
            return []
        before = context.upto if context.request.use_state_after else timeline.events[0].nid - 1
        found: list[Event] = []
        changed: list[str] = []
        first: dict[str, Event] = {}
        for event in timeline.events:
            first.setdefault(event.sender, event)
        for sender, event in first.items():
            member = room.member(sender)
            if member is not None and member.nid and member.nid <= before:
                found.append(member)
            elif member is not None and event.key != (MEMBER, sender):
                changed.append(sender)
        if changed:
            rows = await history_sql.members_at(self._pool, room.nid, changed, before)
            found += map(Event.of_timeline_row, rows)
        return found


def _newest(events: Iterable[Event], shown: Iterable[Event]) -> State:
    """The newest of state events that come oldest first, without those that the timeline shows."""
    ids = {event.event_id for event in shown}
    return {event.key: event for event in events if event.event_id not in ids}
