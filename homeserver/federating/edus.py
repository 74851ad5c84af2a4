"""Ephemeral data units from other servers. Source: Server-Server API, "EDUs".

What each type means is its handler's business: `EduHandlers` finds it, and sees to it that none of them takes
long or harms the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import asyncpg
import structlog

from federation.canonical import JsonObject
from federation.event_format import EVENT_LEVELS_MAX
from federation.json_depth import has_more_levels
from homeserver.commit_log.committer import CONNECTION_LOST
from homeserver.errors import Unavailable
from homeserver.federating.room_access import RoomAccess

log = structlog.get_logger()

HANDLE_TIMEOUT_S = 10.0
RECEIPT_ROOMS_MAX = 200  # of one EDU: each may cost a look into the database
NEVER_LOST = frozenset({"m.direct_to_device", "m.device_list_update", "m.signing_key_update"})

EduHandler = Callable[[str, JsonObject], Awaitable[None]]
"""Takes the origin and the content of one EDU. It validates all of it, ignores nonsense quietly (counted),
and never raises for bad input. It has `HANDLE_TIMEOUT_S`, so it asks no other server and leaves what takes
long to a background task."""


def _may_pass(failure: Exception) -> bool:
    """Whether the same EDU may be taken in later: the fault is not in what it holds."""
    # Of the driver's errors, the ValueErrors are of values that it cannot send.
    passing = (Unavailable, TimeoutError, asyncpg.TransactionRollbackError, *CONNECTION_LOST)
    return isinstance(failure, passing) and not isinstance(failure, ValueError)


@dataclass(frozen=True, slots=True)
class EduHandlers:
    """The handlers by EDU type.

    ``count`` is told what became of each: ok, unknown, malformed, refused, failed, put_off.
    """

    handlers: Mapping[str, EduHandler]
    access: RoomAccess
    count: Callable[[str], None]

    async def handle_all(self, origin: str, edus: Sequence[object]) -> bool:
        """Hand EDUs over, one after another. Never raises for what they hold.

        False if one that must not be lost could not be stored: the others behind it are left alone, so that
        all come in their order when the transaction is repeated.
        """
        for edu in edus:
            outcome = await self._handle(origin, edu)
            self.count(outcome)
            if outcome == "put_off":
                return False
        return True

    async def _handle(self, origin: str, edu: object) -> str:
        if not isinstance(edu, dict):
            return "malformed"
        edu_type, content = edu.get("edu_type"), edu.get("content")
        if not isinstance(edu_type, str) or not isinstance(content, dict):
            return "malformed"
        if has_more_levels(content, EVENT_LEVELS_MAX):  # nothing could write it again
            return "malformed"
        handler = self.handlers.get(edu_type)
        if handler is None:
            return "unknown"
        permitted = await self._permitted(origin, edu_type, content)
        if permitted is None:
            return "refused"
        try:
            async with asyncio.timeout(HANDLE_TIMEOUT_S):
                await handler(origin, permitted)
        except Exception as cause:  # one EDU harms no other
            if edu_type in NEVER_LOST and _may_pass(cause):
                log.warning("EDU not stored", server=origin, edu_type=edu_type, cause=repr(cause))
                return "put_off"
            log.exception("EDU not handled", server=origin, edu_type=edu_type)
            return "failed"
        return "ok"

    async def _permitted(self, origin: str, edu_type: str, content: JsonObject) -> JsonObject | None:
        """What of an EDU the rooms' server ACLs let pass; None if nothing. Source: "Server Access Control
        Lists (ACLs)"."""
        if edu_type == "m.typing":
            return content if await self.access.permits(origin, content.get("room_id")) else None
        if edu_type == "m.receipt":
            return {
                room_id: receipts
                for room_id, receipts in islice(content.items(), RECEIPT_ROOMS_MAX)
                if await self.access.permits(origin, room_id)
            }
        return content
