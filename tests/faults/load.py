"""Users that send, change state, redact, come and go while their node dies under them.

Every user does one thing after the other and writes down what was answered. A request whose answer was
lost is repeated with the same transaction ID as soon as the node is back, until it is answered: so at the
end every message has to be in its room exactly once, whatever happened in between.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp

from tests.api.client import JsonObject, Refused, User
from tests.conformance import Exchanges

STATE_TYPE = "test.veche.state"
STATE_KEYS = ("", "a", "b", "c")
PAUSE_S = 0.01
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class WhileFailing:
    """Shows responses to the checker, but not those that an ailing database excuses."""

    exchanges: Exchanges

    def observe(self, method: str, raw_path: str, status: int, content_type: str, body: bytes) -> None:
        if status < 500:
            self.exchanges.observe(method, raw_path, status, content_type, body)


class Lost(Exception):
    """The answer was lost: nobody knows whether the request was carried out."""


async def answered(request: Callable[[], Awaitable[Answer]]) -> Answer:
    """What ``request`` returns. Raises Lost where a dying node or database left it without a true answer."""
    try:
        return await request()
    except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
        raise Lost from error
    except Refused as error:
        if error.status < 500:
            raise
        raise Lost from error


@dataclass(slots=True)
class Ledger:
    """What was answered with 200, by room."""

    events: dict[str, set[str]]
    bodies: dict[str, dict[str, str]]
    """room → the body of a message → its event ID."""
    redacted: dict[str, set[str]]
    repeated_count: int = 0
    lost_count: int = 0

    @classmethod
    def of(cls, rooms: list[str]) -> Ledger:
        return cls(
            {room: set() for room in rooms}, {room: {} for room in rooms}, {room: set() for room in rooms}
        )

    @property
    def event_count(self) -> int:
        return sum(map(len, self.events.values()))


@dataclass(slots=True)
class Actor:
    """One user at work. ``alive`` is set while the node is meant to answer."""

    user: User
    rooms: list[str]
    ledger: Ledger
    alive: asyncio.Event
    rng: random.Random
    working: bool = True
    wanders: bool = False
    _number: int = 0
    _own: list[tuple[str, str]] = field(default_factory=list)
    _latest: tuple[str, str, str] | None = None  # room, transaction ID, event ID

    async def work(self) -> None:
        """Act until ``working`` is unset; what has begun is brought to its end."""
        while self.working:
            await self.alive.wait()
            step = self._wander if self.wanders else self._pick()
            try:
                await step()
            except Lost:
                self.ledger.lost_count += 1

    def _pick(self) -> Callable[[], Awaitable[None]]:
        dice = self.rng.random()
        if dice < 0.12:
            return self._change_state
        if dice < 0.20 and self._own:
            return self._redact
        if dice < 0.28 and self._latest is not None:
            return self._send_again
        return self._send

    async def _send(self) -> None:
        room = self.rng.choice(self.rooms)
        self._number += 1
        body = f"{self.user.localpart} {self._number}"
        event_id = await self._until_answered(
            lambda: self.user.send(room, body, txn_id=f"send-{self._number}")
        )
        self._note(room, event_id)
        self.ledger.bodies[room][body] = event_id
        self._own.append((room, event_id))
        self._latest = (room, f"send-{self._number}", event_id)

    async def _send_again(self) -> None:
        """Repeat an answered request, as a client does that did not see the answer."""
        assert self._latest is not None
        room, txn_id, event_id = self._latest
        repeated = await self._until_answered(lambda: self.user.send(room, "repeated", txn_id=txn_id))
        assert repeated == event_id, f"{txn_id} of {self.user.user_id} gave {event_id}, then {repeated}"
        self.ledger.repeated_count += 1

    async def _change_state(self) -> None:
        room = self.rng.choice(self.rooms)
        self._number += 1
        content: JsonObject = {"by": self.user.user_id, "number": self._number}
        key = self.rng.choice(STATE_KEYS)
        self._note(room, await answered(lambda: self.user.set_state(room, STATE_TYPE, content, key)))

    async def _redact(self) -> None:
        room, event_id = self._own.pop(self.rng.randrange(len(self._own)))
        self._number += 1
        txn_id = f"redact-{self._number}"
        answer = await self._until_answered(
            lambda: self.user.put("/v3/rooms/{}/redact/{}/{}", room, event_id, txn_id, json={})
        )
        self._note(room, answer["event_id"])
        self.ledger.redacted[room].add(event_id)

    async def _wander(self) -> None:
        room = self.rng.choice(self.rooms)
        joined = await answered(lambda: self.user.get("/v3/joined_rooms"))
        if room in joined["joined_rooms"]:
            await answered(lambda: self.user.leave(room))
        else:
            await answered(lambda: self.user.join(room))

    def _note(self, room: str, event_id: str) -> None:
        events = self.ledger.events[room]
        assert event_id not in events, f"{event_id} was answered for two requests"
        events.add(event_id)

    async def _until_answered(self, request: Callable[[], Awaitable[Answer]]) -> Answer:
        while True:
            try:
                return await answered(request)
            except Lost:
                self.ledger.lost_count += 1
                await asyncio.sleep(PAUSE_S)
                await self.alive.wait()


@dataclass(slots=True)
class Follower:
    """A user that follows all rooms by incremental sync, over all deaths of the node."""

    user: User
    rooms: list[str]
    alive: asyncio.Event
    since: str = ""
    seen: dict[str, list[JsonObject]] = field(default_factory=dict)
    seen_before: dict[str, set[str]] = field(default_factory=dict)
    """room → the events that were there before the first position."""
    working: bool = True

    async def begin(self) -> None:
        """Take the position from which to follow, in rooms in which nothing happens just now."""
        self.since = (await self.user.sync())["next_batch"]
        for room in self.rooms:
            self.seen[room] = []
            self.seen_before[room] = {event["event_id"] for event in await self.user.history(room)}

    async def follow(self) -> None:
        """Sync until ``working`` is unset."""
        while self.working:
            await self.alive.wait()
            try:
                await answered(lambda: self.step(timeout_ms=300))
            except Lost:
                await asyncio.sleep(PAUSE_S)

    async def step(self, timeout_ms: int) -> bool:
        """One sync; whether it brought anything. The position moves only once all of it is noted."""
        answer = await self.user.sync(self.since, timeout_ms=timeout_ms)
        news: dict[str, list[JsonObject]] = {}
        for room, joined in answer.get("rooms", {}).get("join", {}).items():
            timeline = joined.get("timeline", {})
            events = timeline.get("events", [])
            if timeline.get("limited"):
                events = await self._missed(room, timeline["prev_batch"]) + events
            news[room] = events
        for room, events in news.items():
            self.seen[room] += events
        self.since = answer["next_batch"]
        return any(news.values())

    async def _missed(self, room: str, start: str | None) -> list[JsonObject]:
        """Events of a gap, oldest first: back from ``start`` until an event that was seen before."""
        known = {event["event_id"] for event in self.seen[room]} | self.seen_before[room]
        found: list[JsonObject] = []
        while start is not None:
            page = await self.user.messages(room, limit=100, **{"from": start})
            for event in page["chunk"]:
                if event["event_id"] in known:
                    return found[::-1]
                found.append(event)
            start = page.get("end")
        return found[::-1]
