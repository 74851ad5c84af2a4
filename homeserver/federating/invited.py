"""Invites from other servers to users of this one, and what becomes of them elsewhere.

Source: Server-Server API, "Inviting to a room"; invites-v2.yaml.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from federation.canonical import JsonObject
from federation.event import PDU, parse_pdu
from federation.keys import SigningKey
from federation.room_versions import ROOM_VERSIONS, RoomVersion
from federation.signing import sign_event
from homeserver.accounts.account_data import AccountData
from homeserver.errors import (
    Forbidden,
    IncompatibleRoomVersion,
    InvalidParam,
    InviteBlocked,
    MissingParam,
)
from homeserver.federating.other_servers import refused_event
from homeserver.federating.room_access import RoomAccess
from homeserver.federating.shown_rooms import read_shown
from homeserver.federating.verifying import EventVerifier
from homeserver.rooms.outside_rooms import OutsideRooms
from homeserver.rooms.receiving import Receiving
from homeserver.rooms.room import MEMBER, membership_of
from homeserver.rooms.rooms import Rooms
from homeserver.storage.accounts import fetch_account
from homeserver.storage.connection import Pool

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class InvitedHere:
    """Signs invites, keeps them, and hears that they are taken back."""

    pool: Pool
    rooms: Rooms
    receiving: Receiving
    outside: OutsideRooms
    access: RoomAccess
    verifier: EventVerifier
    account_data: AccountData
    server_name: str
    key: SigningKey

    async def invite(
        self, origin: str, room_id: str, event_id: str, version_id: str, event: JsonObject, shown: object
    ) -> JsonObject:
        """`sendInviteV2`: the event with our signature. The invite is durable when this returns.

        Raises InvalidParam, MissingParam, Forbidden, InviteBlocked, IncompatibleRoomVersion, Unavailable.
        """
        version = ROOM_VERSIONS.get(version_id)
        if version is None:
            raise IncompatibleRoomVersion(
                "This server does not support the room's version", room_version=version_id[:32]
            )
        room = await self.rooms.find(room_id)
        if room is not None and room.followed:
            self.access.check(room, origin)
        pdu = await self._verified(origin, room_id, event_id, version, event)
        user_id = pdu.state_key or ""
        await self._check_user(user_id, must_exist=room is None or not room.followed)
        seen = await read_shown(self.verifier, shown, version, room_id)
        if version.room_id_is_create_hash and not seen.has_create:
            raise MissingParam("invite_room_state must hold the m.room.create event, and it must be true")
        json = {key: value for key, value in pdu.json.items() if key != "unsigned"}
        signed = sign_event(json, version, self.server_name, self.key)
        invite = parse_pdu(signed, version, event_id=pdu.event_id)
        if room is not None and room.followed and room.version is not version:
            raise InvalidParam("The room has another version")
        servers = _distinct(origin, pdu.sender)
        if await self.outside.record(user_id, invite, servers, seen.stripped) is None:
            # It comes by a transaction too, with what it refers to if that is not known here yet.
            await self.receiving.receive(room_id, [invite])
        return {**event, "signatures": signed["signatures"]}

    async def taken_back(self, origin: str, room_id: str, event: object) -> bool:
        """Whether an event of a room that this node is not in ends the membership that one of its users has
        there: an invite that is taken back, a knock that is refused.

        Who may do so cannot be told from here. It is believed of those servers that told of the membership.
        """
        user_id = event.get("state_key") if isinstance(event, dict) else None
        if not isinstance(user_id, str) or not user_id.endswith(f":{self.server_name}") or "\x00" in user_id:
            return False
        known = await self.outside.find(user_id, room_id)
        if known is None or membership_of(known.event) not in ("invite", "knock"):
            return False
        [verdict] = await self.verifier.verify([event], known.version, room_id)
        if not isinstance(verdict, PDU) or verdict.type != MEMBER:
            return False
        if verdict.content.get("membership") not in ("leave", "ban") or origin not in known.servers:
            return False
        log.info("invite or knock ended from outside", room_id=room_id, server=origin)
        return await self.outside.record(user_id, verdict, known.servers) is not None

    async def _verified(
        self, origin: str, room_id: str, event_id: str, version: RoomVersion, event: JsonObject
    ) -> PDU:
        """Raises InvalidParam. Source: invites-v2.yaml, "Servers MUST apply certain validation"."""
        [verdict] = await self.verifier.verify([event], version, room_id)
        if not isinstance(verdict, PDU):
            raise refused_event(verdict, "invite") from verdict
        if verdict.event_id != event_id:
            raise InvalidParam("The event has another id than the one in the path")
        if verdict.type != MEMBER or verdict.content.get("membership") != "invite":
            raise InvalidParam("The event is no invite")
        if verdict.sender.partition(":")[2] != origin:
            raise InvalidParam("The inviting user is none of the server that sends the invite")
        if verdict.state_key is None or not verdict.state_key.endswith(f":{self.server_name}"):
            raise InvalidParam("The invited user is none of this server")
        return verdict

    async def _check_user(self, user_id: str, *, must_exist: bool) -> None:
        """Raises Forbidden for who is not here, InviteBlocked for who takes no invites.

        In a room that this node follows an invite stands whether it is signed or not, also of people who come
        by single sign-on and have not come yet.
        """
        account = await fetch_account(self.pool, user_id) if "\x00" not in user_id else None
        if must_exist and (account is None or account.is_deactivated):
            raise Forbidden("There is no such user on this server")
        if await self.account_data.blocking_invites((user_id,)):
            raise InviteBlocked(f"{user_id} takes no invites")


def _distinct(origin: str, sender: str) -> Sequence[str]:
    return list(dict.fromkeys((origin, sender.partition(":")[2])))
