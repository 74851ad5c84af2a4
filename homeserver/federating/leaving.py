"""Turning down invites to rooms of other servers, and taking knocks back.

Source: Server-Server API, "Leaving Rooms (Rejecting Invites)".
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from federation.building import build_event
from federation.event import PDU, JsonObject
from federation.hashing import reference_hash
from federation.transport.client import FederationClient
from homeserver.errors import MatrixError, NotFound
from homeserver.federating.handshakes import BadHandshake, Handshakes
from homeserver.federating.older_versions import put_event
from homeserver.federating.other_servers import candidates, first_that_does
from homeserver.rooms.outside_changes import OutsideMembership
from homeserver.rooms.outside_rooms import OutsideRooms
from homeserver.rooms.room import MEMBER

log = structlog.get_logger()

SEND_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class FederatedLeaving:
    """Leaves rooms that this node is not in. The user is rid of them, whatever the other servers do."""

    client: FederationClient
    handshakes: Handshakes
    outside: OutsideRooms

    async def leave(self, user_id: str, room_id: str, content: JsonObject) -> bool:
        """See `homeserver.rooms.elsewhere.LeavingElsewhere`."""
        known = await self.outside.find(user_id, room_id)
        if known is None:
            raise NotFound("This server does not know the room")

        async def leave_through(server: str) -> PDU:
            return await self._leave_through(server, known, user_id, content)

        names = candidates(known.servers, self.handshakes.server_name)
        try:
            leave = await first_that_does(names, leave_through, "leave")
        except MatrixError as cause:
            log.info("left without the other servers", room_id=room_id, user_id=user_id, cause=str(cause))
            leave = self._on_our_own(known, user_id, content)
        return await self.outside.record(user_id, leave, known.servers) is not None

    async def _leave_through(
        self, server: str, known: OutsideMembership, user_id: str, content: JsonObject
    ) -> PDU:
        """Raises FederationError."""
        room_id = known.room_id
        template = await self.handshakes.make(server, "leave", room_id, user_id)
        if template.version.event_id_format is not known.version.event_id_format:
            raise BadHandshake("The room is known here with another version")
        leave, _ = self.handshakes.build(template, room_id, user_id, content)
        await put_event(
            self.client,
            server,
            "send_leave",
            room_id,
            leave.event_id,
            leave.json,
            leave.json,
            timeout_s=SEND_TIMEOUT_S,
        )
        return leave

    def _on_our_own(self, known: OutsideMembership, user_id: str, content: JsonObject) -> PDU:
        """A leave that no other server will see, for the user's clients."""
        version, event_id = known.version, known.event.event_id
        hashes = {event_id: reference_hash(known.event.pdu(version).json, version)}
        leave, _ = build_event(
            version=version,
            room_id=known.room_id,
            type=MEMBER,
            state_key=user_id,
            sender=user_id,
            content=content,
            prev_events=[event_id],
            auth_events=[event_id],
            depth=min(known.event.depth + 1, 2**53 - 1),
            origin_server_ts=self.handshakes.clock(),
            server_name=self.handshakes.server_name,
            key=self.handshakes.key,
            reference_hashes=hashes,
        )
        return leave
