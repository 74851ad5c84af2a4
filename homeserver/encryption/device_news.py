"""What a device has missed beside rooms: for `/sync` and sliding sync, which ask nothing else here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from homeserver.encryption.device_lists import DeviceListNews, DeviceLists
from homeserver.encryption.key_counts import DeviceKeyCounts, KeyCounts
from homeserver.encryption.to_device import BATCH_MAX, ToDeviceBatch, ToDeviceQueues
from homeserver.requester import Requester
from homeserver.rooms.user_rooms import UserRoom


@dataclass(frozen=True, slots=True)
class DeviceNews:
    """To-device messages, device lists, and counts of keys, of the requester's device.

    Positions are those of the commit log.
    """

    queues: ToDeviceQueues
    lists: DeviceLists
    counts: KeyCounts

    async def to_device_since(
        self, requester: Requester, since: int, upto: int, limit: int = BATCH_MAX
    ) -> ToDeviceBatch:
        """Messages after ``since``, and up to where these are all: ``upto``, or less if more wait.

        Telling them deletes nothing: see `acknowledge`.
        """
        return await self.queues.since(
            requester.user_id, requester.device_nid, since, upto, min(limit, BATCH_MAX)
        )

    def acknowledge(self, requester: Requester, position: int) -> None:
        """The device came back with a token that covers all messages up to a position: they are deleted."""
        self.queues.acknowledge(requester.device_nid, position)

    async def device_lists(
        self, requester: Requester, since: int, memberships: Mapping[int, UserRoom]
    ) -> DeviceListNews:
        """`device_lists` after ``since``; free where nothing happened. ``memberships``: the user's rooms."""
        return await self.lists.since(requester, since, memberships)

    def cached_key_counts(self, device_nid: int) -> DeviceKeyCounts | None:
        """The counts if they are in memory, as they are for a device that has synced before."""
        return self.counts.cached(device_nid)

    async def key_counts(self, device_nid: int) -> DeviceKeyCounts:
        """One-time key counts and unused fallback keys."""
        return await self.counts.of(device_nid)

    def keys_were_claimed(self, requester: Requester, since: int) -> bool:
        """Whether keys of the device were handed out after ``since``: it may have to upload others."""
        return self.counts.were_claimed(requester.device_nid, since)
