"""Which servers may take part in a room as this node sees it.

Source: Server-Server API, "Server Access Control Lists (ACLs)"; Client-Server API, ``m.federate``.
"""

from __future__ import annotations

from collections import OrderedDict

from federation.identifiers import is_room_id, is_valid_server_name
from federation.server_acl import ServerAcl
from homeserver.errors import Forbidden, NotFound
from homeserver.rooms.room import Room
from homeserver.rooms.rooms import Rooms

ACL = ("m.room.server_acl", "")
ACLS_MAX = 1000  # read ones, of all rooms together


class RoomAccess:
    """Asked for each event and request of another server. Keeps the ACLs that it has read."""

    def __init__(self, rooms: Rooms, server_name: str) -> None:
        self._rooms = rooms
        self._server_name = server_name
        self._acls: OrderedDict[str, ServerAcl] = OrderedDict()  # by event id

    async def permits(self, server: str, room_id: object) -> bool:
        """Whether a server may tell us anything of a room: one that this node follows, and that lets it."""
        if not isinstance(room_id, str) or not is_room_id(room_id):
            return False
        room = await self._rooms.find(room_id)
        return room is not None and is_followed(room) and self.allows(room, server)

    async def open(self, room_id: str, server: str) -> Room:
        """A room for a server that has users in it. Raises NotFound, Forbidden.

        Also one that this node's users have left: what they did last, up to their leaving, others can take in
        only if they get what it refers to, and who else would have it.
        """
        room = await self._rooms.find(room_id)
        if room is None:
            raise NotFound("This server does not take part in the room")
        if room.partial_servers is not None:
            raise NotFound("This server does not know all members of the room yet: ask another one")
        self.check(room, server)
        if not has_server(room, server):
            raise Forbidden("Your server is not in the room")
        return room

    def check(self, room: Room, server: str) -> None:
        """Refuse a server that the room's ACL denies, or that a closed room excludes. Raises Forbidden."""
        if not self.allows(room, server):
            raise Forbidden("Your server is not allowed to take part in this room")

    def allows(self, room: Room, server: str) -> bool:
        """As `check`: whether the room is open to other servers, and its ACL to this one."""
        if room.content_of("m.room.create").get("m.federate") is False:
            return server == self._server_name
        event = room.state.get(ACL)
        if event is None:
            # "1. If there is no m.room.server_acl event in the room state, allow."
            return True
        acl = self._acls.get(event.event_id)
        if acl is None or event.redacted_by is not None:
            acl = self._acls[event.event_id] = ServerAcl.of(event.content)
            if len(self._acls) > ACLS_MAX:
                self._acls.popitem(last=False)
        return acl.permits(server)

    def servers(self, room: Room) -> list[str]:
        """The other servers with joined members, that with the most of them first: it will hardly be away."""
        count = room.servers
        valid = filter(is_valid_server_name, room.remote_servers)
        return sorted(valid, key=lambda server: -count.get(server, 0))


def is_followed(room: Room) -> bool:
    """Whether events of the room still come here: otherwise what is known of it is old."""
    return bool(room.local_members)


def has_server(room: Room, server: str) -> bool:
    """Whether some user of a server is in the room."""
    return server in room.servers or server in (room.partial_servers or ())
