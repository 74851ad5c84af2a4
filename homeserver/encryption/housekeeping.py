"""Forgets what is kept for a while only."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from homeserver.encryption.key_claims import LocalClaims
from homeserver.encryption.to_device_sending import ToDeviceSending
from homeserver.storage.connection import Pool
from homeserver.storage.devices import sweep_orphans

INTERVAL_S = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """Claimed one-time keys and transaction ids of long ago, and what deleted devices left behind."""

    pool: Pool
    claims: LocalClaims
    sending: ToDeviceSending

    async def run(self) -> None:
        """Sweep now and every few hours; for the supervisor."""
        while True:
            await sweep_orphans(self.pool)
            await self.claims.sweep()
            await self.sending.sweep()
            await asyncio.sleep(INTERVAL_S)
