"""Joining rooms and knocking on them. Source: Client-Server API, "Joining rooms", "Knocking on rooms"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from federation.event import JsonObject
from homeserver.accounts.profiles import Profiles
from homeserver.errors import Forbidden, GuestAccessForbidden, InvalidParam, Unavailable
from homeserver.requester import Requester
from homeserver.rooms.aliases import Aliases, check_alias
from homeserver.rooms.draft import Draft
from homeserver.rooms.elsewhere import JoiningElsewhere
from homeserver.rooms.event import Event
from homeserver.rooms.restricted_rooms import AUTHORISED_VIA, authorising_user, needs_authority
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.succession import Succession
from homeserver.rooms.third_party_invites import AddressProofs
from homeserver.rooms.user_rooms import UserRooms

ATTEMPTS = 3  # where others here enter and leave the room at the same time


class NobodyMayLetIn(Forbidden):
    """The user meets a restricted room's conditions, and nobody on this server may let them in."""


@dataclass(frozen=True, slots=True)
class Joining:
    """Lets users into rooms: those that this node follows, and others through servers that do."""

    rooms: Rooms
    user_rooms: UserRooms
    profiles: Profiles
    aliases: Aliases
    succession: Succession
    elsewhere: JoiningElsewhere
    proofs: AddressProofs

    async def join(
        self,
        requester: Requester,
        room_id_or_alias: str,
        *,
        via: Sequence[str] = (),
        reason: str | None = None,
        third_party_signed: JsonObject | None = None,
        more: JsonObject | None = None,
    ) -> str:
        """`joinRoom` and `joinRoomById`: the room's id. Nothing happens to whoever is in it already.

        `via` are servers to join through. `more` goes into the member event too: clients may keep there what
        is their own, as they may with `setRoomStateWithKey`. Raises NotFound, InvalidParam, Forbidden,
        GuestAccessForbidden, BadJson, and what other servers refuse it with.
        """
        room_id, servers = await self._find(room_id_or_alias, via)
        content = {**(more or {}), **({} if reason is None else {"reason": reason})}
        sender = third_party_signed.get("sender") if third_party_signed is not None else None
        if third_party_signed is not None and isinstance(sender, str) and not self._is_local(sender):
            await self.elsewhere.exchange(requester.user_id, room_id, sender, third_party_signed)
            third_party_signed = None  # by now it is an invite
        for _ in range(ATTEMPTS):
            room = await self.rooms.find(room_id)
            if room is None or not room.followed:
                if await self._join_elsewhere(requester, room_id, servers, content) is not None:
                    return room_id
                continue
            member = room.member(requester.user_id)
            if member is None and room.partial_servers is not None:  # they may be invited, or banned
                room = await self.rooms.whole(room_id)
                member = room.member(requester.user_id)
            if (
                member is None
                or room.membership(requester.user_id) != "join"
                or not self.rooms.is_durable(member)
            ):
                await self.join_with(requester, room, content, third_party_signed, servers)
            return room_id
        raise Unavailable("Others are just entering and leaving this room: try again")

    async def join_with(
        self,
        requester: Requester,
        room: Room,
        content: JsonObject,
        third_party_signed: JsonObject | None = None,
        servers: Sequence[str] = (),
    ) -> Event:
        """Join a room that is known, with what the member event shall hold besides the user's profile, or
        instead of it."""
        user_id = requester.user_id
        if not room.followed:
            event = await self._join_elsewhere(requester, room.room_id, servers, content)
            if event is None:
                raise Unavailable("Somebody else is just entering this room: try again")
            return event
        if requester.is_guest and not room.guests_can_join:
            raise GuestAccessForbidden("Guests cannot join this room: register an account")
        whole = await self._member_content(user_id, "join", content)
        drafts: list[Draft] = []
        if third_party_signed is not None and room.membership(user_id) not in ("invite", "join"):
            sender = third_party_signed.get("sender")
            drafts.append(await self.proofs.invite(room, user_id, sender, third_party_signed))
        elif needs_authority(room, user_id):
            try:
                whole[AUTHORISED_VIA] = await self._authorising_user(room, user_id)
            except NobodyMayLetIn:
                found = await self._join_elsewhere(requester, room.room_id, servers, content, authorised=True)
                if found is None:
                    raise
                return found
        drafts.append(_own_member(user_id, whole))
        events = await self.rooms.send_all(room.room_id, drafts)
        if "predecessor" in room.content_of("m.room.create"):
            await self.succession.joined(requester, room)
        return events[-1]

    async def _join_elsewhere(
        self,
        requester: Requester,
        room_id: str,
        servers: Sequence[str],
        content: JsonObject,
        *,
        authorised: bool = False,
    ) -> Event | None:
        """Join through other servers; None if the room is followed by now."""
        if requester.is_guest:
            raise GuestAccessForbidden("Guests cannot join rooms of other servers: register an account")
        user_id = requester.user_id
        whole = await self._member_content(user_id, "join", content)
        event = await self.elsewhere.join(user_id, room_id, servers, whole, authorised=authorised)
        if event is not None:
            room = await self.rooms.get(room_id)
            if "predecessor" in room.content_of("m.room.create"):
                await self.succession.joined(requester, room)
        return event

    async def knock(
        self,
        requester: Requester,
        room_id_or_alias: str,
        *,
        via: Sequence[str] = (),
        reason: str | None = None,
    ) -> str:
        """`knockRoom`: the room's id. Raises NotFound, InvalidParam, Forbidden, and what other servers do."""
        room_id, servers = await self._find(room_id_or_alias, via)
        content: JsonObject = {} if reason is None else {"reason": reason}
        room = await self.rooms.find(room_id)
        if room is None or not room.followed:
            whole = await self._member_content(requester.user_id, "knock", content)
            if await self.elsewhere.knock(requester.user_id, room_id, servers, whole) is not None:
                return room_id
            room = await self.rooms.get(room_id)
        await self.knock_with(requester, room, content)
        return room_id

    async def knock_with(self, requester: Requester, room: Room, content: JsonObject) -> Event:
        """As `join_with`, for a knock on a room that this node follows."""
        if not room.version.knocking:
            raise Forbidden("This room takes no knocks")
        if not room.followed:
            raise Forbidden("Nobody on this server is in the room: knock by POST /knock/{roomId}")
        whole = await self._member_content(requester.user_id, "knock", content)
        return await self.rooms.send(room.room_id, _own_member(requester.user_id, whole))

    async def _member_content(self, user_id: str, membership: str, content: JsonObject) -> JsonObject:
        profile = await self.profiles.of(user_id)
        whole = {**profile.member_content(), **content, "membership": membership}
        whole.pop(AUTHORISED_VIA, None)  # by whose authority is not the user's to say
        return whole

    def _is_local(self, identifier: str) -> bool:
        return identifier.endswith(":" + self.aliases.server_name)

    async def _find(self, room_id_or_alias: str, via: Sequence[str]) -> tuple[str, Sequence[str]]:
        """A room's id, and servers to enter it by."""
        if room_id_or_alias.startswith("!"):
            return room_id_or_alias, via
        if room_id_or_alias.startswith("#"):
            check_alias(room_id_or_alias)
            if self._is_local(room_id_or_alias):
                return await self.aliases.lookup(room_id_or_alias), via
            room_id, servers = await self.elsewhere.find_alias(room_id_or_alias)
            return room_id, (*via, *servers)
        raise InvalidParam("A room is named by its id (!…) or by an alias (#name:server)")

    async def _authorising_user(self, room: Room, user_id: str) -> str:
        """A user of this server in whose name somebody may join a restricted room.

        Raises Forbidden where the conditions are not met, NobodyMayLetIn where they are.
        Source: Client-Server API, "Restricted rooms".
        """
        allowed = set(room.allowed_room_ids())
        memberships = await self.user_rooms.get(user_id) if allowed else {}
        if not any(
            row.room_id in allowed and row.membership == "join" for row in memberships.values()
        ):  # "a user who is a member of at least one of the rooms"
            raise Forbidden("You are in none of the rooms whose members may join this one")
        member = authorising_user(room)
        if member is None:
            raise NobodyMayLetIn("Nobody on this server may let you into this room")
        return member


def _own_member(user_id: str, content: JsonObject) -> Draft:
    return Draft(sender=user_id, type=MEMBER, state_key=user_id, content=content)
