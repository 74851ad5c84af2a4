"""A node that knows no other server: what services of rooms get instead of somebody who asks others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from federation.event import JsonObject
from homeserver.rooms.aliases import Aliases
from homeserver.rooms.described_rooms import DescribedRoom


@dataclass(frozen=True, slots=True)
class Alone:
    """Its own aliases, and no rooms elsewhere."""

    aliases: Aliases

    async def describe(
        self, room_id: str, via: Sequence[str], asker: str, *, suggested_only: bool = False
    ) -> DescribedRoom | None:
        return None

    async def resolve(self, alias: str, asker: str) -> JsonObject:
        return {"room_id": await self.aliases.lookup(alias), "servers": [self.aliases.server_name]}

    async def lookup_all(self, aliases: Collection[str], asker: str) -> dict[str, str]:
        return await self.aliases.lookup_all(aliases)
