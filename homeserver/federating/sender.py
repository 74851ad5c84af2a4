"""Sends other servers what is for them: follows the log, one transaction at a time to each.

A destination is in memory while something waits for it. It has its turn when one of a bounded number of slots
is free; those that failed last have slots of their own, so that servers that are gone hold up nobody.
Source: Server-Server API, "Transactions".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from random import Random

import structlog

from federation.backoff import DELAY_MAX_MS
from federation.canonical import JsonObject
from federation.errors import FederationError
from federation.transactions import SEND_PATH
from federation.transport.client import FederationClient, path_of
from federation.transport.errors import NotPermitted, Refused
from homeserver.clock import Clock, now_ms
from homeserver.commit_log.change import Change
from homeserver.commit_log.log import CommitLog
from homeserver.commit_log.outbound import OutboundEdu
from homeserver.federating.destination import WAITING_MAX, Activity, Destination, Transaction
from homeserver.federating.ephemeral_queue import EphemeralQueue
from homeserver.rooms.changes import RoomEventChange
from homeserver.storage import outbox as sql
from homeserver.storage.connection import Pool
from homeserver.storage.outbox import Progress, WaitingRow
from homeserver.supervisor import Supervisor, TooManyJobs

log = structlog.get_logger()

TIMEOUT_S = 60.0  # of a transaction: the other side may have to fetch what is missing
ANSWER_BYTES_MAX = 1024 * 1024
SLOTS = 128  # transactions at once, to servers that answered last
RETRY_SLOTS = 32  # and to those that did not
OWN_FAULT_S = 5.0  # until something is tried again that failed here
RETRY_START_S = 1.0  # of a job that the supervisor had no room for
TURN = 20  # transactions to one server before others get the slot
KEPT_BYTES_MAX = 32 * 1024 * 1024  # of transactions to be repeated
ERRORS_LOGGED = 3  # of one transaction's refused events
ERROR_TEXT_MAX = 200
PER_SERVER_S = 0.02  # so that what may be missed makes 50 transactions a second and room at most,
PATIENCE_MAX_S = 5.0  # however many servers there are to be told


@dataclass(frozen=True, slots=True)
class SenderMetrics:
    """What the node's metrics show of sending."""

    count_transaction: Callable[[str], None]  # its result: ok, or the kind of failure
    count_refused_events: Callable[[int], None]


