"""Answering for other servers' keys. Source: Server-Server API, "Querying Keys Through Another Server"."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from federation.canonical import JsonObject
from federation.identifiers import is_valid_server_name
from federation.signing import sign_json
from homeserver.clock import Clock, now_ms
from homeserver.errors import BadJson
from homeserver.federating.key_ring import KeyRing
from homeserver.federating.own_keys import OwnKeys
from homeserver.federating.servers import Servers

SERVERS_MAX = 100  # asked for at once


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of one server: until when its document is valid, by default now, and the keys it has."""

    valid_until_ms: int | None = None
    key_ids: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Notary:
    """Hands on documents of servers that this node talks to, with its own signature."""

    key_ring: KeyRing
    own: OwnKeys
    servers: Servers
    clock: Clock = now_ms

    async def query(self, wanted: Mapping[str, Wanted]) -> JsonObject:
        """The documents of servers by name.

        Servers that do not answer, or that this node does not talk to, are left out. Raises BadJson.
        """
        if len(wanted) > SERVERS_MAX:
            raise BadJson(f"At most {SERVERS_MAX} servers can be asked for at once")
        found = await asyncio.gather(*(self._documents(server, keys) for server, keys in wanted.items()))
        return {"server_keys": [document for documents in found for document in documents]}

    async def _documents(self, server: str, wanted: Wanted) -> list[JsonObject]:
        if server == self.own.server_name:
            return [self.own.document()]
        if not is_valid_server_name(server) or not self.servers.permits(server):
            return []
        until = self.clock() if wanted.valid_until_ms is None else wanted.valid_until_ms
        documents = await self.key_ring.documents(server, until, wanted.key_ids)
        return [sign_json(document, self.own.server_name, self.own.key) for document in documents]
