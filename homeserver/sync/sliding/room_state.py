"""The `required_state` of a room: what of the current state a client has to be told.

Source: MSC4186, "Changes to required_state", "Lazy loaded memberships".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import orjson

from homeserver.commit_log.log import CommitLog
from homeserver.filters.event_filter import ALL_ROOM_EVENTS
from homeserver.rooms.changes import RoomEventChange
from homeserver.rooms.event import Event
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.snapshot_reader import durable_event
from homeserver.sync.lazy_members import LazyMembers
from homeserver.sync.room_state import RoomStates, State, StateKey
from homeserver.sync.sliding.look import Candidate, Look
from homeserver.sync.timelines import Timeline

Changed = frozenset[StateKey]
NOTHING: Changed = frozenset()


@dataclass(frozen=True, slots=True)
class RequiredStates:
    """Works out required state. `lazy_members` knows by connection which members were sent."""

    log: CommitLog
    states: RoomStates
    lazy_members: LazyMembers

    def is_resolved(self, candidate: Candidate, room: Room) -> bool:
        """Whether resolution changed the room's state since the client was told of it: what has become of
        which piece is not written down, so it is told of the room from the start."""
        if room.resolved_at > candidate.since:
            return True
        if not self.log.tail.covers(candidate.since):
            return False
        return any(
            isinstance(change, RoomEventChange) and change.merge is not None and change.merge.state
            for change in self.log.tail.of_room(room.nid, candidate.since)
        )

    async def changed(self, look: Look, candidate: Candidate, room: Room, timeline: Timeline) -> Changed:
        """The keys of all state that changed, or was redacted, since the client was told of the room."""
        since = candidate.since
        tail = self.log.tail
        redactions = True
        if tail.covers(since):
            events = [
                change.event
                for change in tail.of_room(room.nid, since)
                if isinstance(change, RoomEventChange)
            ]
            keys = {event.key for event in events if event.state_key is not None}
            redactions = any(event.type == "m.room.redaction" for event in events)
        else:
            delta = await self.states.delta(look.context(since), room, timeline, ALL_ROOM_EVENTS)
            keys = set(delta)
        if redactions:
            keys.update(
                key
                for key, event in list(room.state.items())
                if event.redacted_by is not None and event.redacted_by > since
            )
        return frozenset(keys)

    def current(
        self,
        look: Look,
        candidate: Candidate,
        room: Room,
        timeline: Timeline,
        changed: Changed,
        senders: Collection[str],
    ) -> tuple[State, list[StateKey]]:
        """The state to tell of a joined room, and the keys of state that is gone. `senders` are those of
        events that the client has, of whom it may not have been told."""
        selection, position = candidate.selection, self.log.position
        if candidate.initial:
            state, gone = selection.select(room, position), list[StateKey]()
        else:
            state, gone = {}, []
            for key in changed:
                if selection.matches(key):
                    event = durable_event(room, key, position)
                    if event is not None:
                        state[key] = event
                    else:
                        gone.append(key)
            before = look.connection.selections[candidate.sent.selection] if candidate.sent else None
            if before is not None and before is not selection and before != selection:
                for key, event in selection.select(room, position).items():
                    if not before.matches(key):
                        state[key] = event
        if candidate.initial or timeline.limited:
            # "clients must flush any membership cache when limited is true"
            self.lazy_members.forget(look.connection.number, room.nid)
        if selection.lazy_members:
            self._add_members(look, candidate, room, timeline, changed, senders, state)
        return state, gone

    def of_departed(self, look: Look, candidate: Candidate, timeline: Timeline, state: State) -> State:
        """Of the state that a user who left may see, what is wanted."""
        selection = candidate.selection
        senders = {event.sender for event in timeline.events} | {look.requester.user_id}
        return {
            key: event
            for key, event in state.items()
            if selection.matches(key) or (selection.lazy_members and key[0] == MEMBER and key[1] in senders)
        }

    def _add_members(
        self,
        look: Look,
        candidate: Candidate,
        room: Room,
        timeline: Timeline,
        changed: Changed,
        senders: Collection[str],
        state: State,
    ) -> None:
        """Add the members that matter: who sent the timeline, whom it is about, and without a gap also those
        who changed; but none that were sent before."""
        number = look.connection.number
        sent = self.lazy_members.of(number, room.nid)
        wanted = {*senders, *(event.sender for event in timeline.events)}
        wanted.update(event.state_key or "" for event in timeline.events if event.type == MEMBER)
        news = {user_id for type, user_id in changed if type == MEMBER} if not timeline.limited else set()
        told: dict[str, int] = {key[1]: event.nid for key, event in state.items() if key[0] == MEMBER}
        for user_id in (*wanted, *news):
            member = durable_event(room, (MEMBER, user_id), self.log.position)
            if member is None or (user_id not in news and sent.get(user_id) == member.nid):
                continue
            state[member.key] = member
            told[user_id] = member.nid
        if told:
            self.lazy_members.note(number, room.nid, told)


def encode_state(state: State, gone: Sequence[StateKey]) -> list[bytes]:
    """State events, and stubs "to indicate that a piece of state has been deleted"."""
    encoded = [event.encode_state() for event in state.values()]
    return encoded + [orjson.dumps({"type": type, "state_key": key}) for type, key in gone]


def newest_bump(events: Sequence[Event], types: frozenset[str]) -> int:
    """The number of the newest event of some types; 0 if there is none."""
    return next((event.nid for event in reversed(events) if event.type in types), 0)
