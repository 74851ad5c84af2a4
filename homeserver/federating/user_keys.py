"""Keys of users, wherever they are: this node's from the database, others' from their servers.

Servers are asked at the same time, and those that do not answer in time are named in ``failures``.
Source: Client-Server API, "Key management API"; Server-Server API, "End-to-End Encryption".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import orjson

from federation.canonical import JsonObject
from federation.identifiers import is_valid_server_name
from federation.transport.client import FederationClient
from federation.transport.errors import RequestFailed
from homeserver.accounts.sessions import DISPLAY_NAME_LENGTH_MAX
from homeserver.encryption.key_claims import ClaimedKeys, LocalClaims, WantedKeys, encode_claimed
from homeserver.encryption.key_json import read_cross_signing_key, read_device_keys, read_one_time_keys
from homeserver.encryption.key_queries import FoundKeys, LocalKeys, Wanted
from homeserver.errors import MatrixError
from homeserver.requester import Requester
from homeserver.storage.cross_signing import MASTER, SELF_SIGNING

QUERY = "/_matrix/federation/v1/user/keys/query"
CLAIM = "/_matrix/federation/v1/user/keys/claim"
TIMEOUT_S_MAX = 30.0
SERVERS_MAX = 500  # asked for one request
SERVERS_AT_ONCE = 50

T = TypeVar("T")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class KeyQueries:
    """`queryKeys`."""

    server_name: str
    local: LocalKeys
    client: FederationClient

    async def query(self, requester: Requester, wanted: Wanted, timeout_ms: int) -> bytes:
        """The answer, JSON: what the requester may see of all keys that could be had in time."""
        here, elsewhere = _by_server(wanted, self.server_name)
        found = await self.local.query(here)

        async def ask(server: str, users: Mapping[str, object]) -> None:
            answer = await self.client.request(
                server, "POST", QUERY, body={"device_keys": users}, timeout_s=_seconds(timeout_ms)
            )
            add_answer(found, answer, {user_id: wanted[user_id] for user_id in users})

        failures = await _ask_all(elsewhere, ask)
        await self.local.add_own(found, requester.user_id, requester.user_nid)
        return found.encoded(failures)


@dataclass(frozen=True, slots=True)
class KeyClaims:
    """`claimKeys`."""

    server_name: str
    local: LocalClaims
    client: FederationClient

    async def claim(self, wanted: WantedKeys, timeout_ms: int) -> bytes:
        """The answer, JSON."""
        here, elsewhere = _by_server(wanted, self.server_name)
        found = await self.local.claim(here)

        async def ask(server: str, users: Mapping[str, Mapping[str, str]]) -> None:
            answer = await self.client.request(
                server, "POST", CLAIM, body={"one_time_keys": users}, timeout_s=_seconds(timeout_ms)
            )
            add_claimed(found, answer, users)

        failures = await _ask_all(elsewhere, ask)
        return b'{"failures":%b,"one_time_keys":%b}' % (orjson.dumps(failures), encode_claimed(found))


def add_answer(found: FoundKeys, answer: JsonObject, wanted: Wanted) -> None:
    """Add what a server answered of its users, as far as it was asked for and has the right form."""
    devices = answer.get("device_keys")
    for user_id, device_ids in wanted.items():
        of_user = devices.get(user_id) if isinstance(devices, dict) else None
        if isinstance(of_user, dict):
            found.devices[user_id] = {
                device_id: encoded
                for device_id, keys in of_user.items()
                if (not device_ids or device_id in device_ids)
                and (encoded := checked_device(keys, user_id, device_id)) is not None
            }
        for field, usage, into in (
            ("master_keys", MASTER, found.master),
            ("self_signing_keys", SELF_SIGNING, found.self_signing),
        ):
            keys = answer.get(field)
            key = keys.get(user_id) if isinstance(keys, dict) else None
            encoded = checked_cross_signing_key(key, user_id, usage) if key is not None else None
            if encoded is not None:
                into[user_id] = encoded


def checked_device(keys: object, user_id: str, device_id: str) -> bytes | None:
    """Another server's device keys with the name that it gives, encoded; None if their form is wrong."""
    try:
        checked = read_device_keys(keys, user_id, device_id)
    except MatrixError:
        return None
    unsigned = keys.get("unsigned") if isinstance(keys, dict) else None
    name = unsigned.get("device_display_name") if isinstance(unsigned, dict) else None
    if isinstance(name, str):
        checked["unsigned"] = {"device_display_name": name[:DISPLAY_NAME_LENGTH_MAX]}
    return orjson.dumps(checked)


def checked_cross_signing_key(key: object, user_id: str, usage: str) -> bytes | None:
    """Another server's cross-signing key, encoded; None if it has not the right form."""
    try:
        return orjson.dumps(read_cross_signing_key(key, user_id, usage).json)
    except MatrixError:
        return None


def add_claimed(found: ClaimedKeys, answer: JsonObject, wanted: WantedKeys) -> None:
    """Add the keys that a server answered, one for each device that was asked for."""
    keys = answer.get("one_time_keys")
    for user_id, devices in wanted.items():
        of_user = keys.get(user_id) if isinstance(keys, dict) else None
        for device_id, algorithm in devices.items():
            of_device = of_user.get(device_id) if isinstance(of_user, dict) else None
            try:
                checked = read_one_time_keys(of_device, "one_time_keys")
            except MatrixError:
                continue
            for (of_algorithm, key_id), json in checked.items():
                if of_algorithm == algorithm:
                    name = orjson.dumps(f"{algorithm}:{key_id}")
                    found.setdefault(user_id, {})[device_id] = b"{%b:%b}" % (name, json)
                    break


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

    servers = list(by_server)
    for server in servers[SERVERS_MAX:]:
        failures[server] = {
            "errcode": "M_UNKNOWN",
            "message": "Too many servers at once: ask again",
        }
    await asyncio.gather(*(ask_one(server, by_server[server]) for server in servers[:SERVERS_MAX]))
    return failures


def _by_server(wanted: Mapping[str, V], here: str) -> tuple[dict[str, V], dict[str, dict[str, V]]]:
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
