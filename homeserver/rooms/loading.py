"""Rooms from storage into memory, and out again when they have not been used for long."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from federation.room_versions import room_version
from homeserver.rooms.event import Event
from homeserver.rooms.room import Room, is_shared
from homeserver.rooms.snapshots import Layer, SnapshotChain
from homeserver.storage import events as event_sql
from homeserver.storage import history as history_sql
from homeserver.storage import rooms as room_sql
from homeserver.storage.database import Database

EVENTS_PER_QUERY = 2000
EVENTS_PER_PAUSE = 500  # read from their rows before others on the event loop get their turn


class RoomCache:
    """Loaded rooms, as many as fit in `bytes_max`; rooms with something uncommitted stay."""

    def __init__(self, database: Database, server_name: str, bytes_max: int) -> None:
        self._database = database
        self._server_name = server_name
        self._bytes_max = bytes_max
        self._rooms: OrderedDict[int, Room] = OrderedDict()
        self._nids: dict[str, int] = {}
        self._loading: dict[str | int, asyncio.Task[Room | None]] = {}
        self._counted: dict[int, int] = {}  # the bytes of each room that are part of `size_bytes`
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._rooms)

    def loaded(self, room_id: str) -> Room | None:
        """The room if it is in memory."""
        nid = self._nids.get(room_id)
        return self.loaded_nid(nid) if nid is not None else None

    def loaded_nid(self, nid: int) -> Room | None:
        """The room if it is in memory."""
        room = self._rooms.get(nid)
        if room is None:
            return None
        if room.stale:
            self.drop(room)
            return None
        self._rooms.move_to_end(nid)
        return room

    async def get(self, room_id: str) -> Room | None:
        """The room, or None if there is none of this id."""
        return self.loaded(room_id) or await self._load_once(
            room_id, lambda: room_sql.by_id(self._database.pool, room_id)
        )

    async def get_nid(self, nid: int) -> Room | None:
        """The room, or None if there is none of this number."""
        return self.loaded_nid(nid) or await self._load_once(
            nid, lambda: room_sql.by_nid(self._database.pool, nid)
        )

    def add(self, room: Room) -> None:
        """Keep a room that was read or created."""
        self._rooms[room.nid] = room
        self._nids[room.room_id] = room.nid
        self.count(room)

    def count(self, room: Room) -> None:
        """Take in how large a room is by now."""
        if self._rooms.get(room.nid) is room:
            self.size_bytes += room.size_bytes - self._counted.get(room.nid, 0)
            self._counted[room.nid] = room.size_bytes
            if self.size_bytes > self._bytes_max:
                self._shrink()

    def drop(self, room: Room) -> None:
        """Forget a room; whoever wants it reads it again."""
        if self._rooms.get(room.nid) is room:
            del self._rooms[room.nid]
            del self._nids[room.room_id]
            self.size_bytes -= self._counted.pop(room.nid)

    def _shrink(self) -> None:
        """Let those go that were used longest ago, to nine tenths."""
        for room in list(self._rooms.values())[:-1]:
            if self.size_bytes <= self._bytes_max * 9 // 10:
                return
            if not room.pending:
                self.drop(room)

    async def _load_once(
        self, key: str | int, read: Callable[[], Awaitable[room_sql.Record | None]]
    ) -> Room | None:
        """Load a room; those who want the same room meanwhile wait for the same one."""
        task = self._loading.get(key)
        if task is None:
            task = self._loading[key] = asyncio.ensure_future(self._load(read))
            task.add_done_callback(lambda _: self._loading.pop(key, None))
        return await asyncio.shield(task)

    async def _load(self, read: Callable[[], Awaitable[room_sql.Record | None]]) -> Room | None:
        while True:
            row = await read()
            if row is None:
                return None
            room = await self._read(row)
            current = await room_sql.by_nid(self._database.pool, room.nid)
            if current is None or current["generation"] != room.generation:
                continue
            known = self.loaded_nid(room.nid)  # two copies would each miss what the other is sent
            if known is not None:
                return known
            self.add(room)
            return room

    async def _read(self, row: room_sql.Record) -> Room:
        pool = self._database.pool
        room = Room(
            nid=row["nid"],
            room_id=row["room_id"],
            version=room_version(row["version"]),
            server_name=self._server_name,
        )
        room.generation = row["generation"]
        if row["partial_servers"] is not None:
            room.lacks_members_of(row["partial_servers"])
        layers = await event_sql.snapshot_layers(pool, room.nid, row["snapshot"])
        nids = {nid for layer in layers for nid in layer["event_nids"]}
        events = await self._events([*nids, *row["extremities"]])
        chain = [
            Layer(
                layer["number"],
                layer["parent"],
                layer["height"],
                {events[nid].key: events[nid] for nid in layer["event_nids"]},
            )
            for layer in layers
        ]
        last_snapshot, room.resolved_at = await event_sql.last_numbers(pool, room.nid)
        room.chain = SnapshotChain(chain, last_snapshot + 1)
        state = {key: event for layer in chain for key, event in layer.delta.items()}
        for count, event in enumerate(state.values()):
            room.load_state((event,))
            if count % EVENTS_PER_PAUSE == EVENTS_PER_PAUSE - 1:
                await asyncio.sleep(0)
        room.extremities = tuple(events[nid] for nid in row["extremities"])
        for past in await event_sql.of_state_type(pool, room.nid, "m.room.history_visibility", ""):
            room.always_shared = room.always_shared and is_shared(Event.of_row(past))
        return room

    async def _events(self, nids: list[int]) -> dict[int, Event]:
        pool = self._database.pool
        events: dict[int, Event] = {}
        for start in range(0, len(nids), EVENTS_PER_QUERY):
            rows = await event_sql.by_nids(pool, nids[start : start + EVENTS_PER_QUERY])
            events.update((row["nid"], Event.of_row(row)) for row in rows)
        redacted = [nid for nid, event in events.items() if event.redacted_by is not None]
        if redacted:  # few are: clients are to know by what
            for row in await history_sql.state_events(pool, redacted):
                events[row["nid"]] = Event.of_timeline_row(row)
        return events
