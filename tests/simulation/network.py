"""The network between companies in one process: slow, lossy, and torn apart now and then, as a seed decides.

It takes the place of the sockets alone: what is above them, from a node's client to its dispatcher, is real.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Any, Protocol

import aiohttp
from multidict import CIMultiDict

from federation.transport.connecting import Target

DELAYS_S = (0.001, 0.01, 0.01, 0.05, 0.2, 1.0, 4.0)
LOST = 0.06  # of all questions, and of all answers
TWICE = 0.05  # of all PUTs
SEND_PATH = "/_matrix/federation/v1/send/"


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body; as much of `aiohttp.ClientResponse` as the client looks at."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_length(self) -> int:
        return len(self.body)

    @property
    def content(self) -> Answer:
        return self

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self.body


class Body:
    """A request's body, which is there at once."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def is_eof(self) -> bool:
        return True

    async def read(self) -> bytes:
        return self._data


class Question:
    """As much of `aiohttp.web.BaseRequest` as the dispatcher looks at."""

    remote = "192.0.2.1"
    transport = None

    def __init__(self, method: str, uri: str, headers: Mapping[str, str], body: bytes | None) -> None:
        self.method = method
        self.raw_path = uri
        self.headers: CIMultiDict[str] = CIMultiDict(headers)
        self.content = Body(body or b"")
        self.content_length = len(body) if body is not None else None
        self.can_read_body = body is not None


class Host(Protocol):
    """Where requests are answered."""

    name: str

    @property
    def is_up(self) -> bool: ...

    def answer(self, question: Question) -> asyncio.Task[Answer]:
        """Begin to; cancelled if the host crashes."""
        ...


class Network:
    """All that is sent goes through `carry`. It is good up to `worsen`, and after `heal`."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._hosts: dict[str, Host] = {}
        self._sides: dict[str, int] = {}
        self._is_well = True
        self.trace: list[str] = []
        """What arrived, for comparing one run with another."""

    def add(self, host: Host) -> None:
        self._hosts[host.name] = host

    def part(self) -> None:
        """Some can no longer reach some others."""
        self._sides = {name: self._random.randrange(2) for name in self._hosts}

    def join_up(self) -> None:
        self._sides = {}

    def worsen(self) -> None:
        """From now on it delays, loses and doubles what is sent, which so is reordered too."""
        self._is_well = False

    def heal(self) -> None:
        self.join_up()
        self._is_well = True

    async def carry(
        self, origin: str, destination: str, method: str, uri: str, headers: Mapping[str, str],
        body: bytes | None,
    ) -> Answer:  # fmt: skip
        """Raises OSError, where somebody notices that it does not arrive; else it never returns."""
        await self._travel(origin, destination)
        if method == "PUT" and not self._is_well and self._random.random() < TWICE:
            asyncio.get_running_loop().call_later(
                self._random.choice(DELAYS_S), self._arrive, origin, destination, method, uri, headers, body
            )
        task = self._arrive(origin, destination, method, uri, headers, body)
        if task is None:
            raise ConnectionRefusedError(f"{destination} is down")
        await asyncio.wait([task])
        if task.cancelled() or not self._hosts[destination].is_up:
            raise ConnectionResetError(f"{destination} went down")
        answer = task.result()
        await self._travel(destination, origin)
        return answer

    def _arrive(
        self, origin: str, destination: str, method: str, uri: str, headers: Mapping[str, str],
        body: bytes | None,
    ) -> asyncio.Task[Answer] | None:  # fmt: skip
        host = self._hosts[destination]
        if not host.is_up:
            return None
        path = SEND_PATH if uri.startswith(SEND_PATH) else uri  # a transaction's id is chance
        digest = sha256(body or b"").hexdigest()[:8]
        time = asyncio.get_running_loop().time()
        self.trace.append(f"{time:.4f} {origin} {destination} {method} {path} {digest}")
        return host.answer(Question(method, uri, headers, body))

    async def _travel(self, origin: str, destination: str) -> None:
        if self._is_well:
            await asyncio.sleep(0.001)
            return
        await asyncio.sleep(self._random.choice(DELAYS_S))
        if self._sides.get(origin) != self._sides.get(destination):
            if self._random.random() < 0.5:
                raise ConnectionRefusedError(f"there is no way to {destination}")
            await asyncio.get_running_loop().create_future()
        if self._loses():
            await asyncio.get_running_loop().create_future()

    def _loses(self) -> bool:
        return not self._is_well and self._random.random() < LOST


class Wires:
    """A node's connections to others: what `federation.transport.connecting.Connections` is elsewhere."""

    def __init__(self, network: Network, host: Host) -> None:
        self._network = network
        self._host = host
        self._is_cut = False

    def cut(self) -> None:
        self._is_cut = True

    async def close(self) -> None:
        self.cut()

    @asynccontextmanager
    async def request(
        self, server: str, target: Target, method: str, uri: str, headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> AsyncIterator[Any]:  # fmt: skip
        if self._is_cut:
            raise aiohttp.ClientConnectionError("this node is down")
        yield await self._network.carry(self._host.name, server, method, uri, headers, body)
