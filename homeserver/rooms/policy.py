"""Whether a room has a policy server, and asking it before an event of ours counts.

Source: Server-Server API, "Determining if a Policy Server is enabled in a room".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from federation.canonical import encode_canonical
from federation.event import PDU, JsonObject
from federation.event_format import MAX_EVENT_BYTES
from federation.policy_server import POLICY_KEY, PolicyServer, parse_policy
from federation.room_versions import RoomVersion
from homeserver.errors import Forbidden, TooLarge
from homeserver.rooms.room import Room


class PolicySigner(Protocol):
    """Asks policy servers. `homeserver.federating.policy_servers` is one."""

    async def sign(self, policy: PolicyServer, event: JsonObject, version: RoomVersion) -> JsonObject:
        """A copy of the event with the policy server's signature. Raises MatrixError, to tell the client."""

    async def recommended(self, policy: PolicyServer, pdus: Sequence[PDU]) -> list[PDU | None]:
        """Events of other servers with its signature, None for each that it does not recommend."""


def policy_of(room: Room) -> PolicyServer | None:
    """The room's policy server, if it uses one: one look-up in nearly every room."""
    event = room.state.get(POLICY_KEY)
    if event is None:
        return None
    policy = parse_policy(event.content)
    # "The server name denoted by the m.room.policy state event's via has at least one joined user in the
    # room in *current state*."
    if policy is None or not _has_member(room, policy.server_name):
        return None
    return policy


def _has_member(room: Room, server_name: str) -> bool:
    return server_name in room.servers


async def signed_event(signer: PolicySigner | None, policy: PolicyServer, pdu: PDU) -> tuple[PDU, bytes]:
    """An event of ours with the policy server's signature, and its JSON. Raises MatrixError."""
    if signer is None:
        raise Forbidden("This server cannot ask the room's policy server")
    json = await signer.sign(policy, pdu.json, pdu.version)
    encoded = encode_canonical(json)
    if len(encoded) > MAX_EVENT_BYTES:
        raise TooLarge(f"An event has at most {MAX_EVENT_BYTES} bytes: send a smaller one")
    return replace(pdu, json=json), encoded
