"""Other servers tell of their users' devices and keys.

An update of a device is taken into the list if it follows what the list holds, and the users here who share
a room are told. If it does not follow, something was missed, and the list is asked for: they are told when it
is here (`RemoteLists`), since whoever asks earlier would only wait for it.
Source: Server-Server API, "Device Management", "End-to-End Encryption".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from federation.canonical import JsonObject
from homeserver.commit_log.log import CommitLog
from homeserver.encryption.device_lists import DeviceLists
from homeserver.encryption.to_device_sending import is_user_id
from homeserver.federating.remote_keys import (
    DEVICE_ID_LENGTH_MAX,
    checked_cross_signing_key,
    checked_device,
)
from homeserver.federating.remote_lists import DEVICES_MAX, RemoteLists, is_stream_id
from homeserver.keyed_locks import KeyedLocks
from homeserver.storage.connection import Pool
from homeserver.storage.cross_signing import MASTER, SELF_SIGNING, CrossSigningChange
from homeserver.storage.remote_devices import (
    ListMoved,
    RemoteDeviceChange,
    RemoteList,
    RemoteListTouched,
    count_remote_devices,
    fetch_list,
)

PREVIOUS_MAX = 100  # updates that one names as before it
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Update:
    """An ``m.device_list_update`` of the right form; without `keys` the device is gone, or has none.

    One with keys that nobody can read is not `readable`: it says that there is something new, not what.
    """

    user_id: str
    device_id: str
    stream_id: int
    previous: Sequence[int]
    keys: bytes | None
    readable: bool


@dataclass(frozen=True, slots=True)
class DeviceListEdus:
    """Takes updates in, one of a user at a time."""

    pool: Pool
    log: CommitLog
    device_lists: DeviceLists
    remote_lists: RemoteLists
    locks: KeyedLocks[str] = field(default_factory=KeyedLocks)

    async def handle_update(self, origin: str, content: JsonObject) -> None:
        """``m.device_list_update``; durable when this returns."""
        update = _read_update(origin, content)
        if update is None:
            return
        async with self.locks.hold(update.user_id):
            for _ in range(ATTEMPTS):
                known = await fetch_list(self.pool, update.user_id)
                if known is None or not known.is_shared:
                    return  # whoever meets the user later asks for the list
                if _is_known(known, update):
                    return
                try:
                    await self._take(known, update)
                    return
                except ListMoved:
                    continue

    async def _take(self, known: RemoteList, update: Update) -> None:
        if _follows(known, update) and known.stream_id is not None and await self._has_place(known, update):
            change = RemoteDeviceChange(
                known.user_nid, known.stream_id, update.stream_id, update.device_id, update.keys
            )
            await self.device_lists.commit(update.user_id, known.user_nid, (change,))
        else:
            await self._ask_for_list(known, update.user_id)

    async def _ask_for_list(self, known: RemoteList, user_id: str) -> None:
        """Have the list asked for, again if an answer is on its way, which is older."""
        if known.stream_id is None:
            await self.remote_lists.want((user_id,))
        else:
            await self.log.commit(RemoteListTouched(known.user_nid, makes_stale=True))
            self.remote_lists.wake.set()

    async def _has_place(self, known: RemoteList, update: Update) -> bool:
        return update.keys is None or await count_remote_devices(self.pool, known.user_nid) < DEVICES_MAX

    async def handle_signing_keys(self, origin: str, content: JsonObject) -> None:
        """``m.signing_key_update``; durable when this returns."""
        user_id = content.get("user_id")
        if not isinstance(user_id, str) or not _is_of(origin, user_id):
            return
        keys: dict[str, bytes | None] = {}
        for usage in (MASTER, SELF_SIGNING):
            key = checked_cross_signing_key(content.get(f"{usage}_key"), user_id, usage)
            if key is not None:
                keys[usage] = key
        if not keys:
            return
        async with self.locks.hold(user_id):
            known = await fetch_list(self.pool, user_id)
            if known is None or not known.is_shared:
                return
            if known.stream_id is None or known.is_stale:
                # A list that is being asked for may have come by the time that this is written.
                await self._ask_for_list(known, user_id)
            else:
                await self.device_lists.commit(
                    user_id,
                    known.user_nid,
                    (
                        RemoteListTouched(known.user_nid, makes_stale=False),  # an answer on its way is older
                        CrossSigningChange(known.user_nid, keys),
                    ),
                )


def _read_update(origin: str, content: JsonObject) -> Update | None:
    user_id, device_id, stream_id = (content.get(name) for name in ("user_id", "device_id", "stream_id"))
    if not isinstance(user_id, str) or not _is_of(origin, user_id):
        return None
    if (
        not isinstance(device_id, str)
        or not 0 < len(device_id) <= DEVICE_ID_LENGTH_MAX
        or "\x00" in device_id
    ):
        return None
    previous = content.get("prev_id")
    previous = [] if previous is None else previous
    if not is_stream_id(stream_id) or not isinstance(previous, list) or len(previous) > PREVIOUS_MAX:
        return None
    if not all(is_stream_id(one) for one in previous):
        return None
    keys, has_keys = None, content.get("deleted") is not True and content.get("keys") is not None
    if has_keys:
        name = content.get("device_display_name")
        keys = checked_device(content["keys"], user_id, device_id, name)
    return Update(user_id, device_id, stream_id, previous, keys, readable=not has_keys or keys is not None)


def _is_of(origin: str, user_id: str) -> bool:
    return is_user_id(user_id) and user_id.partition(":")[2] == origin


def _is_known(known: RemoteList, update: Update) -> bool:
    """Whether the list holds the update already. A server may have sent it twice, or before it was asked."""
    if known.stream_id is None or known.snapshot_id is None or known.is_stale:
        return False
    return update.stream_id == known.stream_id or update.stream_id <= known.snapshot_id


def _follows(known: RemoteList, update: Update) -> bool:
    """Whether nothing is missing between the list and the update.

    "If the receiving server does not recognise any of the prev_ids, it means an EDU has been lost and the
    server should query a snapshot of the device list".
    """
    if known.stream_id is None or known.snapshot_id is None or known.is_stale:
        return False
    if not update.previous or not update.readable:
        return False
    snapshot_id = known.snapshot_id
    return all(one == known.stream_id or one <= snapshot_id for one in update.previous)
