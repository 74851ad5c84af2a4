"""The keys of this node's users: `queryKeys` and what other servers ask alike.

Source: Client-Server API, "Key management API"; Server-Server API, "End-to-End Encryption".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from federation.canonical import JsonObject
from homeserver.commit_log.change import Change
from homeserver.commit_log.log import CommitLog
from homeserver.encryption.key_json import merge_signatures
from homeserver.errors import BadJson, InvalidParam, TooLarge
from homeserver.loading_cache import LoadingCache
from homeserver.storage.connection import Pool
from homeserver.storage.cross_signing import (
    MASTER,
    SELF_SIGNING,
    USER_SIGNING,
    CrossSigningChange,
    UserSignature,
    UserSignaturesChange,
    fetch_cross_signing_keys,
    fetch_user_signatures,
)
from homeserver.storage.device_keys import DeviceKeysRow, fetch_keys_of_users, fetch_known_users
from homeserver.storage.device_lists import DeviceListChange

USERS_MAX = 10_000  # in one request
DEVICES_MAX = 10_000  # named of one user
PUBLISHED_BYTES = 500  # of a user's entry in memory, without the keys

Wanted = Mapping[str, Collection[str]]
"""Device ids by user id; none stands for all of the user's."""


@dataclass(slots=True)
class FoundKeys:
    """Keys as JSON: of each user's devices, an object by device id, and the users' cross-signing keys."""

    devices: dict[str, bytes] = field(default_factory=dict)
    master: dict[str, bytes] = field(default_factory=dict)
    self_signing: dict[str, bytes] = field(default_factory=dict)
    user_signing: dict[str, bytes] = field(default_factory=dict)

    def encoded(self, failures: Mapping[str, JsonObject] | None = None) -> bytes:
        """The answer of `queryKeys`; that to other servers has no ``failures``."""
        parts = [b'"device_keys":' + json_object(self.devices)]
        if failures is not None:
            parts.append(b'"failures":' + orjson.dumps(failures))
        for name, keys in (
            (b"master_keys", self.master),
            (b"self_signing_keys", self.self_signing),
            (b"user_signing_keys", self.user_signing),
        ):
            if keys:
                parts.append(b'"%b":%b' % (name, json_object(keys)))
        return b"{%b}" % b",".join(parts)


def read_wanted(value: object) -> dict[str, list[str]]:
    """The ``device_keys`` of a query. Raises BadJson, TooLarge, InvalidParam."""
    if not isinstance(value, dict):
        raise BadJson("'device_keys' must map user ids to lists of device ids")
    if len(value) > USERS_MAX:
        raise TooLarge(f"{USERS_MAX} users at most can be asked for at once")
    for user_id, device_ids in value.items():
        if not isinstance(device_ids, list) or not all(isinstance(one, str) for one in device_ids):
            raise BadJson("'device_keys' must map user ids to lists of device ids")
        if len(device_ids) > DEVICES_MAX:
            raise TooLarge(f"{DEVICES_MAX} devices at most can be named of a user")
        if not user_id.startswith("@") or "\x00" in user_id:
            raise InvalidParam("'device_keys' names what is no user id")
    return value


@dataclass(frozen=True, slots=True)
class Published:
    """What a user published: keys of devices by id, all of them as one object, the user's own by usage."""

    devices: dict[str, bytes]
    encoded: bytes
    own: dict[str, bytes]

    @property
    def size_bytes(self) -> int:
        return PUBLISHED_BYTES + 2 * len(self.encoded) + sum(map(len, self.own.values()))


class LocalKeys:
    """Reads what this node's users published, and keeps it in memory until it changes."""

    def __init__(self, pool: Pool, log: CommitLog, *, cache_bytes: int) -> None:
        self._pool = pool
        self._published: LoadingCache[str, Published] = LoadingCache(
            self._read, lambda _, published: published.size_bytes, cache_bytes * 3 // 4
        )
        self._signatures: LoadingCache[int, dict[str, UserSignature]] = LoadingCache(
            self._read_signatures, lambda _, made: 200 + 500 * len(made), cache_bytes // 4
        )
        log.subscribe(self._follow)

    @property
    def size_bytes(self) -> int:
        return self._published.size_bytes + self._signatures.size_bytes

    async def query(self, wanted: Wanted) -> FoundKeys:
        """The keys that everyone may see. Users without an account here are left out."""
        found = FoundKeys()
        for user_id, published in (await self._published.load_many(wanted)).items():
            named = wanted[user_id]
            if named:
                some = {one: keys for one, keys in published.devices.items() if one in named}
                found.devices[user_id] = json_object(some)
            else:
                found.devices[user_id] = published.encoded
            if MASTER in published.own:
                found.master[user_id] = published.own[MASTER]
            if SELF_SIGNING in published.own:
                found.self_signing[user_id] = published.own[SELF_SIGNING]
        return found

    async def add_own(self, found: FoundKeys, user_id: str, user_nid: int) -> None:
        """Add what only one user may see: the user-signing key, and what it signed of others' keys."""
        if user_id in found.devices:
            own = (await self._published.load(user_id)).own
            if USER_SIGNING in own:
                found.user_signing[user_id] = own[USER_SIGNING]
        if not found.master:
            return
        made_by_user = await self._signatures.load(user_nid)
        for target in found.master.keys() & made_by_user.keys():
            made = made_by_user[target]
            master = orjson.loads(found.master[target])
            if made.master_key in master["keys"].values():  # else it was of a key before
                signatures = {user_id: {made.key_id: made.signature}}
                found.master[target] = orjson.dumps(merge_signatures(master, signatures))

    def _follow(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, DeviceListChange):
                self._published.forget(change.user_id)
            elif isinstance(change, UserSignaturesChange | CrossSigningChange):
                self._signatures.forget(change.user_nid)

    async def _read(self, user_ids: Collection[str]) -> Mapping[str, Published]:
        devices: dict[str, dict[str, bytes]] = {}
        for row in await fetch_keys_of_users(self._pool, user_ids):
            devices.setdefault(row.user_id, {})[row.device_id] = encode_device(row)
        without = [user_id for user_id in user_ids if user_id not in devices]
        for user_id in await fetch_known_users(self._pool, without) if without else ():
            devices[user_id] = {}
        keys = await fetch_cross_signing_keys(self._pool, devices)
        return {
            user_id: Published(of_user, json_object(of_user), keys.get(user_id, {}))
            for user_id, of_user in devices.items()
        }

    async def _read_signatures(self, user_nids: Collection[int]) -> Mapping[int, dict[str, UserSignature]]:
        return {nid: await fetch_user_signatures(self._pool, nid) for nid in user_nids}


def encode_device(row: DeviceKeysRow) -> bytes:
    """A device's keys, with its name in ``unsigned``, which older clients expect also where there is none."""
    unsigned = b"{}"
    if row.display_name is not None:
        unsigned = orjson.dumps({"device_display_name": row.display_name})
    return b'%b,"unsigned":%b}' % (row.json[:-1], unsigned)


def json_object(members: Mapping[str, bytes]) -> bytes:
    """Members that are encoded already, as an object."""
    return b"{%b}" % b",".join([orjson.dumps(name) + b":" + json for name, json in members.items()])
