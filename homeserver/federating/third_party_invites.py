"""Invites by e-mail address or phone number, between the servers of who invites and of who is invited.

Source: Server-Server API, "Third-party invites"; third_party_invite.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from federation.canonical import JsonObject
from federation.errors import BadIdentifier, FederationError
from federation.identifiers import check_room_id, check_server_name, check_user_id
from federation.transport.client import FederationClient, path_of
from homeserver.errors import BadJson, Forbidden, InvalidParam, MatrixError
from homeserver.federating.resident import Resident
from homeserver.federating.room_access import is_followed
from homeserver.rooms.elsewhere import InvitingElsewhere
from homeserver.rooms.room import MEMBER
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.third_party_invites import AddressProofs
from homeserver.storage.accounts import account_exists
from homeserver.storage.connection import Pool

log = structlog.get_logger()

INVITES_MAX = 20  # of one address that was bound: they are asked for one after another
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class ThirdPartyInvites:
    """Turns proofs of owning an address into invites."""

    pool: Pool
    client: FederationClient
    rooms: Rooms
    resident: Resident
    elsewhere: InvitingElsewhere
    proofs: AddressProofs
    server_name: str

    async def exchange(self, origin: str, room_id: str, body: JsonObject) -> None:
        """`exchangeThirdPartyInvite`: invite a user of the origin, as one of ours wanted it.

        Raises InvalidParam, BadJson,
        Forbidden, NotFound, and what the origin refuses the invite with.
        """
        user_id, content = body.get("state_key"), body.get("content")
        if body.get("type") != MEMBER or body.get("room_id") != room_id or not isinstance(content, dict):
            raise InvalidParam("This is no m.room.member event of the room")
        invite = content.get("third_party_invite")
        signed = invite.get("signed") if isinstance(invite, dict) else None
        if content.get("membership") != "invite" or not isinstance(signed, dict):
            raise InvalidParam("The event is no third-party invite")
        if not isinstance(user_id, str) or user_id.partition(":")[2] != origin:
            raise InvalidParam("The invited user is none of the server that asks")
        room = await self.resident.room(origin, room_id)
        if not room.is_local(str(body.get("sender"))):
            raise Forbidden("Only the inviting user's server can turn this third-party invite into an invite")
        draft = await self.proofs.invite(room, user_id, body.get("sender"), signed)
        await self.elsewhere.invite(room, draft)

    async def bound(self, body: JsonObject) -> None:
        """`onBindThirdPartyIdentifier`: an identity server tells of invites that waited for one of our users.

        Anyone may claim to be one: nothing is believed but what the room's rules can check. Raises BadJson,
        and Forbidden if there was one that could not be turned into an invite of the user.
        """
        invites = body.get("invites")
        if not isinstance(invites, list) or not all(isinstance(invite, dict) for invite in invites):
            raise BadJson("'invites' must be a list of objects")
        failures: list[Exception] = []
        for invite in invites[:INVITES_MAX]:
            user_id, room_id, sender = invite.get("mxid"), invite.get("room_id"), invite.get("sender")
            signed = invite.get("signed")
            if not _are_ids(user_id, room_id, sender) or not isinstance(signed, dict):
                continue
            if not user_id.endswith(f":{self.server_name}") or not await account_exists(self.pool, user_id):
                continue
            try:
                if not await self._invited_here(user_id, room_id, sender, signed):
                    await ask_for_invite(self.client, user_id, room_id, sender, signed)
            except (MatrixError, FederationError) as cause:
                log.info("third-party invite not had", room_id=room_id, user_id=user_id, cause=str(cause))
                failures.append(cause)
        if failures:
            raise Forbidden("Not all of the invites could be had")

    async def _invited_here(self, user_id: str, room_id: str, sender: str, signed: JsonObject) -> bool:
        """Invite the user in the name of who invited the address; False if that is for another server to do.

        "If the invited homeserver is in the room the invite came from, it can auth the event and send it."
        Nobody else has to sign it. Where this node does not ask the identity server, that of who has invited
        may. Raises BadJson, Forbidden.
        """
        is_own = sender.endswith(f":{self.server_name}")
        room = await self.rooms.find(room_id)
        if room is None or not is_followed(room):
            if is_own:
                raise Forbidden("Nobody here is in the room any more")
            return False
        try:
            draft = await self.proofs.invite(room, user_id, sender, signed)
        except Forbidden:
            if is_own:
                raise
            return False
        await self.rooms.send(room_id, draft)
        return True


async def ask_for_invite(
    client: FederationClient, user_id: str, room_id: str, sender: str, signed: JsonObject
) -> None:
    """Have the server of who invited an address make it an invite of a user. Raises FederationError."""
    server = sender.partition(":")[2]
    check_server_name(server)
    # The room's own event says how the user was named there; ours need not.
    content = {"membership": "invite", "third_party_invite": {"display_name": user_id, "signed": signed}}
    await client.request(
        server,
        "PUT",
        path_of("/_matrix/federation/v1/exchange_third_party_invite/{}", room_id),
        body={
            "type": MEMBER,
            "room_id": room_id,
            "sender": sender,
            "state_key": user_id,
            "content": content,
        },
        timeout_s=TIMEOUT_S,
    )


def _are_ids(user_id: object, room_id: object, sender: object) -> bool:
    """Whether these are two users' ids and a room's."""
    try:
        check_user_id(user_id if isinstance(user_id, str) else "")
        check_user_id(sender if isinstance(sender, str) else "")
        check_room_id(room_id if isinstance(room_id, str) else "")
    except BadIdentifier:
        return False
    return not any("\x00" in str(text) for text in (user_id, room_id, sender))
