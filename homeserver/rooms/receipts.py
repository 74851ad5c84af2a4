"""Read receipts and the fully read marker.

Source: Client-Server API, "Receipts", "Read and unread markers".
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import orjson

from homeserver.accounts.account_data import FULLY_READ, new_entry
from homeserver.clock import Clock, now_ms
from homeserver.commit_log.change import Change
from homeserver.commit_log.log import CommitLog
from homeserver.errors import InvalidParam, NotFound
from homeserver.requester import Requester
from homeserver.rooms.room import Room
from homeserver.rooms.rooms import Rooms
from homeserver.storage import receipts as sql
from homeserver.storage.account_data import fetch_entry
from homeserver.storage.connection import Pool
from homeserver.storage.receipts import (
    MAIN_TIMELINE,
    READ,
    READ_PRIVATE,
    UNTHREADED,
    Receipt,
    ReceiptChange,
    encode_receipts,
)

RECEIPT_TYPES = (READ, READ_PRIVATE, FULLY_READ)
ID_BYTES_MAX = 255


@dataclass(frozen=True, slots=True)
class Receipts:
    """Receipts of local users, which move forward only: along the order in which events came here."""

    pool: Pool
    log: CommitLog
    rooms: Rooms
    clock: Clock = now_ms

    async def post(
        self,
        requester: Requester,
        room_id: str,
        receipt_type: str,
        event_id: str,
        thread_id: str | None = None,
    ) -> None:
        """`postReceipt`; durable when this returns. What would move a receipt back has no effect.

        Raises Forbidden (not in the room), NotFound (the event), InvalidParam (type, ids, thread).
        """
        if receipt_type not in RECEIPT_TYPES:
            raise InvalidParam(f"The receipt type must be one of {', '.join(RECEIPT_TYPES)}")
        if receipt_type == FULLY_READ:
            if thread_id is not None:  # "It is provided for an incompatible receipt type."
                raise InvalidParam("m.fully_read has no thread_id")
            await self.mark(requester, room_id, {FULLY_READ: event_id})
            return
        if thread_id is not None and thread_id != MAIN_TIMELINE:
            _check_event_id(thread_id, "thread_id must be main or the event ID of a thread's root")
        room = await self.rooms.get_joined(room_id, requester.user_id)
        change = await self._receipt(requester, room, receipt_type, event_id, thread_id or UNTHREADED)
        if change is not None:
            await self.log.commit(change)

    async def mark(self, requester: Requester, room_id: str, event_ids: dict[str, str]) -> None:
        """`setReadMarker`: event ids by receipt type, all set or none. Raises as `post`."""
        room = await self.rooms.get_joined(room_id, requester.user_id)
        changes: list[Change] = []
        for receipt_type in (READ, READ_PRIVATE):
            if receipt_type in event_ids:
                event_id = event_ids[receipt_type]
                receipt = await self._receipt(requester, room, receipt_type, event_id, UNTHREADED)
                if receipt is not None:
                    changes.append(receipt)
        if FULLY_READ in event_ids:
            changes += await self._fully_read(requester, room, event_ids[FULLY_READ])
        if changes:
            await self.log.commit(*changes)

    async def since(self, room_nids: Collection[int], position: int, user_id: str) -> dict[int, list[bytes]]:
        """Encoded ``m.receipt`` events by room of what changed after a position that the tail does not cover.

        0 gives all there are, for an initial sync. Private receipts of others are left out.
        """
        found = await sql.fetch_receipts_since(self.pool, room_nids, position, user_id)
        return {room_nid: encode_receipts(receipts) for room_nid, receipts in found.items()}

    async def _receipt(
        self, requester: Requester, room: Room, receipt_type: str, event_id: str, thread_id: str
    ) -> ReceiptChange | None:
        """The change to commit, or None if the user has read so far already."""
        _check_event_id(event_id)
        target = await sql.fetch_target(
            self.pool, room.nid, event_id, requester.user_nid, receipt_type, thread_id
        )
        if target is None:
            raise NotFound("There is no such event in the room")
        event_nid, current = target
        if thread_id != UNTHREADED:
            await self._check_thread(room, event_id, event_nid, thread_id)
        if current is not None and event_nid <= current:
            return None
        receipt = Receipt(requester.user_id, receipt_type, thread_id, event_id, event_nid, self.clock())
        audience = room.local_members if receipt_type == READ else (requester.user_id,)
        return ReceiptChange(room.nid, requester.user_nid, receipt, audience)

    async def _check_thread(self, room: Room, event_id: str, event_nid: int, thread_id: str) -> None:
        """Raise InvalidParam if the event is not related to the thread.

        "Thread roots are considered to be in the main timeline, as are events that are related to a
        thread root via non-thread relations"; clients send receipts for those in their thread too, so
        both are accepted.
        """
        if thread_id == event_id:
            return
        ancestors = await sql.fetch_ancestors(self.pool, room.nid, event_nid)
        root = next((target for target, rel_type in ancestors if rel_type == "m.thread"), None)
        if thread_id == MAIN_TIMELINE:
            if root is not None:
                raise InvalidParam("The event is in a thread: it is not on the main timeline")
        elif thread_id not in {target for target, _ in ancestors} or (root is not None and root != thread_id):
            raise InvalidParam("The event is not related to the thread")

    async def _fully_read(self, requester: Requester, room: Room, event_id: str) -> list[Change]:
        """The change of the marker, if it moves forward."""
        _check_event_id(event_id)
        entry = await fetch_entry(self.pool, requester.user_nid, room.nid, FULLY_READ)
        current: str = orjson.loads(entry.content)["event_id"] if entry is not None else ""
        nids = await sql.fetch_event_nids(self.pool, room.nid, (event_id, current))
        if event_id not in nids:  # "The event MUST belong to the room."
            raise NotFound("There is no such event in the room")
        if current in nids and nids[event_id] <= nids[current]:
            return []
        return [new_entry(requester, room.nid, FULLY_READ, orjson.dumps({"event_id": event_id}))]


def _check_event_id(event_id: str, message: str = "This is not a valid event ID") -> None:
    if not event_id.startswith("$") or len(event_id.encode()) > ID_BYTES_MAX or "\x00" in event_id:
        raise InvalidParam(message)
