"""Room aliases of this server and of others. Source: Server-Server API, `queryRoomDirectory`."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from federation.canonical import JsonObject
from federation.errors import BadIdentifier
from federation.identifiers import check_room_id, server_name_of
from federation.server_names import parse_server_name
from federation.transport.errors import RequestFailed
from homeserver.errors import MatrixError, PeerFailed
from homeserver.federating.asking import Asking, Question, failed
from homeserver.rooms.aliases import Aliases, check_alias
from homeserver.rooms.directory import SERVERS_MAX, Directory

PATH = "/_matrix/federation/v1/query/directory"


@dataclass(frozen=True, slots=True)
class AliasLookup:
    """Finds the room that an alias names, wherever the alias is from."""

    server_name: str
    aliases: Aliases
    directory: Directory
    asking: Asking

    async def resolve(self, alias: str, asker: str) -> JsonObject:
        """`getRoomIdByAlias`: ``room_id``, and ``servers`` to join it by, at most SERVERS_MAX.

        Raises InvalidParam, NotFound, Forbidden, PeerFailed, LimitExceeded.
        """
        check_alias(alias)
        server = server_name_of(alias)
        if server == self.server_name:
            return await self.directory.resolve(alias)
        question = Question(destination=server, path=PATH, query=(("room_alias", alias),))
        try:
            answer = await self.asking.ask(question, asker)
        except RequestFailed as failure:
            raise failed(failure, "There is no room of this name") from failure
        room_id = answer.get("room_id")
        if not isinstance(room_id, str) or not _is_room_id(room_id):
            raise PeerFailed("The other server's answer names no room")
        servers = answer.get("servers")
        named = [name for name in servers if _is_server(name)] if isinstance(servers, list) else []
        # Whose alias it is knows the room, whether it says so or not.
        return {"room_id": room_id, "servers": list(dict.fromkeys([*named, server]))[:SERVERS_MAX]}

    async def lookup_all(self, aliases: Collection[str], asker: str) -> dict[str, str]:
        """The rooms of those aliases that name any; who cannot be asked counts as not knowing."""
        found = await self.aliases.lookup_all(aliases)
        remote = [alias for alias in aliases if alias not in found and self._is_remote(alias)]

        async def room_of(alias: str) -> tuple[str, str | None]:
            try:
                return alias, (await self.resolve(alias, asker))["room_id"]
            except MatrixError:
                return alias, None

        answers = await asyncio.gather(*map(room_of, remote))
        return found | {alias: room_id for alias, room_id in answers if room_id is not None}

    def _is_remote(self, alias: str) -> bool:
        return server_name_of(alias) != self.server_name


def _is_room_id(text: str) -> bool:
    try:
        check_room_id(text)
    except BadIdentifier:
        return False
    return "\x00" not in text


def _is_server(name: object) -> bool:
    try:
        parse_server_name(name if isinstance(name, str) else "")
    except BadIdentifier:
        return False
    return True
