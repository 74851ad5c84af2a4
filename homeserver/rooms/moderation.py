"""Kicking, banning and unbanning. Source: Client-Server API, "Banning users in a room"."""

from __future__ import annotations

from dataclasses import dataclass

from federation.event import JsonObject
from homeserver.errors import BadState, Forbidden
from homeserver.requester import Requester
from homeserver.rooms.draft import Draft
from homeserver.rooms.event import Event
from homeserver.rooms.inviting import check_user_id
from homeserver.rooms.room import MEMBER
from homeserver.rooms.rooms import Rooms


@dataclass(frozen=True, slots=True)
class RoomModeration:
    """What members with power do to other users' memberships. All raise Forbidden and InvalidParam."""

    rooms: Rooms

    async def kick(
        self, requester: Requester, room_id: str, user_id: str, *, reason: str | None = None
    ) -> None:
        """`kick`: out of the room, or refuse a knock, or take back an invite."""
        room = await self.rooms.get_joined(room_id, requester.user_id)
        if room.membership(user_id) not in ("join", "invite", "knock"):
            raise Forbidden(f"{user_id} is not in this room")
        await self._set(requester, room_id, user_id, "leave", reason)

    async def ban(
        self, requester: Requester, room_id: str, user_id: str, *, reason: str | None = None
    ) -> None:
        """`ban`: also who is not in the room."""
        await self.rooms.get_joined(room_id, requester.user_id)
        await self._set(requester, room_id, user_id, "ban", reason)

    async def unban(
        self, requester: Requester, room_id: str, user_id: str, *, reason: str | None = None
    ) -> None:
        """`unban`. Raises BadState if the user is not banned."""
        room = await self.rooms.get_joined(room_id, requester.user_id)
        if room.membership(user_id) != "ban":
            raise BadState(f"{user_id} is not banned from this room")
        await self._set(requester, room_id, user_id, "leave", reason)

    async def set_with(self, requester: Requester, room_id: str, user_id: str, content: JsonObject) -> Event:
        """Give a user the membership `leave` or `ban` that `content` holds."""
        check_user_id(user_id)
        draft = Draft(sender=requester.user_id, type=MEMBER, state_key=user_id, content=content)
        return await self.rooms.send(room_id, draft)

    async def _set(
        self, requester: Requester, room_id: str, user_id: str, membership: str, reason: str | None
    ) -> None:
        content: JsonObject = {"membership": membership}
        if reason is not None:
            content["reason"] = reason
        await self.set_with(requester, room_id, user_id, content)
