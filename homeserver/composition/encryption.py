"""Keys, device lists and messages between devices, as far as they are this node's own."""

from __future__ import annotations

from functools import partial

from homeserver.batched_reads import BatchedReads
from homeserver.composition.engine import Engine
from homeserver.encryption.cross_signing import CrossSigning
from homeserver.encryption.dehydrated_devices import DehydratedDevices
from homeserver.encryption.device_changes import DeviceChanges
from homeserver.encryption.device_lists import DeviceLists
from homeserver.encryption.device_news import DeviceNews
from homeserver.encryption.device_numbers import DeviceNumbers
from homeserver.encryption.housekeeping import Housekeeping
from homeserver.encryption.key_backup import KeyBackups
from homeserver.encryption.key_claims import LocalClaims
from homeserver.encryption.key_counts import KeyCounts
from homeserver.encryption.key_queries import LocalKeys
from homeserver.encryption.key_uploads import KeyUploads
from homeserver.encryption.to_device import ToDeviceQueues
from homeserver.encryption.to_device_sending import ToDeviceSending
from homeserver.storage.device_keys import fetch_identities


class Encryption:
    """What stands on the engine alone; keys of other servers' users are in `remote`."""

    def __init__(self, engine: Engine) -> None:
        pool, log, server_name, metrics = engine.pool, engine.log, engine.server_name, engine.metrics
        eighth = engine.config.limits.account_cache_bytes // 8
        self.numbers = numbers = DeviceNumbers(pool, cache_bytes=eighth)
        metrics.watch_cache("device_numbers", lambda: numbers.size_bytes)
        self.lists = DeviceLists(
            pool, log, engine.rooms, engine.user_rooms, engine.room_cache, numbers, server_name
        )
        self.changes = DeviceChanges(self.lists, engine.user_rooms)
        counts = KeyCounts(pool, log, cache_bytes=eighth)
        self.queues = ToDeviceQueues(pool, log)
        self.sending = ToDeviceSending(pool, log, numbers, server_name)
        self.news = DeviceNews(self.queues, self.lists, counts)
        self.local_claims = LocalClaims(pool, log, numbers)
        self.local_keys = local_keys = LocalKeys(pool, log, cache_bytes=2 * eighth)
        metrics.watch_cache("device_keys", lambda: local_keys.size_bytes)
        self.uploads = KeyUploads(BatchedReads(partial(fetch_identities, pool)), log, self.lists, counts)
        self.cross_signing = CrossSigning(pool, log, self.lists)
        self.dehydrated_devices = DehydratedDevices(pool, log, self.lists, numbers)
        self.backups = KeyBackups(pool)
        self.housekeeping = Housekeeping(pool, self.local_claims, self.sending, self.queues)
