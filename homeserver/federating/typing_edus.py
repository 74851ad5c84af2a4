"""Who types in a room, told to its other servers and heard from them.

Source: Server-Server API, "Typing Notifications".
"""

from __future__ import annotations

from collections import OrderedDict

from federation.canonical import JsonObject
from homeserver.clock import Clock, now_ms
from homeserver.commit_log.ephemeral import Ephemeral
from homeserver.federating.room_access import is_followed
from homeserver.federating.sender import Sender
from homeserver.rooms.room_servers import server_of
from homeserver.rooms.rooms import Rooms

TELL_AGAIN_MS = 20_000  # that somebody still types
REMOTE_TIMEOUT_MS = 60_000  # until a server has to say again that its user still types
TOLD_MAX = 10_000


class TypingEdus:
    """Follows `Ephemeral` for our users, and feeds it with those of others."""

    def __init__(self, rooms: Rooms, ephemeral: Ephemeral, sender: Sender, *, clock: Clock = now_ms) -> None:
        self._rooms = rooms
        self._ephemeral = ephemeral
        self._sender = sender
        self._clock = clock
        self._told_ms: OrderedDict[tuple[int, str], int] = OrderedDict()
        ephemeral.on_typing = self.tell

    def tell(self, room_nid: int, user_id: str, typing: bool) -> None:
        """One of our users types, goes on typing, or has stopped."""
        room = self._rooms.loaded_nid(room_nid)
        if room is None or not room.remote_servers or not room.is_local(user_id):
            return
        key, now = (room_nid, user_id), self._clock()
        if typing:
            if now - self._told_ms.get(key, 0) < TELL_AGAIN_MS:
                return
            self._told_ms[key] = now
            self._told_ms.move_to_end(key)
            if len(self._told_ms) > TOLD_MAX:
                self._told_ms.popitem(last=False)
        else:
            self._told_ms.pop(key, None)
        room_id = room.room_id
        self._sender.tell(room.remote_servers, lambda queue: queue.put_typing(room_id, user_id, typing))

    async def handle(self, origin: str, content: JsonObject) -> None:
        """``m.typing``.

        "Receiving servers should verify that the user is in the room, and is a user belonging to the sending
        server." The room's server ACL was looked at.
        """
        room_id, user_id, typing = (content.get(name) for name in ("room_id", "user_id", "typing"))
        if not isinstance(room_id, str) or not isinstance(user_id, str) or not isinstance(typing, bool):
            return
        if server_of(user_id) != origin:
            return
        room = await self._rooms.find(room_id)
        if room is None or not is_followed(room) or room.membership(user_id) != "join":
            return
        if typing:
            self._ephemeral.start_typing(room.nid, user_id, REMOTE_TIMEOUT_MS, room.local_members)
        else:
            self._ephemeral.stop_typing(room.nid, user_id)
