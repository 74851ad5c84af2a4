"""Keys of users, wherever they are: this node's from the database, others' from their servers.

Servers are asked at the same time, and those that do not answer in time are named in ``failures``.
Source: Client-Server API, "Key management API"; Server-Server API, "End-to-End Encryption".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

import orjson

from federation.canonical import JsonObject
from federation.identifiers import is_valid_server_name
from federation.transport.client import FederationClient
from federation.transport.errors import RequestFailed
from homeserver.encryption.key_claims import LocalClaims, WantedKeys
from homeserver.encryption.key_queries import FoundKeys, LocalKeys, Wanted, json_object
from homeserver.federating.remote_keys import add_answer, add_claimed
from homeserver.federating.remote_lists import RemoteLists
from homeserver.requester import Requester
from homeserver.storage.connection import Pool
from homeserver.storage.cross_signing import MASTER, SELF_SIGNING, fetch_cross_signing_keys
from homeserver.storage.remote_devices import fetch_known_lists, fetch_remote_devices, fetch_sharing

QUERY = "/_matrix/federation/v1/user/keys/query"
CLAIM = "/_matrix/federation/v1/user/keys/claim"
TIMEOUT_S_MAX = 30.0
SERVERS_MAX = 500  # asked for one request
SERVERS_AT_ONCE = 50
REFRESHED_MAX = 5  # lists of one server that are asked for one by one; more are asked for together
DEFAULT_TIMEOUT_MS = 10_000

T = TypeVar("T")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class KeyQueries:
    """`queryKeys`. Lists of other servers' users that are known and up to date are not asked for."""

    server_name: str
    pool: Pool
    local: LocalKeys
    client: FederationClient
    lists: RemoteLists

    async def query(self, requester: Requester, wanted: Wanted, timeout_ms: int) -> bytes:
        """The answer, JSON: what the requester may see of all keys that could be had in time."""
        found, failures = await self._find(wanted, timeout_ms)
        await self.local.add_own(found, requester.user_id, requester.user_nid)
        return found.encoded(failures)

    async def master_keys(self, user_ids: Collection[str]) -> Mapping[str, bytes]:
        """The users' master keys, JSON, as far as they can be had."""
        found, _ = await self._find(dict.fromkeys(user_ids, ()), DEFAULT_TIMEOUT_MS)
        return found.master

    async def _find(self, wanted: Wanted, timeout_ms: int) -> tuple[FoundKeys, dict[str, JsonObject]]:
        here, elsewhere = by_server(wanted, self.server_name)
        found = await self.local.query(here)
        if not elsewhere:
            return found, {}
        users = [user_id for of_server in elsewhere.values() for user_id in of_server]
        await self._add_known(found, wanted, users)
        unknown = {
            server: missing
            for server, of_server in elsewhere.items()
            if (missing := [user_id for user_id in of_server if user_id not in found.devices])
        }
        if not unknown:
            return found, {}
        shared = await fetch_sharing(self.pool, [one for missing in unknown.values() for one in missing])

        async def ask(server: str, missing: list[str]) -> None:
            async with asyncio.timeout(_seconds(timeout_ms)):
                await self._ask(found, wanted, server, missing, shared, _seconds(timeout_ms))

        return found, await _ask_all(unknown, ask)

    async def _add_known(self, found: FoundKeys, wanted: Wanted, user_ids: Collection[str]) -> None:
        """Add the lists that are known and up to date."""
        known = await fetch_known_lists(self.pool, user_ids)
        if not known:
            return
        devices = await fetch_remote_devices(self.pool, known.values())
        for user_id, nid in known.items():
            named = wanted[user_id]
            of_user = devices.get(nid, {})
            found.devices[user_id] = json_object(
                {one: json for one, json in of_user.items() if not named or one in named}
            )
        for user_id, keys in (await fetch_cross_signing_keys(self.pool, known)).items():
            if MASTER in keys:
                found.master[user_id] = keys[MASTER]
            if SELF_SIGNING in keys:
                found.self_signing[user_id] = keys[SELF_SIGNING]

    async def _ask(
        self,
        found: FoundKeys,
        wanted: Wanted,
        server: str,
        missing: Collection[str],
        shared: Collection[str],
        timeout_s: float,
    ) -> None:
        """Ask one server. Lists that are kept up to date from now on are had whole. Raises RequestFailed."""
        kept = [user_id for user_id in missing if user_id in shared]
        if kept and len(kept) <= REFRESHED_MAX:
            await asyncio.gather(*(self.lists.refresh(user_id, timeout_s) for user_id in kept))
            await self._add_known(found, wanted, kept)
        else:
            await self.lists.want(kept)
        rest = {user_id: list(wanted[user_id]) for user_id in missing if user_id not in found.devices}
        if rest:
            answer = await self.client.request(
                server, "POST", QUERY, body={"device_keys": rest}, timeout_s=timeout_s
            )
            add_answer(found, answer, rest)


@dataclass(frozen=True, slots=True)
class KeyClaims:
    """`claimKeys`."""

    server_name: str
    local: LocalClaims
    client: FederationClient

    async def claim(self, wanted: WantedKeys, timeout_ms: int) -> bytes:
        """The answer, JSON."""
        here, elsewhere = by_server(wanted, self.server_name)
        found = await self.local.claim(here)

        async def ask(server: str, users: Mapping[str, Mapping[str, str]]) -> None:
            answer = await self.client.request(
                server, "POST", CLAIM, body={"one_time_keys": users}, timeout_s=_seconds(timeout_ms)
            )
            add_claimed(found, answer, users)

        failures = await _ask_all(elsewhere, ask)
        return orjson.dumps({"failures": failures, "one_time_keys": found})


async def _ask_all(
    by_server: Mapping[str, T], ask: Callable[[str, T], Awaitable[None]]
) -> dict[str, JsonObject]:
    """Ask servers at the same time; what failed, by server, in the form of ``failures``."""
    failures: dict[str, JsonObject] = {}
    turns = asyncio.Semaphore(SERVERS_AT_ONCE)

    async def ask_one(server: str, users: T) -> None:
        try:
            async with turns:
                await ask(server, users)
        except RequestFailed as failure:
            failures[server] = {"errcode": "M_UNKNOWN", "message": str(failure)}
        except TimeoutError:
            failures[server] = {"errcode": "M_UNKNOWN", "message": f"{server} did not answer in time"}

    servers = list(by_server)
    for server in servers[SERVERS_MAX:]:
        failures[server] = {
            "errcode": "M_UNKNOWN",
            "message": "Too many servers at once: ask again",
        }
    await asyncio.gather(*(ask_one(server, by_server[server]) for server in servers[:SERVERS_MAX]))
    return failures


def by_server(wanted: Mapping[str, V], here: str) -> tuple[dict[str, V], dict[str, dict[str, V]]]:
    """What is wanted of this node's users, and of others by their servers."""
    local: dict[str, V] = {}
    elsewhere: dict[str, dict[str, V]] = {}
    for user_id, value in wanted.items():
        server = user_id.partition(":")[2]
        if server == here:
            local[user_id] = value
        elif is_valid_server_name(server):
            elsewhere.setdefault(server, {})[user_id] = value
    return local, elsewhere


def _seconds(timeout_ms: int) -> float:
    return min(timeout_ms / 1000, TIMEOUT_S_MAX)
