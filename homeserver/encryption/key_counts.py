"""How many one-time keys a device has left, which every sync tells. In memory for the devices that sync.

Source: Client-Server API, "Extensions to /sync" (of "End-to-End Encryption").
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from homeserver.commit_log.change import Change
from homeserver.commit_log.log import CommitLog
from homeserver.loading_cache import LoadingCache
from homeserver.storage.connection import Pool
from homeserver.storage.one_time_keys import ClaimChange, OneTimeKeysChange, StoredCounts, fetch_counts

COUNT_BYTES = 800  # about, of one device
CLAIMED_MAX = 20_000  # devices of which it is remembered when keys were claimed last
# Always told, also when there are none: clients that find no count believe that they have enough.
ALWAYS_COUNTED = "signed_curve25519"


@dataclass(slots=True)
class DeviceKeyCounts:
    """Of one device: unclaimed one-time keys by algorithm, and algorithms whose fallback key is unused."""

    one_time: dict[str, int]
    unused_fallback: list[str]
    _in_sync: bytes = field(default=b"", init=False)

    @property
    def in_sync(self) -> bytes:
        """Both as members of a sync's answer, each with a comma before it."""
        if not self._in_sync:  # counts change more often than they are told
            self._in_sync = b',"device_one_time_keys_count":%b,"device_unused_fallback_key_types":%b' % (
                orjson.dumps(self.one_time),
                orjson.dumps(self.unused_fallback),
            )
        return self._in_sync

    def add(self, added: Mapping[str, int]) -> None:
        """Keys were uploaded."""
        self._in_sync = b""
        for algorithm, count in added.items():
            self.one_time[algorithm] = self.one_time.get(algorithm, 0) + count

    def take(self, algorithm: str, *, is_fallback: bool) -> bool:
        """A key was claimed; False if the counts cannot have been right."""
        self._in_sync = b""
        if is_fallback:
            if algorithm in self.unused_fallback:
                self.unused_fallback.remove(algorithm)
            return True
        left = self.one_time.get(algorithm, 0) - 1
        self.one_time[algorithm] = left
        if left == 0 and algorithm != ALWAYS_COUNTED:
            del self.one_time[algorithm]
        return left >= 0


class KeyCounts:
    """Counts by the devices' numbers, and whose keys were claimed last. Follows the commit log."""

    def __init__(self, pool: Pool, log: CommitLog, *, cache_bytes: int) -> None:
        self._pool = pool
        self._counts: LoadingCache[int, DeviceKeyCounts] = LoadingCache(
            self._read, lambda _, __: COUNT_BYTES, cache_bytes
        )
        self._claimed: dict[int, int] = {}  # positions of each device's last claim, the newest last
        log.subscribe(self._follow)

    def cached(self, device_nid: int) -> DeviceKeyCounts | None:
        """The counts of a device, if they are in memory."""
        return self._counts.get(device_nid)

    async def of(self, device_nid: int) -> DeviceKeyCounts:
        """The counts of a device."""
        return await self._counts.load(device_nid)

    def were_claimed(self, device_nid: int, since: int) -> bool:
        """Whether keys of a device were claimed after a position, as far as it is remembered."""
        return self._claimed.get(device_nid, 0) > since

    def _follow(self, changes: Sequence[Change]) -> None:
        claimed: set[int] = set()
        for change in changes:
            if isinstance(change, ClaimChange):
                claimed.update(self._claim(change))
        for change in changes:
            if isinstance(change, OneTimeKeysChange):
                device_nid = change.device_nid
                known = self._counts.get(device_nid)
                if change.counts is None and known is not None:
                    known.add(change.added)
                elif change.counts is None or device_nid in claimed:
                    self._counts.forget(device_nid)  # counted before the claim, or after: nobody knows
                else:
                    self._counts.put(device_nid, _stored(change.counts))

    def _claim(self, change: ClaimChange) -> list[int]:
        """Carry counts on: those of the devices that are returned. What is being read of them is outdated."""
        claimed: list[int] = []
        for (device_nid, algorithm), key in zip(change.wanted, change.keys, strict=True):
            if key is not None:
                claimed.append(device_nid)
                self._claimed.pop(device_nid, None)
                self._claimed[device_nid] = change.position
                known = self._counts.get(device_nid)
                if known is None or not known.take(algorithm, is_fallback=key[2]):
                    self._counts.forget(device_nid)
        while len(self._claimed) > CLAIMED_MAX:
            del self._claimed[next(iter(self._claimed))]
        return claimed

    async def _read(self, device_nids: Collection[int]) -> Mapping[int, DeviceKeyCounts]:
        return {nid: _stored(stored) for nid, stored in (await fetch_counts(self._pool, device_nids)).items()}


def _stored(counts: StoredCounts) -> DeviceKeyCounts:
    return DeviceKeyCounts({ALWAYS_COUNTED: 0, **counts.one_time}, counts.unused_fallback)
