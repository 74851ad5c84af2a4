"""An event loop whose time is simulated: it passes only when nobody has anything to do.

What is done meanwhile takes none of it, however slow the machine is. The one thing that is waited for in real
time is the database, whose part is in `database_turns`.
"""

from __future__ import annotations

import asyncio
import heapq
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import Context
from random import Random
from typing import Any

from tests.simulation.bystander import Bystander
from tests.simulation.database_turns import Connection, Turns

ROUNDS_MAX = 100_000  # of work that is done without any time passing


class NothingWillHappen(Exception):
    """Everybody waits, and there is nothing to wait for; or somebody works for ever."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """`now_ns` is the time since 1970, in simulated nanoseconds."""

    def __init__(self, random: Random, start_ms: int, bystander: Bystander) -> None:
        self.turns = Turns(self, random, bystander)
        super().__init__(_Selector(self))
        self._start_ns = start_ms * 1_000_000
        self._passed_s = 0.0
        self._timers_count = 0

    def time(self) -> float:
        return self._passed_s

    def now_ns(self) -> int:
        return self._start_ns + int(self._passed_s * 1e9)

    def pass_time(self, seconds: float) -> None:
        self._passed_s += seconds

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = _Timer(when, callback, args, self, context)
        timer.number = self._timers_count = self._timers_count + 1
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """At once: threads have no order that could be repeated."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as cause:
            future.set_exception(cause)
        return future

    async def create_unix_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], path: str | None = None, **options: Any
    ) -> tuple[Any, asyncio.Protocol]:
        """A connection to the database, which takes its turn with the others."""
        connection = Connection(self.turns, protocol_factory())
        with self.turns.connecting():
            await super().create_unix_connection(lambda: connection, path, **options)
        return connection, connection.inner


class _Timer(asyncio.TimerHandle):
    """Of two that are due at once, the one that was set first comes first."""

    number: int

    def __lt__(self, other: Any) -> bool:
        return bool((self.when(), self.number) < (other.when(), other.number))


class _Selector(selectors.BaseSelector):
    """Waits for the database in real time, for everything else in simulated time."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()
        self._rounds = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == 0:  # first all is done that can be done
            self._rounds += 1
            if self._rounds > ROUNDS_MAX:
                raise NothingWillHappen("time stands still: work for ever")
            return []
        events = self._loop.turns.take(self._real)
        if events is not None:
            return events
        if timeout is None:
            raise NothingWillHappen("no timer is set")
        self._rounds = 0
        self._loop.pass_time(timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Any:
        return self._real.get_map()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.get_key(fileobj)
