"""How far users have read, told to the other servers of the room and heard from them.

Private receipts are told to nobody. Source: Server-Server API, "Receipts".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TypeGuard

from federation.canonical import JsonObject
from homeserver.commit_log.change import Change
from homeserver.commit_log.log import CommitLog
from homeserver.federating.room_access import is_followed
from homeserver.federating.sender import Sender
from homeserver.rooms.room import Room
from homeserver.rooms.room_servers import server_of
from homeserver.rooms.rooms import Rooms
from homeserver.storage import receipts as sql
from homeserver.storage.connection import Pool
from homeserver.storage.receipts import MAIN_TIMELINE, READ, UNTHREADED, Receipt, ReceiptChange

RECEIPTS_MAX = 1_000  # of one EDU; what is over that is ignored
ID_BYTES_MAX = 255
TS_MAX = 2**53 - 1


class ReceiptEdus:
    """Follows the log for receipts of our users, and adds those of others to it."""

    def __init__(self, pool: Pool, commit_log: CommitLog, rooms: Rooms, sender: Sender) -> None:
        self._pool = pool
        self._log = commit_log
        self._rooms = rooms
        self._sender = sender
        commit_log.subscribe(self._follow)

    def _follow(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, ReceiptChange) and change.receipt.type == READ:
                self._tell(change)

    def _tell(self, change: ReceiptChange) -> None:
        receipt = change.receipt
        room = self._rooms.loaded_nid(change.room_nid)
        if room is None or not room.remote_servers or not room.is_local(receipt.user_id):
            return
        room_id = room.room_id
        self._sender.tell(room.remote_servers, lambda queue: queue.put_receipt(room_id, receipt))

    async def handle(self, origin: str, content: JsonObject) -> None:
        """``m.receipt``; the rooms' server ACLs were looked at. Receipts move forward only.

        "the server should only update entries that are listed in the EDU".
        """
        left = RECEIPTS_MAX
        changes: list[ReceiptChange] = []
        for room_id, receipts in content.items():
            room = await self._rooms.find(room_id)
            if room is None or not is_followed(room):
                continue
            found = list(islice(_read(room, origin, receipts), left))
            left -= len(found)
            if found:
                changes += await self._changes(room, found)
            if not left:
                break
        if changes:
            await self._log.commit(*changes)

    async def _changes(self, room: Room, receipts: Sequence[Receipt]) -> list[ReceiptChange]:
        changes: list[ReceiptChange] = []
        for number, user_nid, event_nid, current in await sql.fetch_targets(self._pool, room.nid, receipts):
            if current is None or event_nid > current:
                told = receipts[number]
                receipt = Receipt(told.user_id, told.type, told.thread_id, told.event_id, event_nid, told.ts)
                changes.append(ReceiptChange(room.nid, user_nid, receipt, room.local_members))
        return changes


def _read(room: Room, origin: str, receipts: object) -> Iterator[Receipt]:
    """What an EDU says of users of its origin who are in the room, where it has the right form."""
    users = receipts.get(READ) if isinstance(receipts, dict) else None
    for user_id, told in users.items() if isinstance(users, dict) else ():
        if not isinstance(told, dict) or server_of(user_id) != origin or room.membership(user_id) != "join":
            continue
        event_ids, data = told.get("event_ids"), told.get("data")
        event_id = event_ids[0] if isinstance(event_ids, list) and len(event_ids) == 1 else None
        data = data if isinstance(data, dict) else {}
        ts, thread_id = data.get("ts"), data.get("thread_id", UNTHREADED)
        if (
            _is_event_id(event_id)
            and type(ts) is int
            and 0 <= ts <= TS_MAX
            and (thread_id in (UNTHREADED, MAIN_TIMELINE) or _is_event_id(thread_id))
        ):
            yield Receipt(user_id, READ, thread_id, event_id, 0, ts)


def _is_event_id(value: object) -> TypeGuard[str]:
    return (
        isinstance(value, str)
        and value.startswith("$")
        and len(value.encode("utf-8", "surrogatepass")) <= ID_BYTES_MAX
        and value.isprintable()
    )
