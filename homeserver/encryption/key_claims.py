"""Claiming one-time keys of this node's devices: `claimKeys` and what other servers ask alike.

Source: Client-Server API, "One-time and fallback keys", "Key management API".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from homeserver.clock import Clock, now_ms
from homeserver.commit_log.log import CommitLog
from homeserver.encryption.device_numbers import DeviceNumbers
from homeserver.errors import BadJson, InvalidParam, TooLarge
from homeserver.storage.connection import Pool
from homeserver.storage.one_time_keys import ClaimChange, WantedKey, forget_claimed

KEYS_MAX = 5000  # in one request
CLAIMED_KEPT_MS = 7 * 24 * 3600 * 1000  # at least: how late a repeated upload may come

WantedKeys = Mapping[str, Mapping[str, str]]
"""Algorithms by user id and device id."""
ClaimedKeys = dict[str, dict[str, dict[str, orjson.Fragment]]]
"""By user id and device id: an object of `algorithm:key_id` and the key, to be encoded."""


def read_wanted_keys(value: object) -> WantedKeys:
    """The ``one_time_keys`` of a claim. Raises BadJson, TooLarge, InvalidParam."""
    if not isinstance(value, dict):
        raise BadJson("'one_time_keys' must map user ids to device ids to algorithms")
    count = 0
    for user_id, devices in value.items():
        if not isinstance(devices, dict):
            raise BadJson("'one_time_keys' must map user ids to device ids to algorithms")
        if not user_id.startswith("@") or "\x00" in user_id:
            raise InvalidParam("'one_time_keys' names what is no user id")
        for algorithm in devices.values():
            if not isinstance(algorithm, str):
                raise BadJson("'one_time_keys' must map user ids to device ids to algorithms")
            if not algorithm.isprintable():
                raise InvalidParam("'one_time_keys' names what is no algorithm")
        count += len(devices)
    if count > KEYS_MAX or len(value) > KEYS_MAX:
        raise TooLarge(f"{KEYS_MAX} keys at most can be claimed at once")
    return value


@dataclass(frozen=True, slots=True)
class LocalClaims:
    """Hands out keys, each once."""

    pool: Pool
    log: CommitLog
    numbers: DeviceNumbers
    clock: Clock = now_ms

    async def claim(self, wanted: WantedKeys) -> ClaimedKeys:
        """The keys that there are; they are gone durably when this returns. Unknown devices are left out."""
        owners: list[str] = []
        device_ids: list[str] = []
        keys: list[WantedKey] = []
        for user_id, numbers in (await self.numbers.of(wanted)).items():
            for device_id, algorithm in wanted[user_id].items():
                if (nid := numbers.get(device_id)) is not None:
                    owners.append(user_id)
                    device_ids.append(device_id)
                    keys.append((nid, algorithm))
        if not keys:
            return {}
        change = ClaimChange(keys, owners)
        await self.log.submit((change,), weight=len(keys))
        found: ClaimedKeys = {}
        for user_id, device_id, (_, algorithm), key in zip(
            owners, device_ids, keys, change.keys, strict=True
        ):
            if key is not None:
                named = {f"{algorithm}:{key[0]}": orjson.Fragment(key[1])}
                found.setdefault(user_id, {})[device_id] = named
        change.forget()
        return found

    async def sweep(self) -> None:
        """Forget keys that were claimed long ago."""
        now = self.clock()
        await forget_claimed(self.pool, now - CLAIMED_KEPT_MS, now)
