"""The states at the ends of a room's branches, and what they resolve to."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from federation.auth_rules import AuthState
from federation.event import PDU
from federation.room_versions import RoomVersion
from federation.state_resolution import resolve
from homeserver.rooms.auth_chains import AuthChains
from homeserver.rooms.event import FLAG_REJECTED, Event
from homeserver.rooms.room import Room
from homeserver.rooms.snapshot_reader import SnapshotReader, State
from homeserver.storage import received_events as sql
from homeserver.storage.connection import Pool

RESULTS_ENTRIES_MAX = 300_000  # of remembered results, as numbers, of all rooms together
NUMBERS_MAX = 20_000  # snapshots of which it is remembered what they are
PDUS_ON_LOOP_MAX = 150  # more that may have to be looked at are resolved in a thread


@dataclass(frozen=True, slots=True)
class BranchState:
    """A state, what it comes from (so that the same one is known again), and its number if it has one."""

    origin: Hashable
    state: State
    number: int | None


class StateView:
    """A state as the authorisation rules look it up; what they ask for is parsed then."""

    __slots__ = ("_pdus", "_state", "_version")

    def __init__(self, version: RoomVersion, state: State) -> None:
        self._version = version
        self._state = state
        self._pdus: dict[tuple[str, str], PDU] = {}

    def get(self, key: tuple[str, str], /) -> PDU | None:
        pdu = self._pdus.get(key)
        if pdu is None and (event := self._state.get(key)) is not None:
            pdu = self._pdus[key] = event.pdu(self._version)
        return pdu


class BranchStates:
    """Reads and resolves states. Only for rooms with nothing pending (`Rooms.settle_whole`)."""

    def __init__(self, pool: Pool, reader: SnapshotReader, chains: AuthChains) -> None:
        self._pool = pool
        self._reader = reader
        self.chains = chains
        self._results: OrderedDict[tuple[int, Hashable], Mapping[tuple[str, str], int]] = OrderedDict()
        self._result_entries = 0
        self._numbers: OrderedDict[tuple[int, Hashable], int] = OrderedDict()

    async def after(self, room: Room, event: Event) -> BranchState:
        """The state after a stored event; a rejected one changes none."""
        state = await self._reader.at_snapshot(room, event.snapshot)
        if event.state_key is None or event.flags & FLAG_REJECTED:
            return BranchState((event.snapshot, None), state, event.snapshot)
        state[event.key] = event
        origin = (event.snapshot, event.event_id)
        return BranchState(origin, state, self._numbers.get((room.nid, origin)))

    def after_new(self, before: BranchState, event: Event) -> BranchState:
        """The state after an event that is not stored yet."""
        if event.state_key is None:
            return before
        return BranchState((before.origin, event.event_id), {**before.state, event.key: event}, None)

    async def at(self, room: Room, snapshot: int) -> State:
        """The state of this number."""
        return await self._reader.at_snapshot(room, snapshot)

    def auth_state(self, room: Room, state: State) -> AuthState:
        """A state for the authorisation rules."""
        return AuthState(room.version, StateView(room.version, state))

    def forget(self, room_nid: int) -> None:
        """Read a room's states anew: something that was remembered of them was not stored."""
        self.chains.forget(room_nid)
        for key in [key for key in self._numbers if key[0] == room_nid]:
            del self._numbers[key]
        for key in [key for key in self._results if key[0] == room_nid]:
            self._result_entries -= len(self._results.pop(key))

    def number(self, room: Room, branch: BranchState, number: int) -> None:
        """Remember under which number a state is stored."""
        self._numbers[(room.nid, branch.origin)] = number
        if len(self._numbers) > NUMBERS_MAX:
            self._numbers.popitem(last=False)

    async def resolve(
        self, room: Room, branches: Sequence[BranchState], new: Mapping[str, PDU]
    ) -> BranchState:
        """One state out of several. `new` are the events in them that are not stored yet."""
        distinct = {branch.origin: branch for branch in branches}
        if not distinct:
            return BranchState((0, None), {}, 0)
        found = list(distinct.values())
        first = found[0]
        if len(found) == 1 or all(_same(first.state, other.state) for other in found[1:]):
            return next((branch for branch in found if branch.number is not None), first)
        origin: Hashable = frozenset(distinct)
        key = (room.nid, origin)
        known = self._results.get(key)
        if known is not None:
            self._results.move_to_end(key)
            state = await self._reader.of_numbers(room, known)
            return BranchState(origin, state, self._numbers.get(key))
        state = await self._resolve(room, [branch.state for branch in found], new)
        if all(event.nid for event in state.values()):
            self._keep(key, {state_key: event.nid for state_key, event in state.items()})
        return BranchState(origin, state, self._numbers.get(key))

    async def _resolve(self, room: Room, states: Sequence[State], new: Mapping[str, PDU]) -> State:
        events = {event.event_id: event for state in states for event in state.values()}
        ids = [{key: event.event_id for key, event in state.items()} for state in states]
        graph = await self.chains.graph(room, ids, new)
        if len(graph.pdus) > PDUS_ON_LOOP_MAX:
            resolved = await asyncio.to_thread(resolve, room.version, ids, graph)
        else:
            resolved = resolve(room.version, ids, graph)
        missing = [event_id for event_id in resolved.values() if event_id not in events]
        if missing:
            for row in await sql.known(self._pool, room.nid, missing):
                events[row["event_id"]] = Event.of_row(row)
        return {key: events[event_id] for key, event_id in resolved.items()}

    def _keep(self, key: tuple[int, Hashable], nids: Mapping[tuple[str, str], int]) -> None:
        self._results[key] = nids
        self._result_entries += len(nids)
        while self._result_entries > RESULTS_ENTRIES_MAX and len(self._results) > 1:
            self._result_entries -= len(self._results.popitem(last=False)[1])


def _same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(
        event.event_id == second[key].event_id for key, event in first.items()
    )
