"""Memberships of rooms that this node is not in: invites to them, knocks on them, and how these ended.

The member event is kept as an outlier, with what the other server shows of the room. Source: Client-Server
API, "Stripped state"; Server-Server API, "Inviting to a room", "Knocking upon a room".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from federation.event import PDU, JsonObject
from homeserver.commit_log.log import CommitLog
from homeserver.rooms.accepting import INTEGER_MAX
from homeserver.rooms.event import FLAG_OUTLIER, Event
from homeserver.rooms.outside_changes import OutsideChange, OutsideMembership
from homeserver.rooms.past_events import UNKNOWN_SNAPSHOT
from homeserver.rooms.receiving import Receiving, encoded
from homeserver.rooms.rooms import Rooms
from homeserver.storage import outside_rooms as sql
from homeserver.storage import received_events as received_sql
from homeserver.storage.connection import Pool


@dataclass(frozen=True, slots=True)
class OutsideRooms:
    """Keeps them."""

    pool: Pool
    log: CommitLog
    rooms: Rooms
    receiving: Receiving

    async def record(
        self,
        user_id: str,
        pdu: PDU,
        servers: Sequence[str],
        shown: Sequence[JsonObject] = (),
    ) -> Event | None:
        """Keep a user's member event, with the stripped state that came with it; durable when this returns.

        The event's format and signatures were checked. None where this node has entered the room meanwhile:
        nothing is kept then, since the room itself tells of its members.
        """
        async with self.receiving.lock(pdu.room_id):
            room = await self.rooms.find(pdu.room_id)
            if room is not None and room.followed:
                return None
            room_nid = await sql.number(self.pool, pdu.room_id)
            known: list[Any] = []
            if room_nid is None:
                room_nid = await self.rooms.next_nid()
            else:
                known = await received_sql.known(self.pool, room_nid, [pdu.event_id])
            if known:
                event = Event.of_row(known[0])
            else:
                event = Event.of_pdu(pdu, encoded(pdu), room_nid=room_nid, snapshot=UNKNOWN_SNAPSHOT)
                [event.nid] = await received_sql.next_past_nids(self.pool, 1)
                event.flags = FLAG_OUTLIER
                event.depth = min(event.depth, INTEGER_MAX)
            stripped = orjson.dumps([*shown, event.stripped()])
            membership = OutsideMembership(room_nid, pdu.room_id, pdu.version, event, servers, stripped)
            await self.log.commit(OutsideChange(user_id, membership, not known))
            return event

    async def find(self, user_id: str, room_id: str) -> OutsideMembership | None:
        """The user's present membership of a room, if it is one of these."""
        row = await sql.of_user_and_room(self.pool, user_id, room_id)
        return OutsideMembership.of_row(row) if row is not None else None

    async def of_user(self, user_nid: int, room_nids: Sequence[int]) -> Mapping[int, OutsideMembership]:
        """The user's memberships of some rooms, by the rooms' numbers."""
        rows = await sql.of_user(self.pool, user_nid, room_nids)
        return {row["outside_nid"]: OutsideMembership.of_row(row) for row in rows}
