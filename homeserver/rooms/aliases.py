"""Names of rooms, and the rooms that are published. Source: Client-Server API, "Room aliases"."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from federation.errors import BadIdentifier
from federation.identifiers import MAX_ID_BYTES, check_room_alias, exceeds_bytes
from homeserver.clock import Clock, now_ms
from homeserver.errors import InvalidParam, NotFound, RoomInUse
from homeserver.storage import aliases as sql
from homeserver.storage.connection import Pool


@dataclass(frozen=True, slots=True)
class Aliases:
    """The aliases of this server."""

    pool: Pool
    server_name: str
    clock: Clock = now_ms

    def local_alias(self, localpart: str) -> str:
        """The alias with this local part. Raises InvalidParam if there can be no such alias."""
        alias = f"#{localpart}:{self.server_name}"
        if not localpart or any(character in ":\0" or character.isspace() for character in localpart):
            raise InvalidParam("An alias's local part is not empty, and has no colons and no white space")
        if exceeds_bytes(alias):
            raise InvalidParam(f"A room alias may have {MAX_ID_BYTES} bytes at most")
        return alias

    async def reserve(self, alias: str, room_nid: int, creator: str) -> None:
        """Take an alias of this server for a room, which may be about to be created.

        Raises RoomInUse if it is taken.
        """
        if not await sql.reserve(self.pool, alias, room_nid, creator, self.clock()):
            raise RoomInUse("This room alias is taken: choose another one")

    async def release(self, alias: str, room_nid: int) -> None:
        """Give back what `reserve` took."""
        await sql.release(self.pool, alias, room_nid)

    async def lookup(self, alias: str) -> str:
        """The room that an alias names. Raises InvalidParam (no alias at all), NotFound."""
        check_alias(alias)
        room_id = (await self.lookup_all((alias,))).get(alias)
        if room_id is None:
            raise NotFound("There is no room of this name")
        return room_id

    async def lookup_all(self, aliases: Collection[str]) -> dict[str, str]:
        """The rooms of those aliases that this server knows."""
        return await sql.room_ids(self.pool, aliases)

    async def move(self, old_room_nid: int, new_room_nid: int) -> None:
        """Give all of a room's aliases to its successor."""
        await sql.move(self.pool, old_room_nid, new_room_nid)


@dataclass(frozen=True, slots=True)
class Publication:
    """Which rooms the directory shows. Source: Client-Server API, "Published room directory"."""

    pool: Pool

    async def publish(self, room_nid: int) -> None:
        """Show a room."""
        await sql.publish(self.pool, room_nid)

    async def withdraw(self, room_nid: int) -> None:
        """Show a room no longer."""
        await sql.withdraw(self.pool, room_nid)

    async def is_published(self, room_nid: int) -> bool:
        """Whether a room is shown."""
        return await sql.is_published(self.pool, room_nid)

    async def move(self, old_room_nid: int, new_room_nid: int) -> None:
        """Show a room's successor in its place."""
        await sql.move_publication(self.pool, old_room_nid, new_room_nid)


def check_alias(alias: str) -> None:
    """Raise InvalidParam unless text is a room alias."""
    try:
        check_room_alias(alias)
    except BadIdentifier as cause:
        raise InvalidParam("This is not a valid room alias: expected #name:server") from cause
