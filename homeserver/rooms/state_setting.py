"""Setting a room's state. Source: Client-Server API, "Sending events to a room", `setRoomStateWithKey`."""

from __future__ import annotations

from dataclasses import dataclass

from federation.event import JsonObject
from homeserver.errors import BadAlias, BadJson, Forbidden, InvalidParam, NotFound, UserSuspended
from homeserver.requester import Requester
from homeserver.rooms.aliases import check_alias
from homeserver.rooms.described_rooms import AliasResolver
from homeserver.rooms.draft import Draft
from homeserver.rooms.event import Event
from homeserver.rooms.guest_departures import DEPARTURES_AT_ONCE, GUEST_ACCESS, departures_of_guests
from homeserver.rooms.initial_state import TOMBSTONE
from homeserver.rooms.inviting import Inviting
from homeserver.rooms.joining import Joining
from homeserver.rooms.leaving import Leaving
from homeserver.rooms.moderation import RoomModeration
from homeserver.rooms.restricted_rooms import AUTHORISED_VIA
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.rooms import Rooms
from homeserver.storage.connection import Pool

CANONICAL_ALIAS = "m.room.canonical_alias"
NEW_ALIASES_MAX = 100  # of one event


@dataclass(frozen=True, slots=True)
class StateSetting:
    """Sets state as clients may; memberships go the way that their own endpoints go."""

    pool: Pool
    rooms: Rooms
    aliases: AliasResolver
    joining: Joining
    inviting: Inviting
    leaving: Leaving
    moderation: RoomModeration

    async def put(
        self, requester: Requester, room_id: str, event_type: str, state_key: str, content: JsonObject
    ) -> str:
        """`setRoomStateWithKey`: the event's id; the present one's if nothing changes.

        Raises Forbidden, BadJson, InvalidParam, BadAlias, InviteBlocked, TooLarge, UserSuspended.
        """
        if not event_type:
            raise InvalidParam("An event type is not empty")
        try:
            if event_type == MEMBER:
                return (await self._put_member(requester, room_id, state_key, content)).event_id
            if requester.is_suspended:
                raise UserSuspended("Your account is suspended: you cannot change rooms")
            draft = Draft(sender=requester.user_id, type=event_type, state_key=state_key, content=content)
            departures: list[Draft] = []
            if event_type == CANONICAL_ALIAS and not state_key:
                await self._check_aliases(requester, room_id, content)
            elif event_type == GUEST_ACCESS and not state_key and content.get("guest_access") != "can_join":
                departures = await self._departures_of_guests(room_id)
            elif event_type == TOMBSTONE and content.get("replacement_room") == room_id:
                raise InvalidParam("A room cannot be replaced by itself: clients would follow it for ever")
            if not departures:
                return (await self.rooms.send(room_id, draft)).event_id
            events = await self.rooms.send_all(room_id, [draft, *departures[:DEPARTURES_AT_ONCE]])
            for start in range(DEPARTURES_AT_ONCE, len(departures), DEPARTURES_AT_ONCE):
                await self.rooms.send_all(room_id, departures[start : start + DEPARTURES_AT_ONCE])
            return next(event for event in events if event.type == event_type).event_id
        except NotFound as cause:
            if await self.rooms.find(room_id) is not None:
                raise
            raise Forbidden("You are not in this room: join it first") from cause

    async def _put_member(
        self, requester: Requester, room_id: str, user_id: str, content: JsonObject
    ) -> Event:
        membership = content.get("membership")
        is_own = user_id == requester.user_id
        if requester.is_suspended and not (is_own and membership == "leave"):
            raise UserSuspended("Your account is suspended: you can leave rooms only")
        content = {key: value for key, value in content.items() if key != AUTHORISED_VIA}
        room = await self.rooms.get(room_id)
        if membership == "invite":
            return await self.inviting.invite_with(requester, room_id, user_id, content)
        if membership == "join" and is_own:
            return await self._put_own_join(requester, room, content)
        if membership == "join":
            raise Forbidden("You cannot join a room for another user: invite them")
        if membership == "knock" and is_own:
            return await self.joining.knock_with(requester, room, content)
        if membership == "leave" and is_own:
            return await self.leaving.leave_with(user_id, room, content)
        if membership in ("leave", "ban"):
            return await self.moderation.set_with(requester, room_id, user_id, content)
        raise BadJson("'membership' must be one of join, invite, leave, ban and knock")

    async def _put_own_join(self, requester: Requester, room: Room, content: JsonObject) -> Event:
        user_id = requester.user_id
        if room.membership(user_id) != "join":
            return await self.joining.join_with(requester, room, content)
        draft = Draft(sender=user_id, type=MEMBER, state_key=user_id, content=content)
        return await self.rooms.send(room.room_id, draft)  # a name or picture for this room

    async def _check_aliases(self, requester: Requester, room_id: str, content: JsonObject) -> None:
        # "servers SHOULD ensure that any new aliases being listed in the event are valid per their
        # grammar/syntax and that they point to the room ID where the state event is to be sent"
        room = await self.rooms.get_joined(room_id, requester.user_id)
        new = _aliases_in(content) - _aliases_in(room.content_of(CANONICAL_ALIAS), strict=False)
        if not new:
            return
        if len(new) > NEW_ALIASES_MAX:
            raise InvalidParam(f"At most {NEW_ALIASES_MAX} aliases can be added at once")
        for alias in new:
            check_alias(alias)
        found = await self.aliases.lookup_all(new, requester.user_id)
        for alias in new:
            if found.get(alias) != room_id:
                raise BadAlias(f"The alias {alias} does not point to this room")

    async def _departures_of_guests(self, room_id: str) -> list[Draft]:
        room = await self.rooms.get(room_id)
        return await departures_of_guests(self.pool, room) if room.guests_can_join else []


def _aliases_in(content: JsonObject, *, strict: bool = True) -> set[str]:
    """The aliases of a canonical alias event. `strict` raises InvalidParam on what is none."""
    alias, alt_aliases = content.get("alias"), content.get("alt_aliases")
    listed = [*([alias] if alias else []), *(alt_aliases if isinstance(alt_aliases, list) else [])]
    if strict:
        if alt_aliases is not None and not isinstance(alt_aliases, list):
            raise InvalidParam("'alt_aliases' must be a list of aliases")
        if not all(isinstance(entry, str) and "\0" not in entry for entry in listed):
            raise InvalidParam("An alias must be a string")
    return {entry for entry in listed if isinstance(entry, str)}
