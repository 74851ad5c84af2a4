"""Messages from device to device: sending, waiting, and being told once.

A message is a change of the commit log, so its position is its place in its device's queue. A sync is told
what came after its token; by coming back with the token that it got, a client says that it has everything
up to there, and that is deleted soon after. Source: Client-Server API, "Send-to-Device messaging".
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import structlog

from homeserver.batched_reads import BatchedReads
from homeserver.commit_log.log import CommitLog
from homeserver.encryption.to_device_sending import EVENT_BYTES_MAX
from homeserver.storage import to_device as sql
from homeserver.storage.connection import Pool
from homeserver.storage.to_device import NO_MESSAGES, FirstMessages, ToDeviceChange, WantedMessages

log = structlog.get_logger()

BATCH_MAX = 100  # "100 messages is recommended as a reasonable limit"
DEVICES_MAX = 50_000  # whose acknowledgement is remembered
FLUSH_INTERVAL_S = 1.0
# Of what waits for a device: some 150,000 messages, months of the keys that a busy user is sent. "Servers
# should store pending messages for local users until they are successfully delivered": of a device that is
# away for longer the oldest go. It begins with the newest when it comes back, and finds the keys of before in
# its owner's backup.
WAITING_BYTES_MAX = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ToDeviceBatch:
    """Messages for a device, in order, as members of a JSON list; and the position up to which there are no
    others.
    """

    events: bytes
    upto: int


@dataclass(slots=True)
class _Device:
    told: int = 0  # the position of the last message that was told
    acknowledged: int = 0


class ToDeviceQueues:
    """What waits for this node's devices."""

    def __init__(self, pool: Pool, log: CommitLog) -> None:
        self._pool = pool
        self._stored: BatchedReads[WantedMessages, FirstMessages] = BatchedReads(
            partial(sql.fetch_first_messages, pool)
        )
        self._log = log
        self._devices: OrderedDict[int, _Device] = OrderedDict()  # by number, the last to sync last
        self._to_delete: dict[int, int] = {}
        self._has_work = asyncio.Event()

    async def since(self, user_id: str, device_nid: int, after: int, upto: int, limit: int) -> ToDeviceBatch:
        """The first messages after a position, but those that were acknowledged before."""
        device = self._device(device_nid)
        after = max(after, device.acknowledged)
        if after >= upto:
            return ToDeviceBatch(b"", upto)
        first = self._first_of_tail(user_id, device_nid, after, upto, limit)
        if first is None:
            first = await self._stored.of((device_nid, after, upto, limit))
        count, last, events = first
        if not count:
            return ToDeviceBatch(b"", upto)
        device.told = max(device.told, last)
        return ToDeviceBatch(events, upto if count < limit else last)

    def acknowledge(self, device_nid: int, position: int) -> None:
        """The device has everything up to a position: what waited there is deleted."""
        known = device_nid in self._devices
        device = self._device(device_nid)
        if position <= device.acknowledged:
            return
        # Of a device that nothing was told since the start, what it was told before may still be there.
        if device.told > device.acknowledged or not known:
            self._to_delete[device_nid] = position
            self._has_work.set()
        device.acknowledged = position

    async def run(self) -> None:
        """Delete what was acknowledged, that of all devices together."""
        while True:
            await self._has_work.wait()
            await self.flush()
            await asyncio.sleep(FLUSH_INTERVAL_S)

    async def flush(self) -> None:
        """Delete now."""
        self._has_work.clear()
        delivered, self._to_delete = self._to_delete, {}
        if not delivered:
            return
        try:
            await sql.delete_delivered(self._pool, delivered)
        except BaseException:
            self._to_delete = _later(delivered, self._to_delete)
            raise

    async def sweep(self) -> None:
        """Bound what waits for devices that do not come."""
        count = await sql.shorten_queues(self._pool, WAITING_BYTES_MAX, event_bytes_max=EVENT_BYTES_MAX)
        if count:
            log.warning("messages for devices that do not come are dropped", messages=count)

    def _first_of_tail(
        self, user_id: str, device_nid: int, after: int, upto: int, limit: int
    ) -> FirstMessages | None:
        """As they are stored, from memory; None if they are not all there."""
        tail = self._log.tail
        if not tail.covers(after):
            return None
        messages = [
            change
            for change in tail.of_user(user_id, after)
            if isinstance(change, ToDeviceChange)
            and change.device_nid == device_nid
            and change.position <= upto
        ][:limit]
        if not messages:
            return NO_MESSAGES
        return len(messages), messages[-1].position, b",".join([change.event for change in messages])

    def _device(self, device_nid: int) -> _Device:
        device = self._devices.get(device_nid)
        if device is None:
            device = self._devices[device_nid] = _Device()
            if len(self._devices) > DEVICES_MAX:
                self._devices.popitem(last=False)
        else:
            self._devices.move_to_end(device_nid)
        return device


def _later(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    """Of each device the later position."""
    return {nid: max(one.get(nid, 0), other.get(nid, 0)) for nid in (*one, *other)}
