"""The keys of this node's users: `queryKeys` and what other servers ask alike.

Source: Client-Server API, "Key management API"; Server-Server API, "End-to-End Encryption".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import orjson

from federation.canonical import JsonObject
from homeserver.encryption.key_json import merge_signatures
from homeserver.errors import BadJson, InvalidParam, TooLarge
from homeserver.storage.connection import Pool
from homeserver.storage.cross_signing import (
    MASTER,
    SELF_SIGNING,
    USER_SIGNING,
    fetch_cross_signing_keys,
    fetch_user_signatures,
)
from homeserver.storage.device_keys import DeviceKeysRow, fetch_keys_of_users, fetch_known_users

USERS_MAX = 10_000  # in one request
DEVICES_MAX = 10_000  # named of one user

Wanted = Mapping[str, Collection[str]]
"""Device ids by user id; none stands for all of the user's."""


@dataclass(slots=True)
class FoundKeys:
    """Keys as JSON: of devices by user and device, and the users' cross-signing keys."""

    devices: dict[str, dict[str, bytes]] = field(default_factory=dict)
    master: dict[str, bytes] = field(default_factory=dict)
    self_signing: dict[str, bytes] = field(default_factory=dict)
    user_signing: dict[str, bytes] = field(default_factory=dict)

    def encoded(self, failures: Mapping[str, JsonObject] | None = None) -> bytes:
        """The answer of `queryKeys`; that to other servers has no ``failures``."""
        users = ((user_id, _object(devices)) for user_id, devices in self.devices.items())
        parts = [b'"device_keys":' + _object(dict(users))]
        if failures is not None:
            parts.append(b'"failures":' + orjson.dumps(failures))
        for name, keys in (
            (b"master_keys", self.master),
            (b"self_signing_keys", self.self_signing),
            (b"user_signing_keys", self.user_signing),
        ):
            if keys:
                parts.append(b'"%b":%b' % (name, _object(keys)))
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
class LocalKeys:
    """Reads what this node's users published."""

    pool: Pool

    async def query(self, wanted: Wanted) -> FoundKeys:
        """The keys that everyone may see. Users without an account here are left out."""
        found = FoundKeys()
        rows = await fetch_keys_of_users(self.pool, wanted)
        for row in rows:
            devices = found.devices.setdefault(row.user_id, {})
            device_ids = wanted[row.user_id]
            if not device_ids or row.device_id in device_ids:
                devices[row.device_id] = encode_device(row)
        without = [user_id for user_id in wanted if user_id not in found.devices]
        if without:
            for user_id in await fetch_known_users(self.pool, without):
                found.devices[user_id] = {}
        for user_id, keys in (await fetch_cross_signing_keys(self.pool, wanted)).items():
            if MASTER in keys:
                found.master[user_id] = keys[MASTER]
            if SELF_SIGNING in keys:
                found.self_signing[user_id] = keys[SELF_SIGNING]
        return found

    async def add_own(self, found: FoundKeys, user_id: str, user_nid: int) -> None:
        """Add what only one user may see: the user-signing key, and what it signed of others' keys."""
        if user_id in found.devices:
            own = (await fetch_cross_signing_keys(self.pool, (user_id,))).get(user_id, {})
            if USER_SIGNING in own:
                found.user_signing[user_id] = own[USER_SIGNING]
        others = [other for other in found.master if other != user_id]
        if not others:
            return
        for made in await fetch_user_signatures(self.pool, user_nid, others):
            master = orjson.loads(found.master[made.target])
            if made.master_key in master["keys"].values():  # else it was of a key before
                signatures = {user_id: {made.key_id: made.signature}}
                found.master[made.target] = orjson.dumps(merge_signatures(master, signatures))


def encode_device(row: DeviceKeysRow) -> bytes:
    """A device's keys, with its name as ``unsigned``."""
    if row.display_name is None:
        return row.json
    unsigned = orjson.dumps({"device_display_name": row.display_name})
    return b'%b,"unsigned":%b}' % (row.json[:-1], unsigned)


def _object(members: Mapping[str, bytes]) -> bytes:
    return b"{%b}" % b",".join(orjson.dumps(name) + b":" + json for name, json in members.items())
