"""Waking the requests that wait for news."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

WOKEN_AT_ONCE = 100  # users whose requests go on before others on the event loop get their turn
WAITERS_PER_USER_MAX = 100  # requests that one user may have waiting; the oldest is answered beyond that


class Notifier:
    """Who waits for news, by user id. Only those concerned are woken."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[asyncio.Future[None], None]] = {}
        self._closed = False

    def close(self) -> None:
        """Wake everyone, and let nobody wait any longer: the node is stopping."""
        self._closed = True
        self.wake(list(self._waiting))

    @property
    def closed(self) -> bool:
        """Whether nobody is to wait any longer."""
        return self._closed

    @property
    def waiting_count(self) -> int:
        """How many users have a request waiting."""
        return len(self._waiting)

    def register(self, user_id: str) -> asyncio.Future[None]:
        """A future that is done when there may be news for the user. Give it back to `unregister`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_result(None)
            return future
        waiters = self._waiting.setdefault(user_id, {})
        if len(waiters) >= WAITERS_PER_USER_MAX:
            oldest = next(iter(waiters))
            del waiters[oldest]
            _wake(oldest)
        waiters[future] = None
        return future

    def unregister(self, user_id: str, future: asyncio.Future[None]) -> None:
        """Forget a future that nobody waits for any longer."""
        waiters = self._waiting.get(user_id)
        if waiters is not None:
            waiters.pop(future, None)
            if not waiters:
                del self._waiting[user_id]

    def wake(self, users: Collection[str]) -> None:
        """Wake these users' waiting requests. Costs the smaller of their number and of those waiting."""
        waiting = self._waiting
        if len(users) <= len(waiting):
            concerned = [user for user in users if user in waiting]
        else:
            concerned = [user for user in waiting if user in users]
        self._wake_from(concerned, 0)

    def _wake_from(self, users: Sequence[str], start: int) -> None:
        end = start + WOKEN_AT_ONCE
        for user in users[start:end]:
            for future in self._waiting.pop(user, ()):
                _wake(future)
        if end < len(users):
            asyncio.get_running_loop().call_soon(self._wake_from, users, end)


async def until_woken(woken: asyncio.Future[None], timeout_s: float) -> None:
    """Wait for a registered future: until there may be news, or the time is over."""
    timer = asyncio.get_running_loop().call_later(timeout_s, _wake, woken)
    try:
        await woken
    finally:
        timer.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
