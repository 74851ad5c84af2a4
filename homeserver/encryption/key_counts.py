"""How many one-time keys a device has left, which every sync tells. In memory for the devices that sync.

Source: Client-Server API, "Extensions to /sync" (of "End-to-End Encryption").
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import orjson

from homeserver.commit_log.change import Change
from homeserver.commit_log.log import CommitLog
from homeserver.loading_cache import LoadingCache
from homeserver.storage.connection import Pool
from homeserver.storage.one_time_keys import ClaimChange, OneTimeKeysChange, fetch_counts

COUNT_BYTES = 800  # about, of one device
# Always told, also when there are none: clients that find no count believe that they have enough.
ALWAYS_COUNTED = "signed_curve25519"


@dataclass(frozen=True, slots=True)
class DeviceKeyCounts:
    """Of one device: unclaimed one-time keys by algorithm, and algorithms whose fallback key is unused.

    `in_sync` are both as members of a sync's answer, each with a comma before it.
    """

    one_time: Mapping[str, int]
    unused_fallback: tuple[str, ...]
    in_sync: bytes


class KeyCounts:
    """Counts by the devices' numbers. Follows the commit log."""

    def __init__(self, pool: Pool, log: CommitLog, *, cache_bytes: int) -> None:
        self._pool = pool
        self._counts: LoadingCache[int, DeviceKeyCounts] = LoadingCache(
            self._read, lambda _, __: COUNT_BYTES, cache_bytes
        )
        log.subscribe(self._follow)

    def cached(self, device_nid: int) -> DeviceKeyCounts | None:
        """The counts of a device, if they are in memory."""
        return self._counts.get(device_nid)

    async def of(self, device_nid: int) -> DeviceKeyCounts:
        """The counts of a device."""
        return await self._counts.load(device_nid)

    def _follow(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, OneTimeKeysChange | ClaimChange):
                self._counts.forget(change.device_nid)

    async def _read(self, device_nids: Collection[int]) -> Mapping[int, DeviceKeyCounts]:
        return {
            nid: _counts({ALWAYS_COUNTED: 0, **stored.one_time}, tuple(stored.unused_fallback))
            for nid, stored in (await fetch_counts(self._pool, device_nids)).items()
        }


def _counts(one_time: Mapping[str, int], unused_fallback: tuple[str, ...]) -> DeviceKeyCounts:
    in_sync = b',"device_one_time_keys_count":%b,"device_unused_fallback_key_types":%b' % (
        orjson.dumps(one_time),
        orjson.dumps(unused_fallback),
    )
    return DeviceKeyCounts(one_time, unused_fallback, in_sync)
