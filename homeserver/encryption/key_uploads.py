"""Devices publish their keys: `uploadKeys`. Source: Client-Server API, "Uploading keys"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from federation.canonical import JsonObject
from homeserver.batched_reads import BatchedReads
from homeserver.commit_log.change import Change
from homeserver.commit_log.log import CommitLog
from homeserver.encryption.device_lists import DeviceLists
from homeserver.encryption.key_counts import KeyCounts
from homeserver.encryption.key_json import (
    covered,
    encode_key,
    merge_signatures,
    read_device_keys,
    read_one_time_keys,
)
from homeserver.errors import Forbidden, InvalidParam, TooLarge
from homeserver.keyed_locks import KeyedLocks
from homeserver.requester import Requester
from homeserver.storage.device_keys import DeviceKeysChange, Identity
from homeserver.storage.one_time_keys import (
    STORED_KEYS_MAX,
    KeyName,
    OneTimeKeyDiffers,
    OneTimeKeysChange,
    TooManyOneTimeKeys,
)

FALLBACK_ALGORITHMS_MAX = 20
TOO_MANY_KEYS = f"A device may have {STORED_KEYS_MAX} one-time keys at most"


@dataclass(frozen=True, slots=True)
class KeyUploads:
    """Takes keys in. One upload of a device at a time, so that each sees what the one before stored."""

    identities: BatchedReads[tuple[int, int], Identity]
    log: CommitLog
    device_lists: DeviceLists
    counts: KeyCounts
    locks: KeyedLocks[int] = field(default_factory=KeyedLocks)

    async def upload(self, requester: Requester, body: JsonObject) -> Mapping[str, int]:
        """Store what the body brings; the device's one-time key counts afterwards.

        Raises BadJson, InvalidParam (also for a one-time key that differs from one of the same id), TooLarge,
        Forbidden (the device's id is one of the user's cross-signing keys).
        """
        keys = _read_keys(body, "one_time_keys")
        fallback = _read_keys(body, "fallback_keys")
        if len({algorithm for algorithm, _ in fallback}) < len(fallback):
            raise InvalidParam("There can be one fallback key of each algorithm only")
        if len(fallback) > FALLBACK_ALGORITHMS_MAX:
            raise TooLarge(f"{FALLBACK_ALGORITHMS_MAX} fallback keys at most can be stored")
        device_keys = body.get("device_keys")
        if device_keys is not None:
            device_keys = read_device_keys(device_keys, requester.user_id, requester.device_id)
        async with self.locks.hold(requester.device_nid):
            counts = self.counts.cached(requester.device_nid)
            if counts is not None and sum(counts.one_time.values()) + len(keys) > STORED_KEYS_MAX:
                raise TooLarge(TOO_MANY_KEYS)
            identity = await self._identity(requester, device_keys) if device_keys is not None else None
            uploaded = OneTimeKeysChange(requester.device_nid, keys, fallback, is_counted=counts is None)
            try:
                await self._store(requester, identity, uploaded)
            except OneTimeKeyDiffers as cause:
                raise InvalidParam(f"There is another one-time key {cause} already") from cause
            except TooManyOneTimeKeys as cause:
                raise TooLarge(TOO_MANY_KEYS) from cause
            counts = self.counts.cached(requester.device_nid)
            return (counts or await self.counts.of(requester.device_nid)).one_time

    async def _store(
        self, requester: Requester, identity: DeviceKeysChange | None, uploaded: OneTimeKeysChange
    ) -> None:
        changes: tuple[Change, ...] = (uploaded,) if uploaded.keys or uploaded.fallback else ()
        if identity is not None:
            await self.device_lists.commit(
                requester.user_id, requester.user_nid, (identity, *changes), (requester.device_id,)
            )
        elif changes:
            await self.log.commit(*changes)

    async def _identity(self, requester: Requester, keys: JsonObject) -> DeviceKeysChange | None:
        """What to store of the device's identity keys; None if that is there already. Raises Forbidden."""
        stored, cross_signing = await self.identities.of((requester.device_nid, requester.user_nid))
        if stored is not None:
            known = orjson.loads(stored)
            if covered(known) == covered(keys):  # others' signatures on the same keys stay
                keys = merge_signatures(known, keys["signatures"])
        # "Servers … must ensure that device IDs will not collide with cross-signing public keys."
        elif any(requester.device_id in orjson.loads(key)["keys"].values() for key in cross_signing):
            raise Forbidden("The id of this device is one of your cross-signing keys: log in anew")
        encoded = encode_key(keys)
        if encoded == stored:
            return None
        return DeviceKeysChange(requester.device_nid, requester.device_id, encoded)


def _read_keys(body: JsonObject, field: str) -> Mapping[KeyName, bytes]:
    value = body.get(field)
    return {} if value is None else read_one_time_keys(value, field)
