"""The commit log as the rest of the node sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from homeserver.commit_log.change import Chain, Change, is_visible
from homeserver.commit_log.committer import Committer
from homeserver.commit_log.live_tail import LiveTail
from homeserver.commit_log.notifier import Notifier

Subscriber = Callable[[Sequence[Change]], None]


class CommitLog:
    """Takes changes in, and tells of them once they are durable."""

    def __init__(self, committer: Committer, tail: LiveTail, notifier: Notifier) -> None:
        self._committer = committer
        self.tail = tail
        self.notifier = notifier
        self._subscribers: list[Subscriber] = []
        committer.on_durable = self._durable

    @property
    def position(self) -> int:
        """The newest position that readers may see."""
        return self._committer.position

    def subscribe(self, subscriber: Subscriber) -> None:
        """Have `subscriber` called with the changes of each batch when it is durable, before anyone is woken.

        It runs on the event loop: it must be quick, and must not raise.
        """
        self._subscribers.append(subscriber)

    def submit(
        self, changes: Sequence[Change], chain: Chain | None = None, weight: int | None = None
    ) -> asyncio.Future[None]:
        """Queue changes, all of which are written or none. The future is done when they are durable.

        ``weight`` is how many they count as, where each writes much. Raises Unavailable when the queue is
        full or the node is stopping.
        """
        return self._committer.submit(changes, chain, weight)

    async def commit(self, *changes: Change) -> int:
        """Write changes, all or none; the position of the last when they are durable."""
        await self._committer.submit(changes, None)
        return changes[-1].position

    def _durable(self, changes: Sequence[Change]) -> None:
        visible = [change for change in changes if is_visible(change)]
        self.tail.append(visible)
        for subscriber in self._subscribers:
            subscriber(changes)
        if self.notifier.waiting_count:
            # A room's events of one batch share its set of members.
            audiences: dict[int, Collection[str]] = {
                id(a): a for a in (change.audience for change in visible)
            }
            asyncio.get_running_loop().call_soon(self._wake_soon, list(audiences.values()))

    def _wake_soon(self, audiences: Sequence[Collection[str]]) -> None:
        # After those whose changes these are: clients know their own event by the answer to its sending,
        # and some trip over a sync that brings it before.
        asyncio.get_running_loop().call_soon(self._wake, audiences)

    def _wake(self, audiences: Sequence[Collection[str]]) -> None:
        for audience in audiences:
            self.notifier.wake(audience)
