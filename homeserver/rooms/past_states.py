"""The states before events that are fetched from a room's past.

The state before the oldest of them is asked for; from there it is carried on, event by event. Forks resolve
as they do at the room's end. Each state is stored as a layer on the one before it, so a page of history with
many changes costs no copies.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from federation.event import PDU
from homeserver.rooms.branch_states import BranchState, BranchStates
from homeserver.rooms.event import FLAG_OUTLIER, FLAG_REJECTED, Event
from homeserver.rooms.room import Room
from homeserver.rooms.snapshots import Layer, SnapshotChain

NO_STATE = BranchState((0, None), {}, 0)


@dataclass(slots=True)
class PastStates:
    """The states of one page of history. `events` are its events, `known` others that are stored.

    `given` names, for some, the events of the state before them.
    """

    branches: BranchStates
    room: Room
    events: Mapping[str, Event]
    known: Mapping[str, Event]
    rejected: Collection[str]
    given: Mapping[str, Sequence[str]]
    before: dict[str, BranchState] = field(default_factory=dict)
    _steps: dict[Hashable, tuple[Hashable, Event]] = field(default_factory=dict)
    _resolved: dict[Hashable, BranchState] = field(default_factory=dict)

    async def follow(self, pdus: Sequence[PDU]) -> None:
        """Find the states `before` events that come in the order of the graph, where they can be told."""
        new = {pdu.event_id: pdu for pdu in pdus}
        for pdu in pdus:
            before = await self._before(pdu, new)
            if before is not None:
                self.before[pdu.event_id] = before

    async def _before(self, pdu: PDU, new: Mapping[str, PDU]) -> BranchState | None:
        ids = self.given.get(pdu.event_id)
        if ids is not None:
            return self._of_ids(ids)
        if not pdu.prev_events:
            return NO_STATE
        ends: list[BranchState] = []
        for event_id in pdu.prev_events:
            end = await self._after(event_id)
            if end is None:
                return None
            ends.append(end)
        if len(ends) == 1:
            return ends[0]
        origin = frozenset(end.origin for end in ends)
        resolved = self._resolved.get(origin)
        if resolved is None:
            resolved = self._resolved[origin] = await self.branches.resolve(self.room, ends, new)
        return resolved

    def _of_ids(self, ids: Sequence[str]) -> BranchState:
        events = [event for id in ids if (event := self.known.get(id)) is not None]
        state = {e.key: e for e in events if e.state_key is not None and not e.flags & FLAG_REJECTED}
        return BranchState(object(), state, None)

    async def _after(self, event_id: str) -> BranchState | None:
        before = self.before.get(event_id)
        event = self.events.get(event_id)
        if before is not None and event is not None:
            if event.state_key is None or event_id in self.rejected:
                return before
            after = self.branches.after_new(before, event)
            self._steps[after.origin] = before.origin, event
            return after
        stored = self.known.get(event_id)
        if stored is None or stored.flags & FLAG_OUTLIER or stored.snapshot < 0:
            return None
        return await self.branches.after(self.room, stored)

    def visibilities(self) -> list[Event]:
        """The events that said who may see history, in all these states."""
        key = ("m.room.history_visibility", "")
        return [event for before in self.before.values() if (event := before.state.get(key)) is not None]

    def number(self) -> tuple[dict[str, int], list[Layer]]:
        """Number the states, at once, so that nobody takes the same numbers: by event id, and the layers of
        those that are new."""
        chain = SnapshotChain(list(self.room.chain.layers), self.room.chain.next_number)
        numbers: dict[Hashable, int] = {}
        layers: list[Layer] = []
        current: Hashable = None
        for state in self.before.values():
            if state.number is not None or state.origin in numbers:
                continue
            step = self._steps.get(state.origin)
            if step is not None and step[0] == current:
                layers.append(chain.advance(step[1]))
            else:
                branch = chain.branch(state.state)
                chain.take(branch)
                layers.append(branch.layer)
            current = state.origin
            numbers[current] = chain.number
        self.room.chain.next_number = chain.next_number
        return {
            event_id: numbers[state.origin] if state.number is None else state.number
            for event_id, state in self.before.items()
        }, layers
