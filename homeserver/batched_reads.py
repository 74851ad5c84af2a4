"""Reading for many at once what each asks for alone: to reads what group commit is to writes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

KEYS_MAX = 8  # read at once: an answer must not take the event loop long
READS_MAX = 4  # under way; more than one where keys for a whole read wait


class BatchedReads(Generic[K, V]):
    """``await reads.of(key)``: while a read is under way, what is asked for gathers for the next.

    ``read`` has a value for each of the keys that it is given. Nobody gets what was read before they asked. A
    read that fails does for all who wait for it, and for nobody else.
    """

    def __init__(self, read: Callable[[Collection[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._read = read
        self._waiting: list[tuple[K, asyncio.Future[V]]] = []
        self._readers: set[asyncio.Task[None] | None] = set()

    async def of(self, key: K) -> V:
        """The value of a key. Raises what reading it does."""
        future: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, future))
        if not self._readers or (len(self._waiting) % KEYS_MAX == 0 and len(self._readers) < READS_MAX):
            # Not the task of whoever asks: a request that is given up takes nobody else's answer along.
            self._readers.add(asyncio.ensure_future(self._read_all()))
        return await future

    async def _read_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:KEYS_MAX], self._waiting[KEYS_MAX:]
                batch = [(key, future) for key, future in batch if not future.done()]
                if batch:
                    await self._read_batch(batch)
        finally:  # at once: who asks next needs another
            self._readers.discard(asyncio.current_task())

    async def _read_batch(self, batch: Collection[tuple[K, asyncio.Future[V]]]) -> None:
        try:
            values = await self._read(dict.fromkeys(key for key, _ in batch))
            found = [(future, values[key]) for key, future in batch]
        except BaseException as cause:
            for _, future in batch:
                if future.done():
                    continue
                if isinstance(cause, Exception):
                    future.set_exception(cause)
                else:
                    future.cancel()
            if not isinstance(cause, Exception):
                raise
            return
        for future, value in found:
            if not future.done():
                future.set_result(value)
