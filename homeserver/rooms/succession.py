"""What users and this server keep of a room that was replaced by another.

"When a user joins the new room, the server should automatically transfer/replicate some of the user's
personalized settings such as notifications, tags, etc." Source: Client-Server API, "Room Upgrades".
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson
import structlog

from federation.event import JsonObject
from homeserver.accounts.account_data import new_entry
from homeserver.accounts.push_rules import PushRules
from homeserver.accounts.tags import Tags
from homeserver.commit_log.log import CommitLog
from homeserver.push_rules.changes import copy_room_rules
from homeserver.requester import Requester
from homeserver.rooms.aliases import Aliases, Publication
from homeserver.rooms.room import Room
from homeserver.rooms.rooms import Rooms
from homeserver.storage.account_data import AccountDataConflict, fetch_entry
from homeserver.storage.connection import Pool

log = structlog.get_logger()

DIRECT = "m.direct"
ATTEMPTS = 5  # of an edit that a client was faster than


@dataclass(frozen=True, slots=True)
class Succession:
    """Carries over from a room to its successor what a user set, and by what this server's users find it."""

    pool: Pool
    log: CommitLog
    rooms: Rooms
    tags: Tags
    push_rules: PushRules
    aliases: Aliases
    publication: Publication

    async def joined(self, requester: Requester, room: Room) -> None:
        """Called when a user has joined a room. A failure is logged: the user is in the room all the same."""
        predecessor = room.content_of("m.room.create").get("predecessor")
        old_room_id = predecessor.get("room_id") if isinstance(predecessor, dict) else None
        if not isinstance(old_room_id, str) or "\0" in old_room_id:
            return
        try:
            old_room = await self.rooms.find(old_room_id)
            # Anybody can claim a predecessor: only the old room's own tombstone proves it.
            if old_room is None or old_room.member(requester.user_id) is None:
                return
            if old_room.text_of("m.room.tombstone", "replacement_room") != room.room_id:
                return
            # "Moves any local aliases to the new room": these are local to us, whoever has upgraded the room
            await self.aliases.move(old_room.nid, room.nid)
            await self.publication.move(old_room.nid, room.nid)
            await self.carry_over(requester, old_room_id, room.room_id)
        except Exception:
            log.exception("settings not carried over", room_id=room.room_id, user_id=requester.user_id)

    async def carry_over(self, requester: Requester, old_room_id: str, new_room_id: str) -> None:
        """Copy tags and push rules, and the mark of a direct chat; what the new room has is kept."""
        present = await self.tags.get(requester, new_room_id)
        for tag, content in (await self.tags.get(requester, old_room_id)).items():
            if tag not in present:
                await self.tags.put(requester, new_room_id, tag, content)
        await self.push_rules.edit(
            requester, lambda rule_set: copy_room_rules(rule_set, old_room_id, new_room_id)
        )
        await self._copy_direct(requester, old_room_id, new_room_id)

    async def _copy_direct(self, requester: Requester, old_room_id: str, new_room_id: str) -> None:
        for _ in range(ATTEMPTS):
            entry = await fetch_entry(self.pool, requester.user_nid, 0, DIRECT)
            content = orjson.loads(entry.content) if entry is not None else {}
            if entry is None or not _add_direct(content, old_room_id, new_room_id):
                return
            change = new_entry(requester, 0, DIRECT, orjson.dumps(content), replaces=entry.position)
            try:
                await self.log.commit(change)
            except AccountDataConflict:
                continue
            return


def _add_direct(content: JsonObject, old_room_id: str, new_room_id: str) -> bool:
    """Name the new room wherever `m.direct` names the old one; whether that changed anything."""
    changed = False
    for room_ids in content.values():
        if isinstance(room_ids, list) and old_room_id in room_ids and new_room_id not in room_ids:
            room_ids.append(new_room_id)
            changed = True
    return changed
