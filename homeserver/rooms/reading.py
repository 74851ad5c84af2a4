"""Whether a user may read a room's past at all, and up to where.

Source: Client-Server API, "Room History Visibility", "Room Previews", `forgetRoom`. Which of the events
they see is the business of visibility.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.errors import Forbidden
from homeserver.rooms.membership_history import Leaving, MembershipHistory
from homeserver.rooms.room import Room
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.user_rooms import UserRooms

REFUSAL = "You are not in this room, and never were: join it first"
Point = tuple[int, int]  # (depth, nid): after that event and all before it in history order
START: Point = (-1, 0)
END: Point = (10**18 - 1, 10**18 - 1)  # beyond any, and still a token


@dataclass(frozen=True, slots=True)
class Reading:
    """A room that a user may read; `left` is what ended their stay, None for who may read to the end."""

    room: Room
    left: Leaving | None = None

    @property
    def end(self) -> Point:
        """The point after the last event that may be visible."""
        return END if self.left is None else (self.left.depth, self.left.nid)


@dataclass(frozen=True, slots=True)
class Readers:
    """Opens rooms for reading."""

    rooms: Rooms
    user_rooms: UserRooms
    memberships: MembershipHistory

    async def open(self, room_id: str, user_id: str) -> Reading:
        """The room, for who has joined it, has left it and not forgotten it, or for all if it is world
        readable. Raises Forbidden, also for rooms that do not exist.
        """
        room = await self.rooms.find(room_id)
        if room is None:
            raise Forbidden(REFUSAL)
        if room.membership(user_id) == "join" or room.history_visibility == "world_readable":
            return Reading(room)
        history = await self.memberships.of(room, user_id)
        if history.memberships[-1:] == ("join",):
            return Reading(room)  # what ends their stay is being written, so that it is not the end yet
        left = history.leaving()
        entry = (await self.user_rooms.get(user_id)).get(room.nid) if left is not None else None
        if left is None or entry is None or entry.forgotten:
            raise Forbidden(REFUSAL)
        return Reading(room, left)
