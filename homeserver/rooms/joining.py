"""Joining rooms and knocking on them. Source: Client-Server API, "Joining rooms", "Knocking on rooms"."""

from __future__ import annotations

from dataclasses import dataclass

from federation.event import JsonObject
from homeserver.accounts.profiles import Profiles
from homeserver.errors import BadJson, Forbidden, GuestAccessForbidden, InvalidParam
from homeserver.requester import Requester
from homeserver.rooms.aliases import Aliases
from homeserver.rooms.draft import Draft
from homeserver.rooms.event import Event
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.succession import Succession
from homeserver.rooms.user_rooms import UserRooms

AUTHORISED_VIA = "join_authorised_via_users_server"
THIRD_PARTY_INVITE = "m.room.third_party_invite"
RESTRICTED = ("restricted", "knock_restricted")


@dataclass(frozen=True, slots=True)
class Joining:
    """Lets users into rooms that this node knows."""

    rooms: Rooms
    user_rooms: UserRooms
    profiles: Profiles
    aliases: Aliases
    succession: Succession

    async def join(
        self,
        requester: Requester,
        room_id_or_alias: str,
        *,
        reason: str | None = None,
        third_party_signed: JsonObject | None = None,
        more: JsonObject | None = None,
    ) -> str:
        """`joinRoom` and `joinRoomById`: the room's id. Nothing happens to whoever is in it already.

        `more` goes into the member event too: clients may keep there what is their own, as they may with
        `setRoomStateWithKey`. Raises NotFound, InvalidParam, Forbidden, GuestAccessForbidden, BadJson.
        """
        room = await self.rooms.get(await self._room_id(room_id_or_alias))
        member = room.member(requester.user_id)
        if (
            member is None
            or room.membership(requester.user_id) != "join"
            or not self.rooms.is_durable(member)
        ):
            content = {**(more or {}), **({} if reason is None else {"reason": reason})}
            await self.join_with(requester, room, content, third_party_signed)
        return room.room_id

    async def join_with(
        self,
        requester: Requester,
        room: Room,
        content: JsonObject,
        third_party_signed: JsonObject | None = None,
    ) -> Event:
        """Join with what the member event shall hold besides, or instead of, the user's profile."""
        user_id = requester.user_id
        if requester.is_guest and not room.guests_can_join:
            raise GuestAccessForbidden("Guests cannot join this room: register an account")
        profile = await self.profiles.of(user_id)
        content = {**profile.member_content(), **content, "membership": "join"}
        content.pop(AUTHORISED_VIA, None)  # by whose authority is not the user's to say
        drafts: list[Draft] = []
        if third_party_signed is not None and room.membership(user_id) not in ("invite", "join"):
            drafts.append(_third_party_invite(room, user_id, third_party_signed))
        elif room.join_rule in RESTRICTED and room.membership(user_id) in ("leave", "knock"):
            content[AUTHORISED_VIA] = await self._authorising_user(room, user_id)
        drafts.append(_own_member(user_id, content))
        events = await self.rooms.send_all(room.room_id, drafts)
        if "predecessor" in room.content_of("m.room.create"):
            await self.succession.joined(requester, room)
        return events[-1]

    async def knock(self, requester: Requester, room_id_or_alias: str, *, reason: str | None = None) -> str:
        """`knockRoom`: the room's id. Raises NotFound, InvalidParam, Forbidden."""
        room = await self.rooms.get(await self._room_id(room_id_or_alias))
        await self.knock_with(requester, room, {} if reason is None else {"reason": reason})
        return room.room_id

    async def knock_with(self, requester: Requester, room: Room, content: JsonObject) -> Event:
        """As `join_with`, for a knock."""
        if not room.version.knocking:
            raise Forbidden("This room takes no knocks")
        profile = await self.profiles.of(requester.user_id)
        content = {**profile.member_content(), **content, "membership": "knock"}
        content.pop(AUTHORISED_VIA, None)
        return await self.rooms.send(room.room_id, _own_member(requester.user_id, content))

    async def _room_id(self, room_id_or_alias: str) -> str:
        if room_id_or_alias.startswith("!"):
            return room_id_or_alias
        if room_id_or_alias.startswith("#"):
            return await self.aliases.lookup(room_id_or_alias)
        raise InvalidParam("A room is named by its id (!…) or by an alias (#name:server)")

    async def _authorising_user(self, room: Room, user_id: str) -> str:
        """A user of this server in whose name somebody may join a restricted room.

        Raises Forbidden where the conditions are not met. Source: Client-Server API, "Restricted rooms".
        """
        allowed = set(room.allowed_room_ids())
        memberships = await self.user_rooms.get(user_id) if allowed else {}
        if not any(
            row.room_id in allowed and row.membership == "join" for row in memberships.values()
        ):  # "a user who is a member of at least one of the rooms"
            raise Forbidden("You are in none of the rooms whose members may join this one")
        power_levels = room.power_levels
        for member in room.local_members:
            if power_levels.for_user(member) >= power_levels.invite:
                return member
        raise Forbidden("Nobody on this server may let you into this room")


def _own_member(user_id: str, content: JsonObject) -> Draft:
    return Draft(sender=user_id, type=MEMBER, state_key=user_id, content=content)


def _third_party_invite(room: Room, user_id: str, signed: JsonObject) -> Draft:
    """The invite that a proof of owning an address stands for; the rules check its signature.

    Raises BadJson, Forbidden. Source: Client-Server API, "Third-party invites".
    """
    sender, mxid, token = signed.get("sender"), signed.get("mxid"), signed.get("token")
    if not isinstance(sender, str) or not isinstance(token, str) or not isinstance(mxid, str):
        raise BadJson("third_party_signed must have sender, mxid and token")
    if not isinstance(signed.get("signatures"), dict):
        raise BadJson("third_party_signed must have signatures")
    invite = room.state_event(THIRD_PARTY_INVITE, token)
    if invite is None or mxid != user_id or invite.sender != sender:
        raise Forbidden("This room has no such third-party invite for you")
    if not room.is_local(sender):
        raise Forbidden("Only the inviting user's server can turn this third-party invite into an invite")
    display_name = invite.content.get("display_name")
    proof = {"mxid": mxid, "token": token, "signatures": signed["signatures"]}
    content: JsonObject = {
        "membership": "invite",
        "third_party_invite": {
            "display_name": display_name if isinstance(display_name, str) else "",
            "signed": proof,
        },
    }
    return Draft(sender=sender, type=MEMBER, state_key=user_id, content=content)
