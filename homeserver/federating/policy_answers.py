"""This server as the policy server of rooms that chose it. Source: room_policy.yaml, policy_server.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from federation.canonical import JsonObject
from federation.event import PDU
from homeserver.errors import BadJson, NotFound, Unrecognized
from homeserver.federating.own_policy import OwnPolicy
from homeserver.federating.room_access import RoomAccess
from homeserver.federating.verifying import EventVerifier
from homeserver.rooms.policy import policy_of
from homeserver.rooms.rooms import Rooms


@dataclass(frozen=True, slots=True)
class PolicyAnswers:
    """Looks at events of other servers; ``policy`` is None where the configuration has this turned off."""

    rooms: Rooms
    access: RoomAccess
    verifier: EventVerifier
    policy: OwnPolicy | None

    async def sign(self, origin: str, event: JsonObject) -> JsonObject:
        """`askPolicyServerToSign`: our signature. Raises NotRecommended, BadJson, Forbidden, NotFound.

        Whoever asks may do so for events of others too: they may have come without our signature.
        """
        if self.policy is None:
            raise Unrecognized("This server is no policy server")
        room_id = event.get("room_id")
        room = await self.rooms.find(room_id) if isinstance(room_id, str) else None
        chosen = policy_of(room) if room is not None else None
        if room is None or chosen is None or not self.policy.is_chosen(chosen):
            raise NotFound("This server is not the policy server of such a room")
        self.access.check(room, origin)
        [verdict] = await self.verifier.verify([event], room.version, room.room_id)
        if not isinstance(verdict, PDU):
            raise BadJson(f"This is no event of the room: {verdict}") from verdict
        return self.policy.sign(verdict.json, room.version)

    def public_keys(self) -> JsonObject:
        """`getWellknownPolicy`. Raises NotFound."""
        if self.policy is None:
            raise NotFound("This server is no policy server")
        return self.policy.public_keys()
