"""Claiming one-time keys of this node's devices: `claimKeys` and what other servers ask alike.

Source: Client-Server API, "One-time and fallback keys", "Key management API".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from homeserver.clock import Clock, now_ms
from homeserver.commit_log.log import CommitLog
from homeserver.encryption.device_numbers import NO_DEVICES, DeviceNumbers
from homeserver.errors import BadJson, InvalidParam, TooLarge
from homeserver.storage.connection import Pool
from homeserver.storage.one_time_keys import ClaimChange, forget_claimed

KEYS_MAX = 5000  # in one request
CLAIMED_KEPT_MS = 7 * 24 * 3600 * 1000  # how late a repeated upload may come

WantedKeys = Mapping[str, Mapping[str, str]]
"""Algorithms by user id and device id."""
ClaimedKeys = dict[str, dict[str, bytes]]
"""By user id and device id: an object of `algorithm:key_id` and the key, JSON."""


def read_wanted_keys(value: object) -> WantedKeys:
    """The ``one_time_keys`` of a claim. Raises BadJson, TooLarge, InvalidParam."""
    if not isinstance(value, dict):
        raise BadJson("'one_time_keys' must map user ids to device ids to algorithms")
    count = 0
    for user_id, devices in value.items():
        if not isinstance(devices, dict) or not all(isinstance(one, str) for one in devices.values()):
            raise BadJson("'one_time_keys' must map user ids to device ids to algorithms")
        if not user_id.startswith("@") or "\x00" in user_id:
            raise InvalidParam("'one_time_keys' names what is no user id")
        if any("\x00" in algorithm for algorithm in devices.values()):
            raise InvalidParam("'one_time_keys' names what is no algorithm")
        count += len(devices)
    if count > KEYS_MAX or len(value) > KEYS_MAX:
        raise TooLarge(f"{KEYS_MAX} keys at most can be claimed at once")
    return value


def encode_claimed(claimed: ClaimedKeys) -> bytes:
    """The object of claimed keys of an answer."""
    return b"{%b}" % b",".join(
        b"%b:{%b}"
        % (orjson.dumps(user_id), b",".join(orjson.dumps(one) + b":" + key for one, key in devices.items()))
        for user_id, devices in claimed.items()
    )


@dataclass(frozen=True, slots=True)
class LocalClaims:
    """Hands out keys, each once."""

    pool: Pool
    log: CommitLog
    numbers: DeviceNumbers
    clock: Clock = now_ms

    async def claim(self, wanted: WantedKeys) -> ClaimedKeys:
        """The keys that there are; they are gone durably when this returns. Unknown devices are left out."""
        nids = await self.numbers.of(wanted)
        now = self.clock()
        claims = [
            (device_id, ClaimChange(user_id, nid, algorithm, now))
            for user_id, devices in wanted.items()
            for device_id, algorithm in devices.items()
            if (nid := nids.get(user_id, NO_DEVICES).get(device_id)) is not None
        ]
        if not claims:
            return {}
        await self.log.commit(*(claim for _, claim in claims))
        found: ClaimedKeys = {}
        for device_id, claim in claims:
            if claim.key is not None:
                key_id, json = claim.key
                name = orjson.dumps(f"{claim.algorithm}:{key_id}")
                found.setdefault(claim.owner, {})[device_id] = b"{%b:%b}" % (name, json)
        return found

    async def sweep(self) -> None:
        """Forget keys that were claimed long ago."""
        await forget_claimed(self.pool, self.clock() - CLAIMED_KEPT_MS)
