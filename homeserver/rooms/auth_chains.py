"""What authorises what, as bitmaps: the graph that state resolution asks.

Each state event of a room gets a small number here, and its auth chain is a set of such numbers
(`pyroaring`). Chains are computed once, each from those of the events that it cites, so the difference of
two states' chains costs a few set operations. The index of a room can be let go at any time: it is read
again from `events.json`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson
from pyroaring import BitMap

from federation.auth_events import auth_event_keys
from federation.event import PDU, StateKey, parse_pdu
from federation.room_versions import RoomVersion, StateResolution
from federation.state_resolution import StateMap
from homeserver.errors import Unavailable
from homeserver.rooms.event import FLAG_REJECTED
from homeserver.rooms.room import Room
from homeserver.storage import received_events as sql
from homeserver.storage.connection import Pool

CREATE: StateKey = ("m.room.create", "")
POWER: StateKey = ("m.room.power_levels", "")
EVENTS_MAX = 300_000  # indexed, of all rooms together
EVENTS_OF_ROOM_MAX = 200_000  # read at once: no honest room has as much state history
PDUS_MAX = 5_000  # parsed events kept, of all rooms together
ADDED_AT_ONCE = 1_000  # events, before others on the event loop get their turn


@dataclass(slots=True)
class RoomChains:
    """Numbers, chains (with the event itself) and edges of one room's events."""

    ids: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    chains: list[BitMap] = field(default_factory=list)
    rejected: set[str] = field(default_factory=set)

    def add_all(self, edges: Mapping[str, Sequence[str]], starts: Iterable[str] | None = None) -> None:
        """Take in events with their auth events; those that are neither known nor among them are left out.

        With ``starts``, these of them and what they need.
        """
        done: set[str] = set()
        for start in edges if starts is None else starts:
            stack = [start]
            open_ids: set[str] = set()
            while stack:  # post-order without recursion
                event_id = stack[-1]
                if event_id in self.numbers or event_id in done:
                    stack.pop()
                    continue
                open_ids.add(event_id)
                waiting = [
                    cited
                    for cited in edges[event_id]
                    if cited in edges and cited not in self.numbers and cited not in open_ids
                ]
                if waiting:
                    stack.extend(waiting)
                    continue
                stack.pop()
                done.add(event_id)
                self._add(event_id, edges[event_id])

    def _add(self, event_id: str, auth_events: Iterable[str]) -> None:
        numbers = [self.numbers[cited] for cited in auth_events if cited in self.numbers]
        chain = BitMap.union(*(self.chains[number] for number in numbers)) if numbers else BitMap()
        number = len(self.ids)
        chain.add(number)
        self.ids.append(event_id)
        self.numbers[event_id] = number
        self.chains.append(chain)

    def chain(self, event_ids: Iterable[str]) -> BitMap:
        """The union of the events' chains."""
        chains = [self.chains[self.numbers[event_id]] for event_id in event_ids if event_id in self.numbers]
        return BitMap.union(*chains) if chains else BitMap()

    def names(self, numbers: Iterable[int]) -> set[str]:
        return {self.ids[number] for number in numbers}


@dataclass(frozen=True, slots=True)
class ChainGraph:
    """A `federation.state_resolution.EventGraph`: needs no database, so it may go to a thread."""

    chains: RoomChains
    pdus: Mapping[str, PDU]

    def event(self, event_id: str) -> PDU:
        return self.pdus[event_id]

    def is_rejected(self, event_id: str) -> bool:
        return event_id in self.chains.rejected

    def auth_chain(self, event_ids: Iterable[str]) -> set[str]:
        return self.chains.names(self.chains.chain(event_ids))

    def auth_difference(self, state_sets: Sequence[Collection[str]]) -> set[str]:
        return self.chains.names(difference(self.chains, [set(state) for state in state_sets]))


def difference(chains: RoomChains, state_sets: Sequence[set[str]]) -> BitMap:
    """The auth difference as numbers. What all states have is in every chain: it is looked at once."""
    if not state_sets:
        return BitMap()
    common = state_sets[0].intersection(*state_sets[1:])
    own = [chains.chain(state - common) for state in state_sets]
    return BitMap.union(*own) - BitMap.intersection(*own) - chains.chain(common)


