"""The whole state of a room at some point of its past. See snapshots.py for how it is stored."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from homeserver.rooms.event import Event
from homeserver.rooms.room import Room
from homeserver.storage import events as event_sql
from homeserver.storage import history as sql
from homeserver.storage.connection import Pool

StateKey = tuple[str, str]
State = dict[StateKey, Event]
ENTRIES_MAX = 50_000  # pieces of state remembered, as numbers, of all rooms together


class SnapshotReader:
    """Reads states. Keeps which events a snapshot holds, but not the events: they may be redacted."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: OrderedDict[tuple[int, int], Mapping[StateKey, int]] = OrderedDict()
        self._entries = 0

    async def state_before(self, room: Room, event_nid: int) -> State:
        """The room's state just before one of its events; empty if there is no such event."""
        event = await self._event(event_nid)
        return await self.at_snapshot(room, event.snapshot) if event is not None else {}

    async def state_after(self, room: Room, event_nid: int) -> State:
        """As `state_before`, with the event taken in if it is a state event."""
        event = await self._event(event_nid)
        if event is None:
            return {}
        state = await self.at_snapshot(room, event.snapshot)
        if event.state_key is not None:
            state[event.key] = event
        return state

    async def _event(self, nid: int) -> Event | None:
        rows = await sql.state_events(self._pool, [nid])
        return Event.of_timeline_row(rows[0]) if rows else None

    async def at_snapshot(self, room: Room, number: int) -> State:
        """The state of this number. The caller may change the dictionary."""
        if number == 0:
            return {}
        if number == room.chain.number and not room.pending:
            return dict(room.state)
        known = self._known.get((room.nid, number))
        if known is None:
            current = {event.nid: event for event in room.state.values()}
            return await self._read(room.nid, number, current)
        self._known.move_to_end((room.nid, number))
        return await self.of_numbers(room, known)

    async def of_numbers(self, room: Room, nids: Mapping[StateKey, int]) -> State:
        """A state whose events are known by number."""
        current = {event.nid: event for event in room.state.values()}
        events = await self._events(nids.values(), current)
        return {key: events[nid] for key, nid in nids.items()}

    async def _read(self, room_nid: int, number: int, current: Mapping[int, Event]) -> State:
        layers = await event_sql.snapshot_layers(self._pool, room_nid, number)
        events = await self._events((nid for layer in layers for nid in layer["event_nids"]), current)
        state: State = {}
        for layer in layers:  # lowest first, so that what is newer replaces what is older
            for nid in layer["event_nids"]:
                event = events[nid]
                state[event.key] = event
        if layers:
            self._keep((room_nid, number), {key: event.nid for key, event in state.items()})
        return state

    async def _events(self, nids: Iterable[int], current: Mapping[int, Event]) -> dict[int, Event]:
        found: dict[int, Event] = {}
        missing: set[int] = set()
        for nid in nids:
            event = current.get(nid)
            if event is not None:
                found[nid] = event
            else:
                missing.add(nid)
        if missing:
            for row in await sql.state_events(self._pool, list(missing)):
                found[row["nid"]] = Event.of_timeline_row(row)
        return found

    def forget(self, room_nid: int) -> None:
        """Read a room's states anew: they have been completed."""
        for key in [key for key in self._known if key[0] == room_nid]:
            self._entries -= len(self._known.pop(key))

    def _keep(self, key: tuple[int, int], nids: Mapping[StateKey, int]) -> None:
        replaced = self._known.pop(key, None)
        if replaced is not None:
            self._entries -= len(replaced)
        self._known[key] = nids
        self._entries += len(nids)
        while self._entries > ENTRIES_MAX and len(self._known) > 1:
            self._entries -= len(self._known.popitem(last=False)[1])


def durable_state(room: Room, position: int) -> State:
    """The room's current state, `position` being the log's: what is being committed is left out."""
    if not room.pending:
        return dict(room.state)
    found = ((key, durable_event(room, key, position)) for key in room.state)
    return {key: event for key, event in found if event is not None}


def durable_event(room: Room, key: StateKey, position: int) -> Event | None:
    """One piece of `durable_state`."""
    event = room.state.get(key)
    if not room.pending:
        return event
    while event is not None and (event.nid == 0 or event.nid > position):
        event = event.replaces if isinstance(event.replaces, Event) else None
    return event
