"""What an accepted event from another server does to its room, in memory and as a change of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import orjson

from federation.auth_rules import redaction_applies
from federation.event import PDU
from federation.power_levels import PowerLevels
from homeserver.commit_log.change import Change
from homeserver.rooms.branch_states import BranchState, BranchStates
from homeserver.rooms.changes import MemberChange, Merge, Redaction, RoomEventChange
from homeserver.rooms.event import Event
from homeserver.rooms.redacting import redact_current, redaction_of
from homeserver.rooms.relations_of import relation_of
from homeserver.rooms.room import MEMBER, Room, is_shared
from homeserver.rooms.room_servers import Servers, servers_to_tell, without
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.snapshots import Branch, Layer

StateKey = tuple[str, str]
INTEGER_MAX = 2**63 - 1  # of PostgreSQL; old room versions allow any
NO_MEMBERSHIPS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Decision:
    """An event that was judged, and the state before it: `number`, if that has one.

    `stored` is its row, where it was known as an outlier.
    """

    pdu: PDU
    json: bytes
    number: int | None
    before: BranchState | None = None
    stored: Event | None = None


@dataclass(frozen=True, slots=True)
class WaitingRedaction:
    """An accepted redaction whose target was not known, with the power levels at it."""

    pdu: PDU
    event: Event
    power_levels: PowerLevels


@dataclass(frozen=True, slots=True)
class Merged:
    """What a room would become with an event: its newest events, and the state that theirs resolve to."""

    decision: Decision
    event: Event
    extremities: tuple[Event, ...]
    state: BranchState


@dataclass(slots=True)
class Surroundings:
    """The events that a batch knows by id, and the redactions that wait for some of it.

    `relay_for` is the server for which this one passes what it accepts on to the others in the room.
    """

    known: dict[str, Event]
    redactions: dict[str, list[WaitingRedaction]]
    relay_for: str | None = None

    def destinations(self, before: Servers, after: Servers) -> Servers:
        """Whom an event goes to, with the servers in the room before and after it."""
        if self.relay_for is None:
            return ()
        return without(servers_to_tell(before, after), self.relay_for)


class Accepting:
    """Applies decisions. What is not `async` happens at once, so nobody can come between."""

    def __init__(self, rooms: Rooms, branches: BranchStates) -> None:
        self._rooms = rooms
        self._branches = branches

    def next(
        self, room: Room, decision: Decision, around: Surroundings
    ) -> tuple[Event, asyncio.Future[None]]:
        """Append an event that names all the newest ones."""
        event = new_event(room, decision.pdu, decision.json, room.state)
        event.snapshot = room.chain.number
        levels = room.power_levels if decision.pdu.redacts is not None else None
        membership_before = room.membership(event.state_key or "") if event.type == MEMBER else None
        own = self._redaction_of(room, event, decision.pdu, around)
        change = RoomEventChange(event, room.nid, room, room.generation, room.chain.number, redaction=own)
        servers_before = room.remote_servers
        room.move((event,), {event.key: event} if event.state_key is not None else {})
        change.destinations = around.destinations(servers_before, room.remote_servers)
        if event.state_key is not None:
            change.layer = room.chain.advance(event)
            change.membership_before = membership_before
        return event, self._finish(room, change, decision.pdu, around, levels)

    async def merged(self, room: Room, decision: Decision, followed: Collection[str]) -> Merged:
        """What an event elsewhere in the graph makes of the room. `followed` are the ids of events that are
        newest ones no more after it.
        """
        pdu, before = decision.pdu, decision.before
        if before is None:
            raise ValueError("an event elsewhere in the graph comes with the state before it")
        event = new_event(room, pdu, decision.json, before.state)
        if decision.stored is not None:
            event.nid = decision.stored.nid
        remaining = [known for known in room.extremities if known.event_id not in followed]
        ends = [self._branches.after_new(before, event)]
        ends += [await self._branches.after(room, known) for known in remaining]
        state = await self._branches.resolve(room, ends, {pdu.event_id: pdu})
        newest_first = sorted((event, *remaining), key=lambda each: (-each.depth, each.event_id))
        return Merged(decision, event, tuple(newest_first), state)

    def branch(
        self,
        room: Room,
        merged: Merged,
        around: Surroundings,
        first: Sequence[Change] = (),
        outside: Mapping[str, str] = NO_MEMBERSHIPS,
    ) -> tuple[Event, asyncio.Future[None]]:
        """Take such an event in, and store `first` with it. The room must be as `merged` saw it.

        `outside` are memberships of this node's users that other servers told of while it was not in the
        room, and in whose place the room's state comes now.
        """
        event, pdu, state = merged.event, merged.decision.pdu, merged.state.state
        levels = self._levels_before(room, merged.decision) if pdu.redacts is not None else None
        own = self._redaction_of(room, event, pdu, around)
        event.snapshot, fork = self.numbered(room, merged.decision)
        changes: dict[StateKey, Event | None] = {
            key: now
            for key, now in state.items()
            if (was := room.state.get(key)) is None or was.event_id != now.event_id
        }
        changes.update((key, None) for key in room.state if key not in state)
        changed = {user_id: now for (type, user_id), now in changes.items() if type == MEMBER}
        for user_id in outside:
            changed.setdefault(user_id, state.get((MEMBER, user_id)))
        members = tuple(
            MemberChange(user_id, outside.get(user_id) or room.membership(user_id), now)
            for user_id, now in changed.items()
            if now is not event
        )
        wins = event.state_key is not None and changes.get(event.key) is event
        change = RoomEventChange(event, room.nid, room, room.generation, 0, redaction=own)
        if wins and event.type == MEMBER:
            change.membership_before = room.membership(event.state_key or "")
        servers_before = room.remote_servers
        room.move(merged.extremities, changes)
        change.destinations = around.destinations(servers_before, room.remote_servers)
        layers: list[Layer] = [fork.layer] if fork is not None else []
        if fork is not None and len(merged.extremities) == 1:
            room.chain.take(fork)
            if event.state_key is not None:
                change.layer = room.chain.advance(event)
        elif wins and len(changes) == 1:
            change.layer = room.chain.advance(event)
        elif changes:
            current = room.chain.branch(room.state)
            room.chain.take(current)
            layers.append(current.layer)
        self._branches.number(room, merged.state, room.chain.number)
        told = () if room.is_new else _told(room, event, changes)
        change.merge = Merge(
            extremities=merged.extremities, layers=tuple(layers), state=told, members=members
        )
        return event, self._finish(room, change, pdu, around, levels, first)

    def refused(self, room: Room, decision: Decision) -> tuple[Event, list[Layer]]:
        """An event that will take no part in the room, and layers to be stored with it."""
        state = decision.before.state if decision.before is not None else room.state
        event = new_event(room, decision.pdu, decision.json, state)
        event.snapshot, fork = self.numbered(room, decision)
        return event, [fork.layer] if fork is not None else []

    def numbered(self, room: Room, decision: Decision) -> tuple[int, Branch | None]:
        """The number of the state before an event, and the layer if it is a new one."""
        before = decision.before
        if decision.number is not None:
            return decision.number, None
        if before is None or not before.state:
            return 0, None
        if _equal(before.state, room.state):
            number, fork = room.chain.number, None
        else:
            fork = room.chain.branch(before.state)
            number = fork.layer.number
        self._branches.number(room, before, number)
        return number, fork

    def _finish(
        self,
        room: Room,
        change: RoomEventChange,
        pdu: PDU,
        around: Surroundings,
        levels: PowerLevels | None,
        first: Sequence[Change] = (),
    ) -> asyncio.Future[None]:
        """What all accepted events have in common."""
        event = change.event
        change.snapshot_after = room.chain.number
        room.generation += 1
        if event.state_key is None:
            if change.redaction is None:
                change.relation = relation_of(pdu.content)
        elif event.type == "m.room.history_visibility" and not is_shared(event):
            room.always_shared = False
        if pdu.redacts is not None and levels is not None:
            self._redact(room, change, pdu, around, levels)
        if room.summary_outdated:
            change.summary = room.summary_json()
        around.known[event.event_id] = event
        return self._rooms.submit(room, [*first, change])

    # -- redactions --

    def _redact(
        self, room: Room, change: RoomEventChange, pdu: PDU, around: Surroundings, levels: PowerLevels
    ) -> None:
        """Source: rooms/v3, "Handling redactions"."""
        target_id = pdu.redacts or ""
        target = around.known.get(target_id)
        if target is None:
            waiting = WaitingRedaction(pdu, change.event, levels)
            around.redactions.setdefault(target_id, []).append(waiting)
            merge = change.merge or Merge(extremities=room.extremities)
            change.merge = Merge(
                extremities=merge.extremities,
                layers=merge.layers,
                state=merge.state,
                members=merge.members,
                awaits_target=target_id,
            )
        elif (
            change.redaction is None
            and target.redacted_by is None
            and redaction_applies(pdu, target.pdu(room.version), levels)
        ):
            change.redaction = redaction_of(room, target, change.event)
            redact_current(room, change.redaction)

    def _redaction_of(self, room: Room, event: Event, pdu: PDU, around: Surroundings) -> Redaction | None:
        """If a redaction came before its target, the target is redacted from the start."""
        for waiting in around.redactions.get(event.event_id, ()):
            if redaction_applies(waiting.pdu, pdu, waiting.power_levels):
                redaction = redaction_of(room, event, waiting.event)
                event.redacted(redaction.json, waiting.event)
                return redaction
        return None

    def _levels_before(self, room: Room, decision: Decision) -> PowerLevels:
        if decision.before is None:
            return room.power_levels
        return self._branches.auth_state(room, decision.before.state).power_levels


def new_event(room: Room, pdu: PDU, json: bytes, state: Mapping[StateKey, Event]) -> Event:
    """An event after a state; its snapshot is not set yet."""
    previous = state.get((pdu.type, pdu.state_key)) if pdu.state_key is not None else None
    event = Event.of_pdu(
        pdu,
        json,
        room_nid=room.nid,
        snapshot=0,
        replaces=previous,
        replaces_state=previous.event_id if previous is not None else None,
        prev_content=orjson.dumps(previous.content) if previous is not None else None,
    )
    event.depth = min(event.depth, INTEGER_MAX)
    event.origin_server_ts = max(-INTEGER_MAX, min(event.origin_server_ts, INTEGER_MAX))
    return event


def _told(room: Room, event: Event, changes: Mapping[StateKey, Event | None]) -> tuple[Event, ...]:
    """The state that clients have to be told of besides an event."""
    told = [now for now in changes.values() if now is not None and now is not event]
    if event.state_key is None:
        return tuple(told)
    now = room.state.get(event.key)
    if now is not event and now is not None and now not in told:
        told.append(now)  # whoever is shown the event learns what holds in spite of it
    elif now is event and event.nid < 0:
        told.append(event)  # it was known as an outlier, so no timeline has it
    return tuple(told)


def _equal(first: Mapping[StateKey, Event], second: Mapping[StateKey, Event]) -> bool:
    return len(first) == len(second) and all(
        (other := second.get(key)) is not None and other.event_id == event.event_id
        for key, event in first.items()
    )
