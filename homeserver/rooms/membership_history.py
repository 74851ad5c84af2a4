"""What a user's membership of a room was, over time."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass

import orjson

from homeserver.rooms.event import FLAG_REJECTED, FLAG_SOFT_FAILED
from homeserver.rooms.room import Room
from homeserver.storage import history as sql
from homeserver.storage.connection import Pool

ROWS_MAX = 30_000  # member events remembered, of all users and rooms together


@dataclass(frozen=True, slots=True)
class Leaving:
    """A user's leaving of a room: number and depth of the event."""

    nid: int
    depth: int


@dataclass(frozen=True, slots=True)
class History:
    """A user's accepted member events in a room, oldest first: numbers, depths and memberships."""

    nids: tuple[int, ...] = ()
    depths: tuple[int, ...] = ()
    memberships: tuple[str, ...] = ()

    def at(self, nid: int) -> str:
        """The membership after the event of this number: `leave` before the first."""
        index = bisect_right(self.nids, nid)
        return self.memberships[index - 1] if index else "leave"

    @property
    def last_join(self) -> int | None:
        """The number of the newest event that had the user joined; None if there never was one."""
        index = self._last_join_index()
        return self.nids[index] if index is not None else None

    @property
    def first_join(self) -> int | None:
        """As `last_join`, of the oldest."""
        for nid, membership in zip(self.nids, self.memberships, strict=True):
            if membership == "join":
                return nid
        return None

    def leaving(self) -> Leaving | None:
        """What ended the user's last stay. None for who never was a member, or still is."""
        index = self._last_join_index()
        if index is None or index + 1 == len(self.nids):
            return None
        return Leaving(self.nids[index + 1], self.depths[index + 1])

    def _last_join_index(self) -> int | None:
        for index in range(len(self.memberships) - 1, -1, -1):
            if self.memberships[index] == "join":
                return index
        return None


NEVER = History()


class MembershipHistory:
    """Reads histories, and keeps them for as long as the current member event is the same."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: OrderedDict[tuple[int, str], tuple[int, History]] = OrderedDict()
        self._rows = 0

    async def of(self, room: Room, user_id: str) -> History:
        """The user's history in the room, as far as it is durable."""
        member = room.member(user_id)
        if member is None:
            return NEVER
        key = (room.nid, user_id)
        known = self._known.get(key)
        if known is not None and known[0] == member.nid:
            self._known.move_to_end(key)
            return known[1]
        history = await self._read(room.nid, user_id)
        if history.nids and history.nids[-1] == member.nid:
            self._keep(key, member.nid, history)
        return history

    async def _read(self, room_nid: int, user_id: str) -> History:
        rows = [
            row
            for row in await sql.member_events(self._pool, room_nid, user_id)
            if not row["flags"] & (FLAG_REJECTED | FLAG_SOFT_FAILED)
        ]
        rows.reverse()
        return History(
            tuple(row["nid"] for row in rows),
            tuple(row["depth"] for row in rows),
            tuple(membership_in(row["json"]) for row in rows),
        )

    def _keep(self, key: tuple[int, str], nid: int, history: History) -> None:
        replaced = self._known.pop(key, None)
        if replaced is not None:
            self._rows -= len(replaced[1].nids)
        self._known[key] = nid, history
        self._rows += len(history.nids)
        while self._rows > ROWS_MAX and len(self._known) > 1:
            self._rows -= len(self._known.popitem(last=False)[1][1].nids)


def membership_in(json: bytes) -> str:
    """The membership that a stored member event gives; `leave` if it names none."""
    membership = orjson.loads(json)["content"].get("membership")
    return membership if isinstance(membership, str) else "leave"
