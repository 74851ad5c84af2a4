"""What rooms need of other servers: `homeserver.federating` does it, and `homeserver.app` puts it in.

Server-Server API: "Joining Rooms", "Knocking upon a room", "Inviting to a room", "Leaving Rooms".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from federation.event import JsonObject
from homeserver.errors import NotFound
from homeserver.rooms.event import Event


class Elsewhere(Protocol):
    """Memberships that this node cannot give by itself. Failures are `MatrixError`s, fit for the client."""

    async def find_alias(self, alias: str) -> tuple[str, Sequence[str]]:
        """The room that another server's alias names, and servers to enter it by. Raises NotFound."""
        ...

    async def join(
        self, user_id: str, room_id: str, servers: Sequence[str], content: JsonObject, *, authorised: bool
    ) -> Event | None:
        """Join through servers that are in the room, those named first.

        `authorised` asks for one that lets the user into a restricted room that this node follows; None if
        there is none to ask. Without it, None if this node follows the room by now, because somebody else
        here has just joined: then the user can join here.
        """
        ...


class NowhereElse:
    """An `Elsewhere` for a node on its own."""

    async def find_alias(self, alias: str) -> tuple[str, Sequence[str]]:
        raise NotFound("There is no room of this name")

    async def join(
        self, user_id: str, room_id: str, servers: Sequence[str], content: JsonObject, *, authorised: bool
    ) -> Event | None:
        if authorised:
            return None
        raise NotFound("This server does not know the room")
