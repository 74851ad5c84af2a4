"""Forgets what is kept for a while only."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from homeserver.encryption.key_claims import LocalClaims
from homeserver.encryption.to_device_sending import ToDeviceSending

INTERVAL_S = 3600.0


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """Claimed one-time keys and transaction ids of long ago."""

    claims: LocalClaims
    sending: ToDeviceSending

    async def run(self) -> None:
        """Sweep now and every hour; for the supervisor."""
        while True:
            await self.claims.sweep()
            await self.sending.sweep()
            await asyncio.sleep(INTERVAL_S)