class AuthChains:
    """The chains of all rooms that needed them lately."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._rooms: OrderedDict[int, RoomChains] = OrderedDict()
        self._pdus: OrderedDict[str, PDU] = OrderedDict()

    async def graph(self, room: Room, states: Sequence[StateMap], new: Mapping[str, PDU]) -> ChainGraph:
        """What resolving these states asks. `new` are events that are not stored yet."""
        chains = self._rooms.setdefault(room.nid, RoomChains())
        self._rooms.move_to_end(room.nid)
        sets = [set(state.values()) for state in states]
        await self._load(room.nid, chains, set().union(*sets), new)
        common = sets[0].intersection(*sets[1:])
        conflicted = set().union(*sets) - common
        wanted = chains.names(chains.chain(conflicted) | difference(chains, sets)) | conflicted
        wanted.update(state[CREATE] for state in states if CREATE in state)
        # the mainline goes down from the power levels, agreed on or not
        wanted |= chains.names(chains.chain(state[POWER] for state in states if POWER in state))
        if room.version.state_resolution is StateResolution.V1:
            wanted |= common  # which its rules see all of
        pdus = await self.pdus(room, wanted, new)
        # Events are judged by what the states agree on, too.
        judged_by = {
            state[key]
            for pdu in pdus.values()
            for key in auth_event_keys(room.version, pdu.type, pdu.state_key, pdu.sender, pdu.content)
            for state in states
            if key in state
        }
        pdus |= await self.pdus(room, judged_by - pdus.keys(), new)
        self._shrink()
        return ChainGraph(chains, pdus)

    async def behind(self, room: Room, event_ids: Collection[str]) -> list[str]:
        """What authorises stored events, and what authorises that: their auth chain, without themselves
        unless they authorise each other. Raises Unavailable."""
        chains = self._rooms.setdefault(room.nid, RoomChains())
        self._rooms.move_to_end(room.nid)
        await self._load(room.nid, chains, set(event_ids), {})
        wanted = [number for event_id in event_ids if (number := chains.numbers.get(event_id)) is not None]
        found = BitMap()
        for start in range(0, len(wanted), ADDED_AT_ONCE):
            for number in wanted[start : start + ADDED_AT_ONCE]:
                chain = chains.chains[number].copy()
                chain.discard(number)
                found |= chain
            await asyncio.sleep(0)
        self._shrink()
        return [chains.ids[number] for number in found]

    async def _load(
        self, room_nid: int, chains: RoomChains, event_ids: set[str], new: Mapping[str, PDU]
    ) -> None:
        missing = {event_id for event_id in event_ids if event_id not in chains.numbers}
        missing |= {cited for pdu in new.values() for cited in pdu.auth_events if cited not in chains.numbers}
        edges: dict[str, Sequence[str]] = {
            event_id: pdu.auth_events for event_id, pdu in new.items() if event_id in missing
        }
        if stored := missing - new.keys():
            rows = await sql.auth_edges(
                self._pool, room_nid, list(stored), list(chains.numbers), EVENTS_OF_ROOM_MAX
            )
            if len(rows) == EVENTS_OF_ROOM_MAX:
                raise Unavailable("The room's state has too long a history")
            for row in rows:
                edges[row["event_id"]] = row["auth_events"]
                if row["flags"] & FLAG_REJECTED:
                    chains.rejected.add(row["event_id"])
        starts = list(edges)
        for index in range(0, len(starts), ADDED_AT_ONCE):
            chains.add_all(edges, starts[index : index + ADDED_AT_ONCE])
            await asyncio.sleep(0)

    async def pdus(self, room: Room, event_ids: Collection[str], new: Mapping[str, PDU]) -> dict[str, PDU]:
        """Events by id, as the rules read them. Those that are not known are left out."""
        found = {event_id: pdu for event_id, pdu in new.items() if event_id in event_ids}
        missing: list[str] = []
        for event_id in event_ids:
            if event_id in found:
                continue
            pdu = self._pdus.get(event_id)
            if pdu is None:
                missing.append(event_id)
            else:
                self._pdus.move_to_end(event_id)
                found[event_id] = pdu
        if missing:
            for row in await sql.known(self._pool, room.nid, missing):
                pdu = _parsed(row["json"], room.version, row["event_id"])
                found[pdu.event_id] = self._pdus[pdu.event_id] = pdu
        while len(self._pdus) > PDUS_MAX:
            self._pdus.popitem(last=False)
        return found

    def _shrink(self) -> None:
        total = sum(len(chains.ids) for chains in self._rooms.values())
        while total > EVENTS_MAX and len(self._rooms) > 1:
            total -= len(self._rooms.popitem(last=False)[1].ids)

    def forget(self, room_nid: int) -> None:
        """Read a room's chains anew: something that they hold was not stored."""
        self._rooms.pop(room_nid, None)


def _parsed(json: bytes, version: RoomVersion, event_id: str) -> PDU:
    return parse_pdu(orjson.loads(json), version, event_id=event_id)
