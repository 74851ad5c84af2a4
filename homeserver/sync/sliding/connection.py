"""What a connection has been told of, from request to request, and its tokens.

A token (`pos`) names a position of the log and a generation of the connection's state. The state says which
rooms were sent, and how far those that fell behind; all others were told of everything up to the token's
position. So an ordinary message in a room that the client follows changes the position and not the state:
only what changes the state has to be stored.

An answer may be lost: until a request comes with the token of an answer, the state before it is what holds,
and the state after it is merely offered. Source: MSC4186, "Connections".
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from random import getrandbits

from federation.event import JsonObject
from homeserver.errors import MatrixError
from homeserver.sync.sliding.connection_state import Delta, SentRoom
from homeserver.sync.sliding.request import SlidingRequest
from homeserver.sync.sliding.required_state import Selection
from homeserver.sync.token import SyncToken

_TOKEN = re.compile(r"s([0-9]{1,18})_([0-9]{1,18})_([0-9]{1,18})_([0-9]{1,10})")
CONNECTION_BYTES = 2000
SENT_ROOM_BYTES = 250


class UnknownPos(MatrixError):
    """A `pos` that the connection does not know (any more): begin anew without one."""

    status, errcode = 400, "M_UNKNOWN_POS"

    def __init__(self) -> None:
        super().__init__("The server does not know this pos: begin a new connection without it")


@dataclass(frozen=True, slots=True)
class Pos:
    """A token, read."""

    token: SyncToken
    number: int
    generation: int

    def __str__(self) -> str:
        return f"{self.token}_{self.number}_{self.generation}"


def parse_pos(text: str) -> Pos:
    """Raises UnknownPos."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise UnknownPos
    return Pos(SyncToken(int(match[1]), int(match[2])), int(match[3]), int(match[4]))


@dataclass(slots=True, eq=False)
class Connection:
    """One connection of a device. `offered` is the state that a lost answer may have brought, or not.

    `whole` and `chain` are what is stored: the size of the whole state in bytes, and the changes after it,
    encoded, by generation, up to the newest.
    """

    device_nid: int
    conn_id: str
    number: int = field(default_factory=lambda: getrandbits(53))
    generation: int = field(default_factory=lambda: new_generation())
    rooms: dict[int, SentRoom] = field(default_factory=dict)
    selections: dict[int, Selection] = field(default_factory=dict)
    numbers: dict[Selection, int] = field(default_factory=dict)  # of the selections
    told: int = 0
    behind: set[int] = field(default_factory=set)  # rooms, of which something was not told
    offered: tuple[int, Delta] | None = None
    is_stored: bool = False
    used_ms: int = 0
    whole_bytes: int = 0
    chain: list[tuple[int, bytes]] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    turn: int = 0  # of the newest request: those before it give up
    waiting: asyncio.Future[None] | None = None
    settled: tuple[object, ...] | None = None  # see SlidingSync
    no_messages: tuple[int, int] = (0, 0)  # the positions between which none waits for the device
    parsed: tuple[JsonObject, SlidingRequest] | None = None  # the last body, which clients repeat
    parsed_bytes: int = 0  # about what that takes

    @property
    def size_bytes(self) -> int:
        kept_bytes = sum(len(encoded) for _, encoded in self.chain) + self.parsed_bytes
        return CONNECTION_BYTES + kept_bytes + SENT_ROOM_BYTES * len(self.rooms)

    def accept(self, generation: int) -> bool:
        """A request came with this generation: what was offered with it holds. False if it is unknown."""
        if generation == self.generation:
            return True
        if self.offered is None or self.offered[0] != generation:
            return False
        self.apply(*self.offered)
        self.offered = None
        return True

    def apply(self, generation: int, delta: Delta) -> None:
        """Take over a change."""
        self.generation = generation
        self.selections.update(delta.selections)
        self.numbers.update((each, number) for number, each in delta.selections.items())
        for nid, sent in delta.rooms.items():
            if sent is None:
                self.rooms.pop(nid, None)
                self.behind.discard(nid)
                continue
            self.rooms[nid] = sent
            (self.behind.add if sent.behind else self.behind.discard)(nid)
        if delta.told is not None:
            self.told = delta.told

    def whole(self, next: Delta | None = None) -> Delta:
        """All of the state, without selections that no room uses any more, nor will after the next change."""
        used = {sent.selection for sent in self.rooms.values()}
        if next is not None:
            used.update(sent.selection for sent in next.rooms.values() if sent is not None)
        selections = {number: each for number, each in self.selections.items() if number in used}
        return Delta(dict(self.rooms), selections, self.told)

    def number_of(self, selection: Selection, delta: Delta) -> int:
        """The number by which rooms refer to a selection; a new one is noted in the change."""
        number = self.numbers.get(selection)
        if number is None:
            number = delta.numbers.get(selection)
        if number is None:
            number = 1 + max((*self.selections, *delta.selections), default=0)
            delta.selections[number] = selection
            delta.numbers[selection] = number
        return number

    def keep_selections(self, selections: dict[int, Selection]) -> None:
        """Forget all others."""
        self.selections = selections
        self.numbers = {each: number for number, each in selections.items()}

    def take_turn(self) -> int:
        """A new request begins: one that still waits gives up, for its client does not listen any more."""
        self.turn += 1
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)
        return self.turn


def new_generation() -> int:
    """Random, so that two processes that serve one connection never mean different states by one number."""
    return getrandbits(31)
