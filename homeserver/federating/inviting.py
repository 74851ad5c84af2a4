"""Inviting users of other servers, whose servers sign the invite. Source: Server-Server API, "Inviting to a
room"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from federation.canonical import encode_canonical
from federation.errors import FederationError, NotCanonical
from federation.event import PDU, JsonObject, parse_pdu
from federation.hashing import event_id_of
from federation.identifiers import is_valid_server_name, split_user_id
from federation.policy_server import needs_recommendation
from federation.transport.client import FederationClient
from federation.transport.errors import Refused
from homeserver.errors import BadJson, Forbidden, InvalidParam, InviteBlocked, UnsupportedRoomVersion
from homeserver.federating.handshakes import BadHandshake
from homeserver.federating.older_versions import put_event
from homeserver.federating.other_servers import refusal_of
from homeserver.rooms.draft import Draft
from homeserver.rooms.event import Event
from homeserver.rooms.policy import PolicySigner, policy_of, signed_event
from homeserver.rooms.receiving import Outcome, Receiving
from homeserver.rooms.refusals import explain
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.stripped_state import STRIPPED_TYPES
from homeserver.storage import received_events as sql
from homeserver.storage.connection import Pool

TIMEOUT_S = 30.0
SIGNATURES_MAX = 16  # of the invited server


@dataclass(frozen=True, slots=True)
class FederatedInviting:
    """Has invites signed by the invited users' servers, then takes them into the room."""

    pool: Pool
    client: FederationClient
    rooms: Rooms
    receiving: Receiving
    policy_signer: PolicySigner
    server_name: str

    async def invite(self, room: Room, draft: Draft) -> Event:
        """See `homeserver.rooms.elsewhere.InvitingElsewhere`."""
        room_id = room.room_id
        server = _server_of(draft.state_key or "")
        await self.rooms.settle(room)  # the invite names the newest events, which must be stored by then
        room = await self.rooms.get(room_id)
        invite, _ = self.rooms.propose(room, draft, with_origin=True)
        policy = policy_of(room)
        if policy is not None and needs_recommendation(MEMBER, draft.state_key):
            invite, _ = await signed_event(self.policy_signer, policy, invite)
        try:
            shown = shown_of(room, draft.sender)
            older = {**invite.json, "unsigned": {"invite_room_state": shown}}
            answer = await put_event(
                self.client,
                server,
                "invite",
                room_id,
                invite.event_id,
                {"room_version": room.version.id, "event": invite.json, "invite_room_state": shown},
                # "room versions other than 1 and 2": those know no other way
                None if room.version.event_id_is_hash else older,
                timeout_s=TIMEOUT_S,
            )
            signed = _with_signatures(invite, server, answer.get("event"))
        except FederationError as failure:
            raise _refusal(failure) from failure
        # By now other events may have come: then the invite stands beside them in the room's graph.
        [result] = await self.receiving.receive(room_id, [signed], relay_for=self.server_name)
        if result.outcome is not Outcome.ACCEPTED:
            raise Forbidden(explain(result.reason))
        [row] = await sql.known(self.pool, room.nid, [invite.event_id])
        return Event.of_row(row)


def shown_of(room: Room, inviter: str | None = None) -> list[JsonObject]:
    """What others are shown of a room: its events of some types, in the format of its version."""
    events = [event for type in STRIPPED_TYPES if (event := room.state_event(type)) is not None]
    if inviter is not None and (member := room.state_event(MEMBER, inviter)) is not None:
        events.append(member)
    return [orjson.loads(event.json) for event in events]


def _with_signatures(invite: PDU, server: str, returned: Any) -> PDU:
    """The invite with the other server's signatures; nothing else of what came back is taken."""
    try:
        signatures = returned["signatures"][server]
        if invite.version.strict_canonical_json:
            encode_canonical(returned)
        same = event_id_of(returned, invite.version) == invite.event_id
    except (KeyError, TypeError, FederationError) as cause:
        raise BadHandshake("The answer is no invite that the invited server has signed") from cause
    if not same:
        raise BadHandshake("Another event came back than the invite that was sent")
    if not isinstance(signatures, dict) or not 0 < len(signatures) <= SIGNATURES_MAX:
        raise BadHandshake("The invited server has not signed the invite")
    if not all(isinstance(signature, str) for signature in signatures.values()):
        raise BadHandshake("The invited server's signatures are malformed")
    json = {**invite.json, "signatures": {**invite.json["signatures"], server: signatures}}
    return parse_pdu(json, invite.version, event_id=invite.event_id)


def _refusal(failure: FederationError) -> Exception:
    match failure:
        case Refused(errcode="M_INVITE_BLOCKED"):
            return InviteBlocked(failure.message or "The user takes no invites")
        case Refused(errcode="M_INCOMPATIBLE_ROOM_VERSION" | "M_UNSUPPORTED_ROOM_VERSION"):
            return UnsupportedRoomVersion("The user's server does not support this room's version")
        case FederationError(__cause__=NotCanonical()):
            # "a 400 M_BAD_JSON error on most endpoints" (rooms/v6, "Canonical JSON")
            return BadJson("The user's server answered with an event that is no canonical JSON")
    return refusal_of([failure])


def _server_of(user_id: str) -> str:
    """Raises InvalidParam."""
    try:
        _, server = split_user_id(user_id)
    except FederationError as cause:
        raise InvalidParam("This is not a valid user id: expected @name:server") from cause
    if not is_valid_server_name(server):
        raise InvalidParam("The user id names no valid server")
    return server
