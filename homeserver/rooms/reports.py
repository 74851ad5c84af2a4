"""Reports of rooms, events and users to this server's administrators.

They are stored, and each is a line in the log. Source: Client-Server API, "Reporting Content".
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from homeserver.clock import Clock, now_ms
from homeserver.errors import NotFound
from homeserver.requester import Requester
from homeserver.rooms.history import NO_EVENT, History
from homeserver.rooms.reading import Reading
from homeserver.rooms.rooms import Rooms
from homeserver.storage import reports as sql
from homeserver.storage.connection import Pool

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reports:
    """Takes reports in; they are stored when a call returns."""

    pool: Pool
    rooms: Rooms
    history: History
    clock: Clock = now_ms

    async def report_room(self, requester: Requester, room_id: str, reason: str) -> None:
        """`reportRoom`: of any room that this server knows. Raises NotFound."""
        room = await self.rooms.get(room_id)
        nid = await sql.insert_report(self.pool, self.clock(), requester.user_nid, reason, room_nid=room.nid)
        log.warning("room reported", report=nid, room_id=room_id, reporter=requester.user_id)

    async def report_event(self, requester: Requester, room_id: str, event_id: str, reason: str) -> None:
        """`reportEvent`: "servers MUST verify that the reporting user is currently joined to the room".

        Raises NotFound, also for events that the user cannot see.
        """
        room = await self.rooms.find(room_id)
        if room is None or room.membership(requester.user_id) != "join":
            raise NotFound(NO_EVENT)
        await self.history.visible_event(Reading(room), requester, event_id)
        nid = await sql.insert_report(
            self.pool, self.clock(), requester.user_nid, reason, room_nid=room.nid, event_id=event_id
        )
        log.warning(
            "event reported", report=nid, room_id=room_id, event_id=event_id, reporter=requester.user_id
        )

    async def report_user(self, requester: Requester, user_id: str, reason: str) -> None:
        """`reportUser`: of any user whom this server has met. Raises NotFound."""
        user_nid = await sql.fetch_user_nid(self.pool, user_id)
        if user_nid is None:
            raise NotFound("This server does not know the user")
        nid = await sql.insert_report(self.pool, self.clock(), requester.user_nid, reason, user_nid=user_nid)
        log.warning("user reported", report=nid, user_id=user_id, reporter=requester.user_id)
