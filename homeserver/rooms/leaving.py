"""Leaving rooms and forgetting them. Source: Client-Server API, "Leaving rooms"."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from federation.event import JsonObject
from homeserver.errors import (
    CannotLeaveServerNoticeRoom,
    Forbidden,
    MatrixError,
    NotFound,
    Unavailable,
    Unknown,
)
from homeserver.requester import Requester
from homeserver.rooms.draft import Draft
from homeserver.rooms.elsewhere import LeavingElsewhere
from homeserver.rooms.event import Event
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.user_rooms import UserRooms

log = structlog.get_logger()

LEFT_AT_ONCE = 32  # by a user who leaves all rooms
PRESENT = ("join", "invite", "knock")


@dataclass(frozen=True, slots=True)
class Leaving:
    """Lets users out of rooms. `notices_user_id` is whose invites cannot be turned down."""

    rooms: Rooms
    user_rooms: UserRooms
    notices_user_id: str
    elsewhere: LeavingElsewhere

    async def leave(self, requester: Requester, room_id: str, *, reason: str | None = None) -> None:
        """`leaveRoom`: leave, turn an invite down, take a knock back. Who has left may do so again.

        Raises NotFound, Forbidden, CannotLeaveServerNoticeRoom.
        """
        content: JsonObject = {} if reason is None else {"reason": reason}
        room = await self.rooms.find(room_id)
        if room is None or not room.followed:
            if await self._leave_elsewhere(requester.user_id, room_id, content):
                return
            room = await self.rooms.get(room_id)
        member = room.member(requester.user_id)
        if member is not None and room.membership(requester.user_id) == "leave":
            await self.rooms.settle(room)  # they may just be leaving
            if self.rooms.is_durable(member):
                return
            room = await self.rooms.get(room_id)
        await self.leave_with(requester.user_id, room, content)

    async def _leave_elsewhere(self, user_id: str, room_id: str, content: JsonObject) -> bool:
        """Turn down an invite to a room that this node is not in, or take a knock back.

        False if the node has entered the room meanwhile.
        """
        memberships = await self.user_rooms.get(user_id)
        membership = next((row.membership for row in memberships.values() if row.room_id == room_id), None)
        if membership is None:
            raise NotFound("This server does not know the room")
        if membership == "ban":
            raise Forbidden("You are not in this room")
        if membership == "leave":
            return True
        return await self.elsewhere.leave(user_id, room_id, {**content, "membership": "leave"})

    async def leave_with(self, user_id: str, room: Room, content: JsonObject) -> Event:
        """Leave a room that this node follows, with what the member event shall hold besides."""
        if not room.followed:
            raise Forbidden("You are not in this room")
        member = room.member(user_id)
        if member is not None and room.membership(user_id) == "invite":
            if member.sender == self.notices_user_id:
                raise CannotLeaveServerNoticeRoom("This room is for notices of the server: accept the invite")
        elif member is None or room.membership(user_id) == "ban":
            raise Forbidden("You are not in this room")
        return await self.rooms.send(room.room_id, _leave(user_id, content))

    async def forget(self, requester: Requester, room_id: str) -> None:
        """`forgetRoom`, for rooms that the user has left or is banned from. Raises Unknown for others."""
        memberships = await self.user_rooms.get(requester.user_id)
        row = next((row for row in memberships.values() if row.room_id == room_id), None)
        if row is None:
            raise Unknown("You were never in this room")
        if row.membership in PRESENT:
            raise Unknown("You are in this room, or invited to it: leave it first")
        await self.user_rooms.forget(requester.user_id, row.room_nid)

    async def leave_all(self, user_id: str) -> None:
        """Leave all rooms, turn down all invites, take back all knocks; for a user whose account ends.

        Rooms that refuse it are passed over. Raises Unavailable: then it is to be tried again.
        """
        memberships = await self.user_rooms.get(user_id)
        room_ids = [row.room_id for row in memberships.values() if row.membership in PRESENT]
        for start in range(0, len(room_ids), LEFT_AT_ONCE):
            batch = room_ids[start : start + LEFT_AT_ONCE]
            await asyncio.gather(*(self._leave_for_good(user_id, room_id) for room_id in batch))

    async def _leave_for_good(self, user_id: str, room_id: str) -> None:
        try:
            room = await self.rooms.find(room_id)
            is_outside = room is None or not room.followed
            if not is_outside or not await self._leave_elsewhere(user_id, room_id, {}):
                await self.rooms.send(room_id, _leave(user_id, {}))
        except Unavailable:
            raise
        except MatrixError as cause:
            log.info("room not left", room_id=room_id, user_id=user_id, errcode=cause.errcode)

    async def joined_rooms(self, requester: Requester) -> list[str]:
        """`getJoinedRooms`: their ids."""
        memberships = await self.user_rooms.get(requester.user_id)
        return [row.room_id for row in memberships.values() if row.membership == "join"]


def _leave(user_id: str, content: JsonObject) -> Draft:
    return Draft(sender=user_id, type=MEMBER, state_key=user_id, content={**content, "membership": "leave"})
