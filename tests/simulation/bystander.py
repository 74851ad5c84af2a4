"""Looks at PostgreSQL from outside a simulation, in a thread and in real time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Coroutine
from threading import Thread
from typing import Any

import asyncpg

LOCKED = "SELECT pid FROM pg_stat_activity WHERE pid = ANY($1) AND wait_event_type = 'Lock'"
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1"
POLL_S = 0.0005
GONE_S = 30.0


class Bystander:
    """All calls block until they are answered."""

    def __init__(self, dsn: str) -> None:
        self._loop = asyncio.new_event_loop()
        Thread(target=self._loop.run_forever, name="bystander", daemon=True).start()
        self._connection = self._do(asyncpg.connect(dsn))

    def locked(self, pids: Collection[int]) -> set[int]:
        """Which of some sessions wait for a lock that another one holds."""
        rows = self._do(self._connection.fetch(LOCKED, list(pids)))
        return {row["pid"] for row in rows}

    def wait_until_gone(self, database: str) -> None:
        """Return when a database has no session, so that whatever the last ones did is done."""
        deadline = time.monotonic() + GONE_S
        while self._do(self._connection.fetchval(SESSIONS, database)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"sessions of {database} do not end")
            time.sleep(POLL_S)

    def _do(self, job: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(job, self._loop).result()
