"""The `state` of a room in /sync: what a client must know before it reads the timeline."""

from __future__ import annotations

from collections.abc import Iterable

from homeserver.commit_log.log import CommitLog
from homeserver.filters.event_filter import RoomEventFilter
from homeserver.rooms.changes import RoomEventChange
from homeserver.rooms.event import Event
from homeserver.rooms.membership_history import MembershipHistory
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.snapshot_reader import SnapshotReader
from homeserver.rooms.user_rooms import UserRoom
from homeserver.storage import events as event_sql
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
        state = current_state(room)
        if not context.request.use_state_after:
            await self._roll_back(state, timeline)
        return state

    async def _roll_back(self, state: State, timeline: Timeline) -> None:
        """Take the timeline's changes out of `state`."""
        missing: list[int] = []
        for event in reversed(timeline.events):
            if event.state_key is None:
                continue
            state.pop(event.key, None)
            if isinstance(event.replaces, Event):
                state[event.key] = event.replaces
            elif event.replaces is not None:
                missing.append(event.replaces)
        known = {event.nid for event in timeline.events}
        wanted = [nid for nid in missing if nid not in known]
        if wanted:
            for row in await event_sql.by_nids(self._pool, wanted):
                event = Event.of_row(row)
                state.setdefault(event.key, event)

    async def delta(
        self, context: SyncContext, room: Room, timeline: Timeline, passing: RoomEventFilter
    ) -> State:
        """What changed between the last sync and the timeline, or with `use_state_after` up to its end."""
        after = context.request.use_state_after
        if not after and not timeline.limited and passing.passes_all and not context.ignored:
            return {}
        state: State = {}
        if self._log.tail.covers(context.since):
            for change in self._log.tail.of_room(room.nid, context.since):
                if not isinstance(change, RoomEventChange) or change.position > context.upto:
                    continue
                if change.event.state_key is not None:
                    state[change.event.key] = change.event
        else:
            for row in await event_sql.state_changes(self._pool, room.nid, context.since, context.upto):
                event = Event.of_row(row)
                state[event.key] = event
        if not after:
            shown = {event.event_id for event in timeline.events}
            state = {key: event for key, event in state.items() if event.event_id not in shown}
        return state

    async def of_departed(
        self, context: SyncContext, room: Room, entry: UserRoom, timeline: Timeline, *, everything: bool
    ) -> State:
        """As `full` or `delta`, for a user who left: nothing after the leaving.

        Who came and left since the last sync is given the full state; who never came, none at all.
        """
        history = await self._memberships.of(room, context.requester.user_id)
        if history.last_join is None:
            return {}
        if everything or (history.last_join > context.since and history.at(context.since) != "join"):
            state = await self._snapshots.state_before(room, entry.event_nid)
            if not context.request.use_state_after:
                await self._roll_back(state, timeline)
            return state
        if not timeline.limited and context.request.filter.room.timeline.passes_all:
            return {}
        state = {}
        shown = {event.event_id for event in timeline.events}
        for row in await event_sql.state_changes(self._pool, room.nid, context.since, entry.event_nid):
            event = Event.of_row(row)
            if context.request.use_state_after or event.event_id not in shown:
                state[event.key] = event
        return state

    def lazy(
        self,
        context: SyncContext,
        room: Room,
        state: State,
        timeline: Timeline,
        heroes: Iterable[Event],
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
        wanted = {event.sender for event in timeline.events}
        if anew:
            wanted.add(user_id)
        shown = {event.state_key: event for event in timeline.events if event.type == MEMBER}
        result = {
            key: event
            for key, event in state.items()
            if not anew or key[0] != MEMBER or key[1] in wanted or key[1] == user_id
        }
        for member in wanted:
            event = room.member(member)
            if event is None or member in shown or (MEMBER, member) in result:
                continue
            if redundant or sent.get(member) != event.nid:
                result[(MEMBER, member)] = event
        for event in heroes:
            if event.state_key not in shown and (redundant or sent.get(event.state_key or "") != event.nid):
                result.setdefault(event.key, event)
        news = {key[1]: event.nid for key, event in result.items() if key[0] == MEMBER}
        news |= {member or "": event.nid for member, event in shown.items()}
        if news:
            self._lazy_members.note(device_nid, room.nid, news)
        return result


def current_state(room: Room) -> State:
    """The room's durable state: what is being committed is left out."""
    if not room.pending:
        return dict(room.state)
    state: State = {}
    for key, current in room.state.items():
        event: Event | None = current
        while event is not None and event.nid == 0:
            event = event.replaces if isinstance(event.replaces, Event) else None
        if event is not None:
            state[key] = event
    return state
