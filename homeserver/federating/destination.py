"""One other server: what waits for it, what was sent to it and not answered yet, and when to try again.

No I/O and no clock: times are arguments. The outbox in the database has all that is here and lasts; what
does not fit here is read from there when its turn comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from secrets import token_hex

from federation.backoff import Backoff, after_failure
from federation.transactions import EDUS_MAX, PDUS_MAX, encode_transaction, transaction_id
from homeserver.federating.ephemeral_queue import EphemeralQueue
from homeserver.storage.outbox import DestinationRow, Progress, WaitingRow

WAITING_MAX = 4 * PDUS_MAX  # in memory; the rest waits in the outbox
TRANSACTION_BYTES = 1024 * 1024  # after which nothing more is added to one; EDUs have no limit of their own
EARLY_RETRY_MS = 2_000  # after a failure, however often the other side is heard from meanwhile


@dataclass(frozen=True, slots=True)
class Transaction:
    """What is sent at once. ``upto`` is the position of the last thing in it that lasts, or 0."""

    txn_id: str
    body: bytes
    upto: int
    event_ids: Sequence[str]
    edus_count: int
    since_ms: int


class Activity(Enum):
    """What a destination is doing. Only one transaction is ever in flight."""

    IDLE = "idle"
    READY = "ready"  # something waits, and it has its turn soon
    SENDING = "sending"
    BACKING_OFF = "backing_off"


@dataclass(slots=True, eq=False)
class Destination:
    """``cursor``: it has everything up to there. ``is_behind``: more waits in the outbox than is here.

    ``is_stored``: what the database knows of it is right.
    """

    server_name: str
    cursor: int = 0
    backoff: Backoff | None = None
    last_success_ms: int = 0
    is_behind: bool = False
    is_stored: bool = True
    activity: Activity = Activity.IDLE
    waiting: deque[WaitingRow] = field(default_factory=deque)
    ephemeral: EphemeralQueue = field(default_factory=EphemeralQueue)
    unanswered: Transaction | None = None
    failed_ms: int = 0
    waiting_since_ms: int = 0
    """Of what waited when it failed last; 0 if nothing did."""
    _repeat_upto: int = 0

    @classmethod
    def resumed(cls, row: DestinationRow) -> Destination:
        """As it was when the process before ended."""
        return cls(
            row.server_name,
            row.cursor,
            Backoff(row.failures, row.retry_at_ms) if row.failures else None,
            row.last_success_ms,
            is_behind=row.events + row.edus > 0,
            waiting_since_ms=row.oldest_ms,
        )

    def progress(self) -> Progress:
        """What is to be stored."""
        retry_at_ms = self.backoff.retry_at_ms if self.backoff is not None else 0
        return Progress(self.server_name, self.cursor, self.failures, retry_at_ms, self.last_success_ms)

    def is_due(self, now_ms: int) -> bool:
        """Whether the next attempt may be made."""
        return self.backoff is None or self.backoff.retry_at_ms <= now_ms

    def add(self, item: WaitingRow) -> None:
        """Something new, after all that waits."""
        if self.is_behind:
            return
        if len(self.waiting) >= WAITING_MAX:
            self.is_behind = True
            return
        self.waiting.append(item)

    @property
    def has_work(self) -> bool:
        """Whether there is anything to send."""
        return bool(self.unanswered is not None or self.waiting or self.is_behind or len(self.ephemeral))

    @property
    def failures(self) -> int:
        """In a row."""
        return self.backoff.failures if self.backoff is not None else 0

    def oldest_ms(self) -> int | None:
        """When the oldest of what waits was added; None if nothing that lasts does."""
        if self.unanswered is not None and self.unanswered.upto:
            return self.unanswered.since_ms
        if self.waiting:
            return self.waiting[0].added_ms
        return self.waiting_since_ms if self.is_behind and self.waiting_since_ms else None

    # -- from the outbox --

    def leave_to_outbox(self) -> None:
        """Hold nothing that waits in memory: it is read again when it has its turn."""
        self.is_behind = True
        self.waiting.clear()

    def start_refill(self) -> None:
        """What is added from now on comes after what is being read."""
        self.is_behind = False
        self.waiting.clear()

    def refill(self, items: Sequence[WaitingRow], limit: int) -> None:
        """Take over what was read: at most ``limit``, which is the oldest that waits."""
        new, self.waiting = self.waiting, deque(items)
        if len(items) >= limit:
            self.is_behind = True  # more is there, before what is new
            return
        for item in new:
            self.add(item)

    # -- sending --

    def next_transaction(self, origin: str, now_ms: int) -> Transaction | None:
        """What to send now: the same as before until it is answered. None if there is nothing."""
        if self.unanswered is not None:
            return self.unanswered
        if not self.waiting or self.waiting[0].position > self._repeat_upto:
            self._repeat_upto = 0  # what was to be repeated is no longer there
        pdus: list[bytes] = []
        edus: list[bytes] = []
        event_ids: list[str] = []
        first = last = None
        size_bytes = 0
        for item in self.waiting:
            if self._repeat_upto and item.position > self._repeat_upto:
                break
            kind, limit = (edus, EDUS_MAX) if item.event_id is None else (pdus, PDUS_MAX)
            if len(kind) == limit or size_bytes >= TRANSACTION_BYTES:
                break
            kind.append(item.json)
            size_bytes += len(item.json)
            if item.event_id is not None:
                event_ids.append(item.event_id)
            first, last = first or item, item
        if first is None or last is None:
            mark, upto, since_ms = token_hex(8), 0, now_ms
        else:
            mark, upto, since_ms = f"{first.position} {last.position}", last.position, first.added_ms
        if not self._repeat_upto:
            edus += self.ephemeral.take(EDUS_MAX - len(edus), now_ms)
        if not pdus and not edus:
            return None
        self.unanswered = Transaction(
            transaction_id(mark, pdus, edus),
            encode_transaction(origin, now_ms, pdus, edus),
            upto,
            event_ids,
            len(edus),
            since_ms,
        )
        return self.unanswered

    def answered(self, now_ms: int) -> None:
        """The transaction arrived."""
        transaction, self.unanswered = self.unanswered, None
        if transaction is not None and transaction.upto:
            self.cursor = max(self.cursor, transaction.upto)
            while self.waiting and self.waiting[0].position <= self.cursor:
                self.waiting.popleft()
        self.backoff = None
        self.waiting_since_ms = 0
        self._repeat_upto = 0
        self.last_success_ms = now_ms
        self.is_stored = False

    def failed(self, now_ms: int, jitter: float, least_ms: int = 0) -> Backoff:
        """It did not arrive, or nobody knows. What waits is left to the outbox until the next attempt."""
        self.waiting_since_ms = self.oldest_ms() or now_ms
        self.backoff = after_failure(self.backoff, now_ms, jitter, least_ms)
        self.failed_ms = now_ms
        self.is_stored = False
        self.leave_to_outbox()
        self.ephemeral.clear()
        return self.backoff

    def forget_body(self) -> None:
        """Let go of what is to be repeated: it is built again of the same rows, without what may be lost."""
        if self.unanswered is not None:
            self._repeat_upto = self.unanswered.upto
            self.unanswered = None

    def heard_from(self, now_ms: int) -> None:
        """It is there again: the next attempt is due at once, or soon if the last one was just now."""
        if self.backoff is not None:
            due_ms = max(now_ms, self.failed_ms + EARLY_RETRY_MS)
            self.backoff = Backoff(self.backoff.failures, min(self.backoff.retry_at_ms, due_ms))