class Sender:
    """All destinations. `load` before anything is sent; what runs beside it is in `OutboxKeeping`."""

    def __init__(
        self,
        pool: Pool,
        commit_log: CommitLog,
        client: FederationClient,
        supervisor: Supervisor,
        server_name: str,
        metrics: SenderMetrics,
        *,
        clock: Clock = now_ms,
    ) -> None:
        self._pool = pool
        self._client = client
        self._supervisor = supervisor
        self._server_name = server_name
        self._metrics = metrics
        self._clock = clock
        self._random = Random()
        self._destinations: dict[str, Destination] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._ready: deque[Destination] = deque()
        self._ready_again: deque[Destination] = deque()  # those that failed last
        self._sending = 0
        self._sending_again = 0
        self._kept: dict[str, int] = {}  # bytes of the transactions to be repeated
        self._kept_bytes = 0
        self._starts_again = False
        self._closed = False
        self._position = commit_log.position  # up to which changes have come here
        commit_log.subscribe(self._follow)

    async def load(self) -> None:
        """Go on where the process before ended."""
        now = self._clock()
        for row in await sql.unfinished(self._pool):
            destination = self._destinations[row.server_name] = Destination.resumed(row)
            if destination.is_due(now):
                self._make_ready(destination)
            else:
                self._wait(destination)

    def close(self) -> None:
        """Begin no more transactions: the node is stopping."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    # -- what is to be sent --

    def tell(self, server_names: Collection[str], put: Callable[[EphemeralQueue], None]) -> None:
        """Have ``put`` add what may be missed to the queues of servers; those that do not answer miss it."""
        patience_s = min(PER_SERVER_S * len(server_names), PATIENCE_MAX_S)
        loop = asyncio.get_running_loop()
        for server_name in server_names:
            destination = self._get(server_name)
            if destination.activity is Activity.BACKING_OFF:
                continue
            if not len(destination.ephemeral):
                loop.call_later(patience_s, self._wake, destination)
            put(destination.ephemeral)

    def _follow(self, changes: Sequence[Change]) -> None:
        now = 0
        for change in changes:
            if isinstance(change, RoomEventChange):
                if not change.destinations:
                    continue
                event_id, json = change.event.event_id, change.event.json
            elif isinstance(change, OutboundEdu):
                event_id, json = None, change.json
            else:
                continue
            now = now or self._clock()
            item = WaitingRow(change.position, now, event_id, json)
            for server_name in change.destinations:
                destination = self._destinations.get(server_name)
                if destination is None:  # it has everything before
                    destination = Destination(server_name, change.position - 1)
                    self._destinations[server_name] = destination
                destination.add(item)
                self._wake(destination)
        self._position = changes[-1].position

    def _get(self, server_name: str) -> Destination:
        destination = self._destinations.get(server_name)
        if destination is None:  # nothing waits for it
            destination = self._destinations[server_name] = Destination(server_name, self._position)
        return destination

    # -- what is known of destinations --

    def take_unstored(self) -> list[Progress]:
        """What the database does not know yet; the caller stores it. Forgets those that nothing waits for."""
        found: list[Progress] = []
        for destination in list(self._destinations.values()):
            if not destination.is_stored:
                found.append(destination.progress())
                destination.is_stored = True
            elif destination.activity is Activity.IDLE and not destination.has_work:
                del self._destinations[destination.server_name]
        return found

    def not_stored(self, progress: Iterable[Progress]) -> None:
        """What was taken could not be stored."""
        for each in progress:
            self._get(each.server_name).is_stored = False

    @property
    def backing_off(self) -> list[str]:
        """Servers that are left alone for a while."""
        return [d.server_name for d in self._destinations.values() if d.activity is Activity.BACKING_OFF]

    def failures(self, server_name: str) -> int:
        """How often a server has failed in a row."""
        destination = self._destinations.get(server_name)
        return destination.failures if destination is not None else 0

    def retry_at_ms(self, server_name: str) -> int | None:
        """When a server that is left alone is tried again."""
        destination = self._destinations.get(server_name)
        backoff = destination.backoff if destination is not None else None
        return backoff.retry_at_ms if backoff is not None else None

    def count(self, activity: Activity) -> int:
        """How many destinations in memory are in it."""
        return sum(destination.activity is activity for destination in self._destinations.values())

    @property
    def waiting_count(self) -> int:
        """How many events and EDUs wait in memory, of all destinations; the outbox may hold more."""
        return sum(len(destination.waiting) for destination in self._destinations.values())

    @property
    def oldest_waiting_s(self) -> float:
        """For how long the oldest of what waits has waited, of destinations that answer or not."""
        found = [at for each in self._destinations.values() if (at := each.oldest_ms()) is not None]
        return max(0, self._clock() - min(found)) / 1000 if found else 0.0

    # -- whose turn it is --

    def _wake(self, destination: Destination) -> None:
        if destination.activity is Activity.IDLE and destination.has_work:
            self._make_ready(destination)

    def _make_ready(self, destination: Destination) -> None:
        destination.activity = Activity.READY
        (self._ready_again if destination.failures else self._ready).append(destination)
        self._fill_slots()

    def _wait(self, destination: Destination, in_s: float = 0.0) -> None:
        """Until the next attempt is due, or longer."""
        destination.activity = Activity.BACKING_OFF
        if self._closed:
            return
        timer = self._timers.pop(destination.server_name, None)
        if timer is not None:
            timer.cancel()
        if destination.backoff is not None:
            in_s = max(in_s, (destination.backoff.retry_at_ms - self._clock()) / 1000)
        loop = asyncio.get_running_loop()
        self._timers[destination.server_name] = loop.call_later(in_s, self._retry, destination)

    def _retry(self, destination: Destination) -> None:
        self._timers.pop(destination.server_name, None)
        if destination.activity is Activity.BACKING_OFF:
            self._make_ready(destination)

    def heard_from(self, server_name: str) -> None:
        """A server has proven to be there: one that is left alone is tried again. Called at each request."""
        self._client.backoffs.succeeded(server_name)
        destination = self._destinations.get(server_name)
        if destination is not None and destination.activity is Activity.BACKING_OFF:
            destination.heard_from(self._clock())
            self._wait(destination)

    def retry(self, server_names: Iterable[str]) -> None:
        """Try servers at once: an administrator says so."""
        for server_name in server_names:
            destination = self._destinations.get(server_name)
            if destination is not None and destination.activity is Activity.BACKING_OFF:
                destination.is_stored = False
                timer = self._timers.get(server_name)
                if timer is not None:
                    timer.cancel()
                self._retry(destination)

    def _fill_slots(self) -> None:
        while self._ready and self._sending < SLOTS and self._start(self._ready):
            self._sending += 1
        while self._ready_again and self._sending_again < RETRY_SLOTS and self._start(self._ready_again):
            self._sending_again += 1

    def _start(self, ready: deque[Destination]) -> bool:
        if self._closed:
            return False
        destination = ready[0]
        try:
            self._supervisor.run_once(
                "federation sender", self._serve(destination, bool(destination.failures))
            )
        except TooManyJobs:
            if not self._starts_again:
                self._starts_again = True
                asyncio.get_running_loop().call_later(RETRY_START_S, self._start_again)
            return False
        ready.popleft()
        destination.activity = Activity.SENDING
        return True

    def _start_again(self) -> None:
        self._starts_again = False
        self._fill_slots()

    async def _serve(self, destination: Destination, again: bool) -> None:
        """Send what there is, but let others have their turn."""
        failed, wait_s = False, 0.0
        try:
            for _ in range(TURN):
                transaction = await self._next(destination)
                if transaction is None:
                    break
                failed = not await self._transmit(destination, transaction)
                if failed:
                    break
        except Exception as cause:  # such as our own database, which is away: not the other server's fault
            failed, wait_s = True, OWN_FAULT_S
            log.warning("sending failed", server=destination.server_name, cause=repr(cause))
        finally:
            if again:
                self._sending_again -= 1
            else:
                self._sending -= 1
            destination.activity = Activity.IDLE
            if failed:
                self._wait(destination, wait_s)
            else:
                self._wake(destination)
            self._fill_slots()

    # -- transactions --

    async def _next(self, destination: Destination) -> Transaction | None:
        if destination.unanswered is None and destination.is_behind and not destination.waiting:
            await self._refill(destination)
        return destination.next_transaction(self._server_name, self._clock())

    async def _refill(self, destination: Destination) -> None:
        destination.start_refill()
        try:
            items = await sql.after(
                self._pool,
                destination.server_name,
                destination.cursor,
                self._position,
                WAITING_MAX,
            )
        except BaseException:
            destination.leave_to_outbox()
            raise
        destination.refill(items, WAITING_MAX)

    async def _transmit(self, destination: Destination, transaction: Transaction) -> bool:
        """Send one transaction; whether it arrived."""
        server_name = destination.server_name
        try:
            answer = await self._client.request(
                server_name,
                "PUT",
                path_of(SEND_PATH, transaction.txn_id),
                body=transaction.body,
                despite_backoff=True,  # there is one here, which outlives the process
                timeout_s=TIMEOUT_S,
                response_bytes_max=ANSWER_BYTES_MAX,
            )
        except FederationError as failure:
            self._metrics.count_transaction(type(failure).__name__)
            if not destination.failures:
                log.info("server does not take what is for it", server=server_name, cause=str(failure))
            self._fail(destination, _least_delay_ms(failure))
            return False
        self._metrics.count_transaction("ok")
        self._look_at(answer, destination, transaction)
        if destination.failures:
            log.info("server is there again", server=server_name, failures=destination.failures)
            self._kept_bytes -= self._kept.pop(server_name, 0)
        destination.answered(self._clock())
        return True

    def _fail(self, destination: Destination, least_ms: int = 0) -> None:
        destination.failed(self._clock(), self._random.random(), least_ms)
        transaction = destination.unanswered
        if transaction is None or destination.server_name in self._kept:
            return
        if self._kept_bytes + len(transaction.body) > KEPT_BYTES_MAX:
            destination.forget_body()
            return
        self._kept[destination.server_name] = len(transaction.body)
        self._kept_bytes += len(transaction.body)

    def _look_at(self, answer: JsonObject, destination: Destination, transaction: Transaction) -> None:
        """Log and count the events that the other server did not take. They are not sent again."""
        results = answer.get("pdus")
        if not isinstance(results, dict):
            return
        refused = 0
        for event_id in transaction.event_ids:
            result = results.get(event_id)
            if isinstance(result, dict) and "error" in result:
                refused += 1
                if refused <= ERRORS_LOGGED:
                    log.info(
                        "event not taken by a server",
                        server=destination.server_name,
                        event_id=event_id,
                        error=_printable(result["error"]),
                    )
        if refused:
            self._metrics.count_refused_events(refused)


def _printable(text: object) -> str:
    """The other server's words, fit for a log."""
    return "".join(character for character in str(text)[:ERROR_TEXT_MAX] if character.isprintable())


def _least_delay_ms(failure: FederationError) -> int:
    if isinstance(failure, NotPermitted):
        return DELAY_MAX_MS  # until an administrator permits it
    if isinstance(failure, Refused):
        return failure.retry_after_ms or 0
    return 0
