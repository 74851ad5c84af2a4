"""Who may name rooms, and publish them.

Source: Client-Server API, "Room aliases", "Published room directory".
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import nlargest

from federation.event import JsonObject
from federation.identifiers import split_room_alias
from homeserver.config.rooms import RoomsConfig
from homeserver.errors import Forbidden, InvalidParam, MatrixError, NotFound, RoomInUse
from homeserver.requester import Requester
from homeserver.rooms.aliases import Aliases, Publication, check_alias
from homeserver.rooms.draft import Draft
from homeserver.rooms.room import Room
from homeserver.rooms.rooms import Rooms
from homeserver.storage import aliases as sql
from homeserver.storage.connection import Pool

CANONICAL_ALIAS = "m.room.canonical_alias"
ALIASES_MAX = 500  # of one room
SERVERS_MAX = 20  # named for joining by an alias


class AliasInUse(MatrixError):
    """A room alias exists already (`setRoomAlias`)."""

    status = 409


@dataclass(frozen=True, slots=True)
class Directory:
    """Aliases as users make and remove them, and the publication of rooms."""

    pool: Pool
    rooms: Rooms
    aliases: Aliases
    publication: Publication
    config: RoomsConfig
    server_name: str

    async def set_alias(self, requester: Requester, alias: str, room_id: str) -> None:
        """`setRoomAlias`, by the room's members and administrators.

        Raises InvalidParam (malformed, or of another server), AliasInUse, Forbidden, NotFound.
        """
        self._check_own_alias(alias)
        if not room_id.startswith("!"):
            raise InvalidParam("This is not a valid room id: expected !…")
        if alias in await self.aliases.lookup_all((alias,)):
            raise AliasInUse(f"Room alias {alias} already exists")
        room = await self._known_to(requester, room_id)
        if len(await sql.of_room(self.pool, room.nid, ALIASES_MAX)) >= ALIASES_MAX:
            raise Forbidden(f"A room may have {ALIASES_MAX} aliases on a server at most: remove one")
        try:
            await self.aliases.reserve(alias, room.nid, requester.user_id)
        except RoomInUse as cause:
            raise AliasInUse(f"Room alias {alias} already exists") from cause

    async def resolve(self, alias: str) -> JsonObject:
        """`getRoomIdByAlias`: the room's id, and servers to join it by. Raises InvalidParam, NotFound."""
        room_id = await self.aliases.lookup(alias)
        return {"room_id": room_id, "servers": self._servers(await self.rooms.get(room_id))}

    async def delete_alias(self, requester: Requester, alias: str) -> None:
        """`deleteRoomAlias`, by its creator, by who may name the room in it, and by administrators.

        Raises InvalidParam, NotFound, Forbidden.
        """
        self._check_own_alias(alias)
        row = await sql.fetch(self.pool, alias)
        room_id = (await self.aliases.lookup_all((alias,))).get(alias)
        if row is None or room_id is None:
            raise NotFound(f"Room alias {alias} not found")
        room = await self.rooms.get(room_id)
        if not requester.is_admin and row.creator != requester.user_id and not _may_name(room, requester):
            raise Forbidden("Only who made an alias, or may change the room's main one, can remove it")
        await self.aliases.release(alias, row.room_nid)
        if _may_name(room, requester):
            await self._remove_from_room(requester, room, alias)

    async def local_aliases(self, requester: Requester, room_id: str) -> list[str]:
        """`getLocalAliases`. Raises Forbidden for who is not in the room, unless it is world-readable."""
        room = await self.rooms.find(room_id)
        if room is None or not (
            requester.is_admin
            or room.membership(requester.user_id) == "join"
            or room.history_visibility == "world_readable"
        ):
            raise Forbidden("You are not in this room: join it first")
        return await sql.of_room(self.pool, room.nid, ALIASES_MAX)

    async def is_published(self, room_id: str) -> bool:
        """`getRoomVisibilityOnDirectory`. Raises NotFound."""
        return await self.publication.is_published((await self.rooms.get(room_id)).nid)

    async def set_published(self, requester: Requester, room_id: str, published: bool) -> None:
        """`setRoomVisibilityOnDirectory`, by who may change the room's main alias, and by administrators.

        Raises NotFound, Forbidden (also where the node's configuration leaves publishing to administrators).
        """
        room = await self.rooms.get(room_id)
        if not requester.is_admin:
            if not _may_name(room, requester):
                raise Forbidden("Publishing a room takes the power to change its main alias")
            if published and self.config.publication == "admins":
                raise Forbidden("Only administrators of this server may publish rooms")
        if published:
            await self.publication.publish(room.nid)
        else:
            await self.publication.withdraw(room.nid)

    def _check_own_alias(self, alias: str) -> None:
        check_alias(alias)
        localpart, server_name = split_room_alias(alias)
        if server_name != self.server_name:
            raise InvalidParam(f"Only aliases of {self.server_name} can be set and removed here")
        self.aliases.local_alias(localpart)

    async def _known_to(self, requester: Requester, room_id: str) -> Room:
        if requester.is_admin:
            return await self.rooms.get(room_id)
        return await self.rooms.get_joined(room_id, requester.user_id)

    def _servers(self, room: Room) -> list[str]:
        """This server, if it takes part, then those with the most users in the room."""
        own = [self.server_name] if room.followed else []
        others = nlargest(SERVERS_MAX - 1, room.remote_servers, key=lambda server: room.servers[server])
        return [*own, *others]

    async def _remove_from_room(self, requester: Requester, room: Room, alias: str) -> None:
        """Take the alias out of the room's state; that it is gone counts more than that this succeeds.

        "recommended to … delete the alias and return a successful response even if the user does not have
        permission to update the m.room.canonical_alias event": deleteRoomAlias.
        """
        content = room.content_of(CANONICAL_ALIAS)
        listed = content.get("alt_aliases")
        remaining = dict(content)
        if content.get("alias") == alias:
            del remaining["alias"]
        if isinstance(listed, list) and alias in listed:
            remaining["alt_aliases"] = [entry for entry in listed if entry != alias]
            if not remaining["alt_aliases"]:
                del remaining["alt_aliases"]
        if remaining != content:
            try:
                await self.rooms.send(
                    room.room_id,
                    Draft(sender=requester.user_id, type=CANONICAL_ALIAS, state_key="", content=remaining),
                )
            except Forbidden:  # the user's power was taken meanwhile
                return


def _may_name(room: Room, requester: Requester) -> bool:
    """Whether a user may change the room's canonical alias."""
    if room.membership(requester.user_id) != "join":
        return False
    levels = room.power_levels
    return levels.for_user(requester.user_id) >= levels.for_event(CANONICAL_ALIAS, is_state=True)
