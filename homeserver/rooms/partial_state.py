"""What the engine knows of rooms that lack members: see `partial_rooms`, which completes them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from federation.auth_rules import AuthState
from federation.event import PDU, StateKey
from homeserver.errors import Unavailable
from homeserver.rooms.event import Event
from homeserver.storage import partial_rooms as sql
from homeserver.storage.connection import Connection

MEMBER = "m.room.member"
WAIT_S = 30.0  # of who asks for all members


class Completions:
    """Who waits for a room to be complete."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Event] = {}

    async def wait(self, room_nid: int, seconds: float = WAIT_S) -> None:
        """Return when the room is complete. Raises Unavailable if it is not in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._waiting.setdefault(room_nid, asyncio.Event()).wait()
        except TimeoutError as cause:
            raise Unavailable("The members of this room are still being fetched: try again") from cause

    def completed(self, room_nid: int) -> None:
        """Tell who waits."""
        waiting = self._waiting.pop(room_nid, None)
        if waiting is not None:
            waiting.set()


@dataclass(slots=True, eq=False)
class RoomEnteredPartly:
    """A room is entered without most of its members; written with the join, after which it is built."""

    entered_nid: int
    join: Event
    servers: Sequence[str]
    position: int = 0
    is_visible: ClassVar[bool] = False

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[Self]) -> None:
        for change in changes:
            await sql.insert(
                connection, change.entered_nid, change.join.event_id, change.join.snapshot, change.servers
            )


class WithCitedMembers:
    """A state that lacks members, in which those count that an event cites."""

    __slots__ = ("_cited", "_state")

    def __init__(self, state: AuthState, cited: Mapping[StateKey, PDU]) -> None:
        self._state = state.events
        self._cited = cited

    def get(self, key: StateKey, /) -> PDU | None:
        found = self._state.get(key)
        if found is None and key[0] == MEMBER:
            return self._cited.get(key)
        return found
