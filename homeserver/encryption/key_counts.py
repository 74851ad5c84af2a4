"""How many one-time keys a device has left, which every sync tells. In memory for the devices that sync.

Source: Client-Server API, "Extensions to /sync" (of "End-to-End Encryption").
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import orjson

from homeserver.commit_log.change import Change
from homeserver.commit_log.log import CommitLog
from homeserver.loading_cache import LoadingCache
from homeserver.storage.connection import Pool
from homeserver.storage.one_time_keys import ClaimChange, OneTimeKeysChange, StoredCounts, fetch_counts

C = TypeVar("C")

COUNT_BYTES = 800  # about, of one device
# Always told, also when there are none: clients that find no count believe that they have enough.
ALWAYS_COUNTED = "signed_curve25519"


@dataclass(slots=True)
class DeviceKeyCounts:
    """Of one device: unclaimed one-time keys by algorithm, and algorithms whose fallback key is unused."""

    one_time: Mapping[str, int]
    unused_fallback: tuple[str, ...]
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
        claimed: set[int] = set()
        for change in changes:
            if isinstance(change, ClaimChange) and change.key is not None:
                claimed.add(change.device_nid)
                self._move(change.device_nid, _after_claim, change)
        for change in changes:
            if isinstance(change, OneTimeKeysChange):
                if change.counts is None:
                    self._move(change.device_nid, _after_upload, change)
                elif change.device_nid in claimed:  # before they were counted, or after: nobody knows
                    self._counts.forget(change.device_nid)
                else:
                    self._counts.put(change.device_nid, _stored(change.counts))

    def _move(
        self, device_nid: int, after: Callable[[DeviceKeyCounts, C], DeviceKeyCounts | None], change: C
    ) -> None:
        """Carry a count on; where that cannot be told, it is read again."""
        known = self._counts.get(device_nid)
        moved = after(known, change) if known is not None else None
        if moved is None:
            self._counts.forget(device_nid)
        elif moved is not known:
            self._counts.put(device_nid, moved)

    async def _read(self, device_nids: Collection[int]) -> Mapping[int, DeviceKeyCounts]:
        return {nid: _stored(stored) for nid, stored in (await fetch_counts(self._pool, device_nids)).items()}


def _after_claim(known: DeviceKeyCounts, claim: ClaimChange) -> DeviceKeyCounts | None:
    algorithm = claim.algorithm
    if claim.is_fallback:
        if algorithm not in known.unused_fallback:
            return known
        return DeviceKeyCounts(
            known.one_time, tuple(one for one in known.unused_fallback if one != algorithm)
        )
    left = known.one_time.get(algorithm, 0) - 1
    if left < 0:
        return None
    one_time = {**known.one_time, algorithm: left}
    if left == 0 and algorithm != ALWAYS_COUNTED:
        del one_time[algorithm]
    return DeviceKeyCounts(one_time, known.unused_fallback)


def _after_upload(known: DeviceKeyCounts, upload: OneTimeKeysChange) -> DeviceKeyCounts:
    one_time = dict(known.one_time)
    for algorithm, count in upload.added.items():
        one_time[algorithm] = one_time.get(algorithm, 0) + count
    return DeviceKeyCounts(one_time, known.unused_fallback)


def _stored(counts: StoredCounts) -> DeviceKeyCounts:
    return DeviceKeyCounts({ALWAYS_COUNTED: 0, **counts.one_time}, tuple(counts.unused_fallback))
