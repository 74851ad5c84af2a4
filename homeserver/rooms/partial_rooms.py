"""Rooms that were entered without most of their members, and how these are added when they are known.

A room is of use at once: what it is called, who may do what. `Room.partial_servers` is set meanwhile. Events
from elsewhere are judged by what is known, and where somebody's membership is not, by the member event that
they cite (`partial_state`). When the members are known, they are added to the layers that states start with
(see `snapshots`), which repairs every state since the join at once; then the room is read again. Clients are
told of them as of state that has changed. Source: proposals/3706-partial-state-in-send-join.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from federation.event import PDU
from homeserver.commit_log.committer import ChainBroken
from homeserver.errors import Unavailable
from homeserver.rooms.branch_states import BranchStates
from homeserver.rooms.changes import RoomWrittenElsewhere
from homeserver.rooms.past_events import InvalidRoomState, PastEvents
from homeserver.rooms.receiving import Receiving, in_order
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.snapshot_reader import SnapshotReader
from homeserver.storage import partial_rooms as sql
from homeserver.storage import received_events as received_sql
from homeserver.storage.connection import Connection, Pool

OUTLIERS_AT_ONCE = 500
ATTEMPTS = 5


@dataclass(slots=True, eq=False)
class MembersKnown:
    """All members of a room are known. `members` are (user, number of the member event, membership), all of
    the state before the join; `current` those of them that are part of the room's state now. `corrected` are
    those of whom something else was known."""

    room: Room | None
    room_nid: int
    generation: int
    first_snapshot: int
    members: Sequence[tuple[str, int, str]]
    current: Sequence[int]
    joined_count: int
    corrected: Sequence[tuple[str, int, str]] = ()
    position: int = 0
    is_visible: ClassVar[bool] = True
    owner: ClassVar[None] = None
    size_bytes: ClassVar[int] = 300

    @property
    def audience(self) -> Collection[str]:
        members = self.room.local_members if self.room is not None else ()
        return {*members, *(user_id for user_id, _, _ in self.corrected)} if self.corrected else members

    def release(self) -> None:
        """Let go of what was written: the live tail keeps the change."""
        self.room, self.members, self.current = None, (), ()

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[Self]) -> None:
        for change in changes:
            await change._write(connection)

    async def _write(self, connection: Connection) -> None:
        if not await connection.fetchval(sql.FINISH, self.room_nid, self.generation, self.joined_count):
            raise RoomWrittenElsewhere
        self.corrected = await sql.complete(
            connection,
            self.room_nid,
            self.first_snapshot,
            self.position,
            [(nid, membership) for _, nid, membership in self.members],
        )
        if self.current:
            await connection.execute(
                received_sql.WRITE_STATE_CHANGES,
                [self.room_nid],
                [self.position],
                [",".join(map(str, self.current))],
            )
        await sql.delete(connection, self.room_nid)


@dataclass(frozen=True, slots=True)
class PartialRooms:
    """Completes them."""

    pool: Pool
    rooms: Rooms
    receiving: Receiving
    past_events: PastEvents
    branches: BranchStates
    snapshots: SnapshotReader

    async def complete(
        self, row: sql.PartialRoomRow, state: Sequence[PDU], auth_chain: Sequence[PDU]
    ) -> None:
        """Add the members of the state before the join; format and signatures of the events were checked.

        Raises InvalidRoomState for what cannot be that state, Unavailable.
        """
        pdus = await asyncio.to_thread(_ordered, state, auth_chain)
        for start in range(0, len(pdus), OUTLIERS_AT_ONCE):
            await self.past_events.store_outliers(row.room_id, pdus[start : start + OUTLIERS_AT_ONCE])
        wanted = {pdu.event_id: pdu for pdu in state if pdu.type == MEMBER}
        stored = await sql.members(self.pool, row.room_nid, list(wanted))
        members = [(user_id, nid, _membership(wanted[event_id])) for event_id, nid, user_id in stored]
        async with self.receiving.lock(row.room_id):
            for _ in range(ATTEMPTS):
                if await self._add(row, members):
                    return
        raise Unavailable("The room is too busy: try again")

    async def _add(self, row: sql.PartialRoomRow, members: Sequence[tuple[str, int, str]]) -> bool:
        """False if somebody else wrote the room meanwhile."""
        room = await self.rooms.get(row.room_id)
        if room.partial_servers is None:
            return True
        if room.held is not None:
            await room.held.wait()
            return False
        held = room.held = asyncio.Event()  # no state may be built on one that lacks members
        try:
            await self.rooms.settle_whole(room)
            current = [member for member in members if (MEMBER, member[0]) not in room.state]
            joined = room.joined_count + sum(membership == "join" for _, _, membership in current)
            nids = [nid for _, nid, _ in current]
            change = MembersKnown(room, room.nid, room.generation, row.first_snapshot, members, nids, joined)
            await self.rooms.commit(room, [change])
            change.release()
        except (ChainBroken, RoomWrittenElsewhere):
            return False
        finally:
            room.stale = True  # it is read again, whole
            self.branches.forget(room.nid)
            self.snapshots.forget(room.nid)
            room.held = None
            held.set()
        self.rooms.completions.completed(room.nid)
        return True


def _ordered(state: Sequence[PDU], auth_chain: Sequence[PDU]) -> list[PDU]:
    """All events, in order. Raises InvalidRoomState if this can be no state of a room."""
    keys = [pdu.key for pdu in state]
    if None in keys or len(set(keys)) != len(keys):
        raise InvalidRoomState("the state is no map of state events")
    return in_order([*auth_chain, *state])


def _membership(pdu: PDU) -> str:
    membership = pdu.content.get("membership")
    return membership if isinstance(membership, str) else "leave"
