"""The numbers of this node's devices, by which messages and claims find them; in memory for active users.

Whoever adds or deletes devices calls `forget`. A device that is gone although it is still known here harms
nobody: its number never comes again, and what is written for it is swept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from homeserver.loading_cache import LoadingCache
from homeserver.storage.connection import Pool
from homeserver.storage.device_keys import fetch_device_nids

USER_BYTES, DEVICE_BYTES = 400, 150  # about, in memory

NO_DEVICES: Mapping[str, int] = {}


class DeviceNumbers:
    """Numbers by user and device id. Users without devices are not kept: they may be about to register."""

    def __init__(self, pool: Pool, *, cache_bytes: int) -> None:
        self._pool = pool
        self._numbers: LoadingCache[str, dict[str, int]] = LoadingCache(
            self._read, lambda _, devices: USER_BYTES + DEVICE_BYTES * len(devices), cache_bytes
        )

    @property
    def size_bytes(self) -> int:
        return self._numbers.size_bytes

    async def of(self, user_ids: Collection[str]) -> Mapping[str, Mapping[str, int]]:
        """The devices of those of the users who have any here."""
        return await self._numbers.load_many(user_ids)

    def forget(self, user_id: str) -> None:
        """A device of the user came or went."""
        self._numbers.forget(user_id)

    async def _read(self, user_ids: Collection[str]) -> Mapping[str, dict[str, int]]:
        return await fetch_device_nids(self._pool, user_ids)
