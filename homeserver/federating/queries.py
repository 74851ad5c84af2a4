"""What other servers may ask about this server's users and aliases.

Source: Server-Server API, "Querying for information".
"""

from __future__ import annotations

from dataclasses import dataclass

from federation.canonical import JsonObject
from federation.errors import BadIdentifier
from federation.identifiers import server_name_of, split_user_id
from homeserver.accounts.profiles import Profiles
from homeserver.errors import Forbidden, InvalidParam, NotFound
from homeserver.rooms.aliases import check_alias
from homeserver.rooms.directory import Directory
from homeserver.rooms.rooms import Rooms


@dataclass(frozen=True, slots=True)
class FederationQueries:
    """Answers for what is of this server, and for nothing else."""

    server_name: str
    profiles: Profiles
    directory: Directory
    rooms: Rooms

    async def profile(self, user_id: str, field: str | None) -> JsonObject:
        """`queryProfile`: all fields of a profile, or one. Raises InvalidParam, NotFound."""
        try:
            _, server = split_user_id(user_id)
        except BadIdentifier as cause:
            raise InvalidParam("This is not a valid user id: expected @name:server") from cause
        if server != self.server_name:
            raise NotFound("This server only answers for its own users")
        if field is None:
            return await self.profiles.get(user_id)
        return await self.profiles.get_field(user_id, field)

    async def room_alias(self, alias: str) -> JsonObject:
        """`queryRoomDirectory`: the room's id and servers in it. Raises InvalidParam, NotFound, Forbidden.

        Of rooms that other servers cannot enter (``m.federate``) nothing is told but that.
        """
        check_alias(alias)
        if server_name_of(alias) != self.server_name:
            raise NotFound("This server only answers for its own room aliases")
        found = await self.directory.resolve(alias)
        room = await self.rooms.get(found["room_id"])
        if room.content_of("m.room.create").get("m.federate") is False:
            raise Forbidden("This room is not open to users of other servers")
        return found
