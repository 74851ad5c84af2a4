"""Questions to PostgreSQL, one after another, so that what comes of them can be repeated.

Each node asks on several connections at once. Questions are passed on in the order in which they were asked,
each when the one before has its answer, or waits for a lock: then its answer comes after the transaction that
holds the lock. An answer is given out after a simulated delay, which a seed decides, so answers overtake each
other.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.simulation.bystander import Bystander

DELAYS_S = (0.0, 0.0005, 0.001, 0.002, 0.005)
LOCKED_S = 0.005  # real: by then it is looked whether a question waits for a lock
STUCK_S = 60.0  # real: nothing is that slow
SYNC, QUERY, FLUSH, TERMINATE = b"SQHX"  # PostgreSQL, "Message Formats": what asks for an answer
ENDS = {SYNC: b"Z", QUERY: b"Z", FLUSH: b"TnE", TERMINATE: b""}  # and the messages that an answer ends with
GREETING = b"ZE"
CANCELLING = "-"  # instead of a database: a connection that only has another one's question cancelled
READY, KEY_DATA, IDLE = ord("Z"), ord("K"), ord("I")


@dataclass(slots=True)
class Crash:
    """Happens at the last of some questions to a database, which is not asked any more, or whose answer does
    not arrive any more."""

    questions: int
    is_asked: bool
    happen: Callable[[], None]


class Turns:
    """All connections of a simulation, and whose turn it is."""

    def __init__(self, loop: asyncio.AbstractEventLoop, random: Random, bystander: Bystander) -> None:
        self.loop = loop
        self.crashes: dict[str, Crash] = {}  # by database
        self.asked_count = 0
        self._random = random
        self._bystander = bystander
        self._connecting = 0
        self._connections: list[Connection] = []
        self._asked: deque[Connection] = deque()
        self._working: list[Connection] = []  # their questions are worked on
        self._locked: list[Connection] = []  # or wait for a lock
        self._answered: list[Connection] = []

    # -- what the loop calls when it has nothing else to do --

    def take(self, real: selectors.BaseSelector) -> list[tuple[selectors.SelectorKey, int]] | None:
        """Wait for the database or have it asked; None if it has nothing to do with what happens next."""
        started = time.monotonic()
        while self._working or self._connecting:
            events = real.select(LOCKED_S)
            if events:
                return events
            self._find_locked()
            if time.monotonic() - started > STUCK_S:
                raise TimeoutError("the database does not answer")
        if self._answered:
            self._give_all()
            return []
        if self._asked:
            self._ask(self._asked.popleft())
            return []
        return real.select(0) or None

    def _find_locked(self) -> None:
        locked = self._bystander.locked([each.pid for each in self._working])
        self._locked += [each for each in self._working if each.pid in locked]
        self._working = [each for each in self._working if each.pid not in locked]

    def _ask(self, connection: Connection) -> None:
        self.asked_count += 1
        crash = self.crashes.get(connection.database)
        if crash is not None:
            crash.questions -= 1
            if crash.questions == 0 and not crash.is_asked:
                crash.happen()
                return
        self._working.append(connection)
        connection.send()

    def _give_all(self) -> None:
        answered, self._answered = sorted(self._answered, key=lambda each: each.answered), []
        for connection in answered:
            crash = self.crashes.get(connection.database)
            if crash is not None and crash.questions <= 0:
                crash.happen()  # what was asked for is done, and nobody learns of it
            else:
                data = connection.take_answer()
                self.loop.call_later(self._random.choice(DELAYS_S), connection.give, data)

    # -- what connections call --

    @contextmanager
    def connecting(self) -> Iterator[None]:
        self._connecting += 1
        try:
            yield
        finally:
            self._connecting -= 1

    def add(self, connection: Connection) -> None:
        self._connections.append(connection)

    def ask(self, connection: Connection) -> None:
        self._asked.append(connection)

    def answered(self, connection: Connection, is_free: bool) -> None:
        """An answer is there; `is_free` if no transaction is open any more, so that locks may be free."""
        (self._working if connection in self._working else self._locked).remove(connection)
        self._answered.append(connection)
        if is_free:
            self._working += self._locked
            self._locked.clear()

    def remove(self, connection: Connection) -> None:
        """It is closed, or nobody is there any more."""
        for group in (self._connections, self._working, self._locked, self._answered):
            if connection in group:
                group.remove(connection)
        if connection in self._asked:
            self._asked.remove(connection)
        self._working += self._locked  # it may have held the locks
        self._locked.clear()

    # -- crashes --

    def cut(self, database: str) -> None:
        """End all connections to a database, as when a process is killed."""
        self.crashes.pop(database, None)
        for connection in list(self._connections):
            if connection.database == database:
                connection.cut()

    async def until_gone(self, database: str) -> None:
        """Return when PostgreSQL has done away with all sessions of a database."""
        await asyncio.sleep(0.0)  # connections close themselves in the next round
        await asyncio.sleep(0.0)
        self._bystander.wait_until_gone(database)


class Connection(asyncio.Protocol):
    """Stands between asyncpg and its transport, for which asyncpg takes this."""

    def __init__(self, turns: Turns, inner: asyncio.Protocol) -> None:
        self.inner = inner
        self.database = ""
        self.pid = 0
        self.question = 0
        """Its number, once it is passed on; 0 while it is not."""
        self.answered = 0
        """The number of the last question that was answered."""
        self._turns = turns
        self._unsent = bytearray()
        self._held = bytearray()
        self._place = 0  # up to which what is held was looked at
        self._ends = b""
        self._is_open = False
        self._is_cut = False
        self._transport: Any = None

    # -- from PostgreSQL --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._turns.add(self)
        self.inner.connection_made(self)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        if self._is_cut:
            return
        self._held += data
        held, ended, is_free = self._held, False, False
        while self._place + 5 <= len(held):
            size = 1 + int.from_bytes(held[self._place + 1 : self._place + 5], "big")
            if self._place + size > len(held):
                break
            kind, content = held[self._place], self._place + 5
            if kind == KEY_DATA:
                self.pid = int.from_bytes(held[content : content + 4], "big")
            if kind in self._ends:
                ended, is_free = True, kind == READY and held[content] == IDLE
            self._place += size
        if ended and self._is_open:
            self._is_open, self.answered, self.question = False, self.question, 0
            self._turns.answered(self, is_free)

    def connection_lost(self, exc: Exception | None) -> None:
        self._turns.remove(self)
        if not self._is_cut:
            self.inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()

    def take_answer(self) -> bytes:
        """What has come."""
        data, self._place = bytes(self._held), 0
        self._held.clear()
        return data

    def give(self, data: bytes) -> None:
        """Let asyncpg have it."""
        if not self.is_closing():
            self.inner.data_received(data)

    # -- from asyncpg --

    def write(self, data: memoryview | bytes) -> None:
        if self._is_cut:
            return
        ends = self._notice_start(bytes(data)) if not self.database else _ends_of(bytes(data))
        self._unsent += data
        if ends is None:
            return
        self._ends = ends
        if not self._is_open:
            self._is_open = True
            self._turns.ask(self)
        elif self.question:  # it was passed on already, and asyncpg wants it ended
            self._flush()

    def writelines(self, parts: Iterable[memoryview | bytes]) -> None:
        self.write(b"".join(parts))

    def _notice_start(self, data: bytes) -> bytes:
        """The first message, which has no type."""
        fields = data[8:].split(b"\0")
        place = fields.index(b"database") + 1 if b"database" in fields else None
        self.database = fields[place].decode() if place is not None else CANCELLING
        return GREETING

    def send(self) -> None:
        """Pass on what was asked."""
        self.question = self._turns.asked_count
        self._flush()

    def _flush(self) -> None:
        data = bytes(self._unsent)
        self._unsent.clear()
        self._transport.write(data)

    def abort(self) -> None:
        if not self._is_cut:
            self._transport.abort()

    def close(self) -> None:
        if not self._is_cut:
            self._flush()
            self._transport.close()

    def is_closing(self) -> bool:
        return self._is_cut or bool(self._transport.is_closing())

    def cut(self) -> None:
        """End as when this process was killed: nothing more is sent, and what has come is not seen."""
        self._is_cut = True
        self._turns.remove(self)
        self._transport.abort()
        self._turns.loop.call_soon(self.inner.connection_lost, ConnectionResetError("the node was killed"))

    def pause_reading(self) -> None:
        """What comes is held here anyway."""

    def resume_reading(self) -> None:
        """See `pause_reading`."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)


def _ends_of(data: bytes) -> bytes | None:
    """What the answer to these messages ends with; None if they ask for none."""
    place, ends = 0, None
    while place + 5 <= len(data):
        ends = ENDS.get(data[place], ends)
        place += 1 + int.from_bytes(data[place + 1 : place + 5], "big")
    return ends
