"""Answering for other servers' keys. Source: Server-Server API, "Querying Keys Through Another Server"."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
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
class Notary:
    """Hands on the newest documents of servers that this node talks to, with its own signature."""

    key_ring: KeyRing
    own: OwnKeys
    servers: Servers
    clock: Clock = now_ms

    async def query(self, wanted: Mapping[str, int | None]) -> JsonObject:
        """The documents of servers by name, valid until a time in milliseconds, by default now.

        Servers that do not answer, or that this node does not talk to, are left out. Raises BadJson.
        """
        if len(wanted) > SERVERS_MAX:
            raise BadJson(f"At most {SERVERS_MAX} servers can be asked for at once")
        found = await asyncio.gather(*(self._document(server, until) for server, until in wanted.items()))
        return {"server_keys": [document for document in found if document is not None]}

    async def _document(self, server: str, valid_until_ms: int | None) -> JsonObject | None:
        if server == self.own.server_name:
            return self.own.document()
        if not is_valid_server_name(server) or not self.servers.permits(server):
            return None
        until = self.clock() if valid_until_ms is None else valid_until_ms
        document = await self.key_ring.document(server, until)
        return None if document is None else sign_json(document, self.own.server_name, self.own.key)
