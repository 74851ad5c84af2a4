"""What was sent with which transaction id: sending again gives the same event.

Source: Client-Server API, "Transaction identifiers".
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import asyncpg

from homeserver.errors import Unavailable
from homeserver.rooms.event import Event
from homeserver.storage import events as event_sql
from homeserver.storage.connection import Pool

TRANSACTIONS_MAX = 10_000  # remembered; older ones are found in storage
Transaction = tuple[int, str, int, str]  # device, transaction id, room, event type


class SentTransactions:
    """The newest in memory, all of them in the database, which refuses an event that was sent before."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: OrderedDict[Transaction, asyncio.Future[Event] | int] = OrderedDict()

    async def once(self, transaction: Transaction, send: Callable[[], Awaitable[Event]]) -> Event:
        """The event of a transaction: `send` is called if it was not sent yet. Raises what that does."""
        known = self._known.get(transaction)
        if isinstance(known, int):
            [stored] = await event_sql.by_nids(self._pool, [known])
            return Event.of_row(stored)
        if known is not None:
            return await asyncio.shield(known)
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._known[transaction] = future
        try:
            event = await send()
        except asyncpg.UniqueViolationError as cause:
            # sent before this node last started, or through another process
            row = await event_sql.by_transaction(self._pool, *transaction)
            if row is None:
                refusal = Unavailable("The event could not be stored: try again")
                self._forget(transaction, future, refusal)
                raise refusal from cause
            event = Event.of_row(row)
        except BaseException as cause:
            self._forget(transaction, future, cause)
            raise
        future.set_result(event)
        self._known[transaction] = event.nid  # not the event, which would stay in memory
        if len(self._known) > TRANSACTIONS_MAX:
            self._known.popitem(last=False)
        return event

    def _forget(self, transaction: Transaction, future: asyncio.Future[Event], cause: BaseException) -> None:
        if self._known.get(transaction) is future:
            del self._known[transaction]
        if isinstance(cause, asyncio.CancelledError):
            future.cancel()
        else:
            future.set_exception(cause)
            future.exception()  # those who wait for it get it; nobody has to
