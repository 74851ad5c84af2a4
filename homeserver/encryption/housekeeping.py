"""Forgets what is kept for a while only."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from homeserver.encryption.key_claims import LocalClaims
from homeserver.encryption.to_device import ToDeviceQueues
from homeserver.encryption.to_device_sending import ToDeviceSending
from homeserver.storage.connection import Pool
from homeserver.storage.devices import sweep_orphans

INTERVAL_S = 3600.0


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """Claimed one-time keys and transaction ids of long ago, what deleted devices left, and what is too
    much for devices that do not come.
    """

    pool: Pool
    claims: LocalClaims
    sending: ToDeviceSending
    queues: ToDeviceQueues

    async def run(self) -> None:
        """Sweep now and every hour; for the supervisor."""
        while True:
            await sweep_orphans(self.pool)
            await self.claims.sweep()
            await self.sending.sweep()
            await self.queues.sweep()
            await asyncio.sleep(INTERVAL_S)
