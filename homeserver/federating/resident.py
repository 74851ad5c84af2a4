"""Letting users of other servers enter and leave rooms of this one: the resident side of the handshakes.

Source: Server-Server API, "Joining Rooms", "Restricted rooms", "Knocking upon a room", "Leaving Rooms".
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from federation.canonical import JsonObject
from federation.errors import FederationError
from federation.event import PDU
from federation.event_format import check_format
from federation.identifiers import split_user_id
from federation.keys import SigningKey
from federation.signing import sign_event
from homeserver.errors import Forbidden, IncompatibleRoomVersion, InvalidParam, NotFound
from homeserver.federating.other_servers import UnableToAuthoriseJoin, UnableToGrantJoin, refused_event
from homeserver.federating.room_access import RoomAccess
from homeserver.federating.verifying import EventVerifier
from homeserver.rooms.draft import Draft
from homeserver.rooms.receiving import Outcome, Receiving
from homeserver.rooms.refusals import explain
from homeserver.rooms.restricted_rooms import (
    AUTHORISED_VIA,
    Condition,
    authorising_user,
    check_conditions,
    needs_authority,
)
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.rooms import Rooms

NOT_IN_TEMPLATES = ("hashes", "signatures", "event_id", "unsigned")


@dataclass(frozen=True, slots=True)
class Resident:
    """Makes templates of member events, and takes the signed events in."""

    rooms: Rooms
    receiving: Receiving
    access: RoomAccess
    verifier: EventVerifier
    server_name: str
    key: SigningKey

    async def make(
        self, origin: str, room_id: str, user_id: str, membership: str, versions: Collection[str] | None
    ) -> JsonObject:
        """`makeJoin`, `makeKnock`, `makeLeave`; ``versions`` are those that the origin knows, if it matters.

        Raises NotFound, Forbidden, InvalidParam, IncompatibleRoomVersion, UnableToAuthoriseJoin,
        UnableToGrantJoin.
        """
        _check_user(origin, user_id)
        room = await self.room(origin, room_id)
        if versions is not None and room.version.id not in versions:
            raise IncompatibleRoomVersion(
                f"The room has version {room.version.id}, which your server does not support",
                room_version=room.version.id,
            )
        content: JsonObject = {"membership": membership}
        if membership == "join" and needs_authority(room, user_id):
            content[AUTHORISED_VIA] = await self._authority(room, user_id)
        if membership == "knock" and not room.version.knocking:
            raise Forbidden("This room takes no knocks")
        draft = Draft(sender=user_id, type=MEMBER, state_key=user_id, content=content)
        pdu, _ = self.rooms.propose(room, draft)
        template = {key: value for key, value in pdu.json.items() if key not in NOT_IN_TEMPLATES}
        return {"event": {**template, "origin": self.server_name}, "room_version": room.version.id}

    async def accept(
        self, origin: str, room_id: str, event_id: str, json: JsonObject, membership: str
    ) -> tuple[Room, PDU]:
        """The event of a `sendJoinV2`, `sendKnock` or `sendLeaveV2`: part of the room when this returns, and
        on its way to the others there.

        Raises NotFound, Forbidden, InvalidParam, UnableToAuthoriseJoin, UnableToGrantJoin, Unavailable.
        """
        room = await self.room(origin, room_id)
        pdu = await self._verified(room, json, membership)
        _check_user(origin, pdu.sender)
        if pdu.event_id != event_id:
            raise InvalidParam("The event has another id than the one in the path")
        if pdu.type != MEMBER or pdu.state_key != pdu.sender or pdu.content.get("membership") != membership:
            raise InvalidParam(f"The event is no m.room.member by which its sender comes to {membership!r}")
        if membership == "join" and self._is_our_authority(pdu.content):
            # whose name stands in it is in the event; whether it may is asked again, now that it counts
            await self._authority(room, pdu.sender)
        [result] = await self.receiving.receive(room_id, [pdu], relay_for=origin)
        if result.outcome is Outcome.MISSING:
            raise InvalidParam("The event refers to others that are not known here: ask for a template again")
        if result.outcome is not Outcome.ACCEPTED:
            raise Forbidden(explain(result.reason))
        return await self.rooms.get(room_id), pdu

    async def room(self, origin: str, room_id: str) -> Room:
        """A room that this node is in and that the origin may enter. Raises NotFound, Forbidden."""
        room = await self.rooms.find(room_id)
        if room is None or not room.local_members:
            raise NotFound("This server does not take part in the room")
        if room.partial_servers is not None:
            raise NotFound("This server is still entering the room: ask another one")
        self.access.check(room, origin)
        return room

    async def _verified(self, room: Room, json: JsonObject, membership: str) -> PDU:
        """The event, with our signature if it is in the name of one of our users. Raises InvalidParam."""
        try:
            check_format(json, room.version)
            if membership == "join" and self._is_our_authority(json["content"]):
                # "the signature must be added before sending or persisting the event to other servers"
                json = sign_event(json, room.version, self.server_name, self.key)
        except FederationError as cause:
            raise refused_event(cause, "event") from cause
        [verdict] = await self.verifier.verify([json], room.version, room.room_id)
        if not isinstance(verdict, PDU):
            raise refused_event(verdict, "event") from verdict
        return verdict

    def _is_our_authority(self, content: JsonObject) -> bool:
        user_id = content.get(AUTHORISED_VIA)
        return isinstance(user_id, str) and user_id.endswith(f":{self.server_name}")

    async def _authority(self, room: Room, user_id: str) -> str:
        """A user of ours in whose name somebody may join. Raises Forbidden, UnableTo….

        Source: "Restricted rooms".
        """
        condition = await check_conditions(self.rooms, room, user_id)
        if condition is Condition.UNKNOWN:
            raise UnableToAuthoriseJoin("This server is not in all of the rooms whose members may join")
        if condition is Condition.FAILED:
            raise Forbidden("You are in none of the rooms whose members may join this one")
        member = authorising_user(room)
        if member is None:
            raise UnableToGrantJoin("Nobody on this server may let you into the room")
        return member


def _check_user(origin: str, user_id: str) -> None:
    """Raise unless a user is one of the origin's: Forbidden, InvalidParam."""
    try:
        _, server = split_user_id(user_id)
    except FederationError as cause:
        raise InvalidParam("This is not a valid user id: expected @name:server") from cause
    if server != origin:
        raise Forbidden("A server can only do this for its own users")
