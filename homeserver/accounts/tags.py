"""Room tags: account data `m.tag` of a room, edited one tag at a time.

Source: Client-Server API, "Room Tagging".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from federation.event import JsonObject
from homeserver.accounts.account_data import AccountData, new_entry
from homeserver.commit_log.log import CommitLog
from homeserver.errors import BadJson, InvalidParam, LimitExceeded
from homeserver.keyed_locks import KeyedLocks
from homeserver.requester import Requester
from homeserver.storage.account_data import AccountDataConflict, fetch_entry
from homeserver.storage.connection import Pool

TYPE = "m.tag"
TAG_BYTES_MAX = 255  # "The name of a tag MUST NOT exceed 255 bytes."
TAG_CONTENT_BYTES_MAX = 4096
TAGS_MAX = 100  # of a room
ATTEMPTS = 5  # of an edit that another process was faster than
CONFLICT_RETRY_MS = 500


@dataclass(frozen=True, slots=True)
class Tags:
    """Tags that users give to rooms."""

    pool: Pool
    log: CommitLog
    account_data: AccountData
    locks: KeyedLocks[str] = field(default_factory=KeyedLocks)

    async def get(self, requester: Requester, room_id: str) -> JsonObject:
        """`getRoomTags`: the tags by name. Raises InvalidParam, NotFound (of the room)."""
        tags, _ = await self._read(requester, await self.account_data.room_nid(room_id))
        return tags

    async def put(self, requester: Requester, room_id: str, tag: str, content: JsonObject) -> None:
        """`setRoomTag`. Raises InvalidParam, BadJson, NotFound (of the room)."""
        if not tag or len(tag.encode()) > TAG_BYTES_MAX:
            raise InvalidParam(f"The name of a tag must have 1 to {TAG_BYTES_MAX} bytes")
        order = content.get("order")
        if order is not None and (isinstance(order, bool) or not isinstance(order, int | float)):
            raise BadJson("The order of a tag must be a number between 0 and 1")
        if len(orjson.dumps(content)) > TAG_CONTENT_BYTES_MAX:
            raise InvalidParam(f"The content of a tag may have {TAG_CONTENT_BYTES_MAX} bytes at most")

        def add(tags: JsonObject) -> bool:
            if tag not in tags and len(tags) >= TAGS_MAX:
                raise InvalidParam(f"A room may have {TAGS_MAX} tags at most")
            tags[tag] = content
            return True

        await self._edit(requester, room_id, add)

    async def delete(self, requester: Requester, room_id: str, tag: str) -> None:
        """`deleteRoomTag`; nothing happens if there is no such tag. Raises InvalidParam, NotFound."""
        await self._edit(requester, room_id, lambda tags: tags.pop(tag, None) is not None)

    async def _edit(self, requester: Requester, room_id: str, change: Callable[[JsonObject], bool]) -> None:
        """Apply ``change``, which says whether it changed anything, to the room's tags."""
        room_nid = await self.account_data.room_nid(room_id)
        async with self.locks.hold(requester.user_id):
            for _ in range(ATTEMPTS):
                tags, position = await self._read(requester, room_nid)
                if not change(tags):
                    return
                content = orjson.dumps({"tags": tags})
                try:
                    await self.log.commit(new_entry(requester, room_nid, TYPE, content, replaces=position))
                except AccountDataConflict:
                    continue
                return
        raise LimitExceeded(CONFLICT_RETRY_MS)

    async def _read(self, requester: Requester, room_nid: int) -> tuple[JsonObject, int]:
        """The tags, and the position of the entry that holds them."""
        entry = await fetch_entry(self.pool, requester.user_nid, room_nid, TYPE)
        if entry is None:
            return {}, 0
        # A client may have written m.tag as account data, in whatever shape.
        tags = orjson.loads(entry.content).get("tags")
        if not isinstance(tags, dict):
            return {}, entry.position
        return {name: tag for name, tag in tags.items() if isinstance(tag, dict)}, entry.position
