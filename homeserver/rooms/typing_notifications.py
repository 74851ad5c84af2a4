"""Who is typing in a room. Source: Client-Server API, "Typing Notifications"."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.commit_log.change import Change
from homeserver.commit_log.ephemeral import Ephemeral
from homeserver.commit_log.log import CommitLog
from homeserver.rooms.changes import RoomEventChange
from homeserver.rooms.room import membership_of
from homeserver.rooms.rooms import Rooms

TIMEOUT_DEFAULT_MS = 30_000
TIMEOUT_MAX_MS = 120_000  # "N is recommended to be no more than 20-30 seconds"


class TypingNotifications:
    """Typing of local users, told to the rooms' local members."""

    def __init__(self, rooms: Rooms, ephemeral: Ephemeral, log: CommitLog) -> None:
        self._rooms = rooms
        self._ephemeral = ephemeral
        log.subscribe(self._follow)

    async def set(self, room_id: str, user_id: str, typing: bool, timeout_ms: int | None) -> None:
        """`setTyping`. Raises Forbidden unless the user has joined the room."""
        room = await self._rooms.get_joined(room_id, user_id)
        if not typing:
            self._ephemeral.stop_typing(room.nid, user_id)
            return
        timeout_ms = TIMEOUT_DEFAULT_MS if timeout_ms is None else min(max(timeout_ms, 0), TIMEOUT_MAX_MS)
        self._ephemeral.start_typing(room.nid, user_id, timeout_ms, room.local_members)

    def _follow(self, changes: Sequence[Change]) -> None:
        """Whoever is no longer in a room does not type there either."""
        for change in changes:
            if isinstance(change, RoomEventChange) and change.membership_before == "join":
                event = change.event
                if event.state_key is not None and membership_of(event) != "join":
                    self._ephemeral.stop_typing(change.room_nid, event.state_key)
