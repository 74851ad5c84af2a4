"""Whether the node can do its work, for load balancers."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from homeserver.errors import Unavailable
from homeserver.storage.connection import Pool

TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Health:
    """Asks the database, which is what can fail beside the process itself."""

    pool: Pool

    async def check(self) -> None:
        """Raise Unavailable if the database does not answer soon."""
        try:
            await self.pool.fetchval("SELECT 1", timeout=TIMEOUT_S)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as cause:
            raise Unavailable("The database does not answer") from cause
