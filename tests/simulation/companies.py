"""Whole nodes in one process, which crash and start again on the same database."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, MutableMapping
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, cast

import structlog
from aiohttp import web

from federation.keys import SigningKey
from homeserver.api.dispatch import Dispatcher
from homeserver.api.router import Router
from homeserver.api.routes import routes_for
from homeserver.app import Node
from homeserver.config.federation import FederationConfig
from homeserver.config.node import DatabaseConfig, ServerConfig
from homeserver.config.sections import Config
from homeserver.federating.waiting_events import WaitingEvents
from homeserver.requester import Requester
from homeserver.storage.connection import Pool
from homeserver.storage.database import Database, open_pool
from tests.simulation.database_turns import Crash
from tests.simulation.network import Answer, Network, Question, Wires
from tests.simulation.simulated_loop import SimulatedLoop

USERS = ("alice", "bob")
INSERT_USER = "INSERT INTO users (user_id) VALUES ($1) RETURNING nid"
INSERT_ACCOUNT = "INSERT INTO accounts (user_nid, created_ms, is_guest) VALUES ($1, 0, false)"
INSERT_PROFILE = "INSERT INTO profiles (user_nid, displayname) VALUES ($1, $2)"
INSERT_DEVICE = """
INSERT INTO devices (user_nid, created_ms, device_id) VALUES ($1, 0, 'DEVICE') RETURNING nid
"""
CONNECTIONS_MAX = 3  # the committer's is one of them
BODY_BYTES_MAX = 4 * 1024 * 1024
ROUTER = Router(routes_for(("federation",)))


@dataclass(slots=True, eq=False)
class Life:
    """A node from its start to its crash. `failures` are what it should never have come to."""

    of: str
    failures: list[str]
    is_over: bool = False

    def fail(self, what: str) -> None:
        if not self.is_over:
            self.failures.append(f"{self.of}: {what}")


LIFE: ContextVar[Life | None] = ContextVar("life", default=None)
"""Whose task this is."""


def note_errors(
    logger: Any, method: str, entry: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:  # a processor of structlog's
    """Errors in the log are failures of the node that logs them."""
    life = LIFE.get()
    if life is not None and method in ("error", "exception", "critical"):
        life.fail(f"{entry.get('event')} {entry.get('task', '')} {sys.exc_info()[1]!r}")
    return entry


@dataclass(kw_only=True)
class Company:
    """One server. `answered` are the ids of events that its users had an answer for, whatever came since."""

    name: str
    number: int
    seed: int
    database_url: str
    names: tuple[str, ...]
    ca_file: Path
    loop: SimulatedLoop
    network: Network
    answered: set[str] = field(default_factory=set)
    requesters: dict[str, Requester] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    crashes: int = 0
    _node: Node | None = None
    _wires: Wires | None = None
    _dispatcher: Dispatcher | None = None
    _life: Life | None = None
    _tasks: dict[asyncio.Task[Any], None] = field(default_factory=dict)
    _ending: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        return self._dispatcher is not None

    @property
    def node(self) -> Node:
        assert self._node is not None
        return self._node

    @property
    def life(self) -> Life:
        assert self._life is not None
        return self._life

    @property
    def pool(self) -> Pool:
        return self.node.engine.pool

    @property
    def waiting_events(self) -> WaitingEvents:
        return self.node._parts.remote.waiting_events

    @property
    def _database(self) -> str:
        return self.database_url.partition("@/")[2].partition("?")[0]

    def user(self, name: str) -> str:
        return f"@{name}:{self.name}"

    async def make_users(self) -> None:
        for name in USERS:
            nid = await self.pool.fetchval(INSERT_USER, self.user(name))
            await self.pool.execute(INSERT_ACCOUNT, nid)
            await self.pool.execute(INSERT_PROFILE, nid, name.title())
            self.requesters[name] = Requester(
                user_id=self.user(name),
                user_nid=nid,
                device_id="DEVICE",
                device_nid=await self.pool.fetchval(INSERT_DEVICE, nid),
                token_nid=0,
                is_guest=False,
                is_admin=False,
            )

    async def start(self) -> None:
        """Start the node on its database, as it was left."""
        if self._ending is not None:
            await self._ending
            await self.loop.turns.until_gone(self._database)
        self._life = Life(self.name, self.failures)
        await self._task(self._start())

    async def _start(self) -> None:
        others = {name: "127.0.0.1:8448" for name in self.names if name != self.name}
        config = Config(
            server=ServerConfig(server_name=self.name),
            listeners=(),
            federation=FederationConfig(
                allowed_servers=tuple(others), hosts=others, ca_file=str(self.ca_file)
            ),
        )
        limits = DatabaseConfig(connections_min=1, connections_max=CONNECTIONS_MAX)
        pool = await open_pool(self.database_url, limits)
        key = SigningKey.from_seed("1", bytes([self.number]) * 32)
        node = self._node = await Node.build(config, key, Database(pool, None))
        wires = self._wires = Wires(self.network, self)
        client, peers = node.engine.client, node._parts.peers
        await client.close()  # the sockets, which nobody needs here
        client._connections = cast(Any, wires)
        chance = Random(f"{self.name} {self.seed} {self.crashes}")
        for part in (client, peers.sender, peers.key_ring, self.waiting_events):
            part._random = chance
        await node.start()
        self._dispatcher = Dispatcher(
            ROUTER, node.services, body_max_bytes=BODY_BYTES_MAX, trusted_proxies=(), measure=_measure
        )

    def answer(self, question: Question) -> asyncio.Task[Answer]:
        """Begin to answer another server's request."""
        return self.spawn(self._answer(question))

    async def _answer(self, question: Question) -> Answer:
        assert self._dispatcher is not None
        response = cast(web.Response, await self._dispatcher.handle(cast(web.BaseRequest, question)))
        return Answer(response.status, response.headers, cast(bytes, response.body) or b"")

    def spawn(self, job: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something that ends when the node does."""
        task = self._task(job)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    def _task(self, job: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        context = copy_context()
        context.run(LIFE.set, self._life)
        return self.loop.create_task(job, context=context)

    def crash_after(self, questions: int, is_asked: bool) -> None:
        """Crash in the midst of whatever is done, when the database was asked so often."""
        self.loop.turns.crashes[self._database] = Crash(questions, is_asked, self.crash)

    def crash(self) -> None:
        """As if the process was killed: what is in memory is gone."""
        if not self.is_up:
            return
        assert self._node is not None and self._wires is not None and self._life is not None
        self.crashes += 1
        self._life.is_over = True
        self._dispatcher = None
        self._wires.cut()
        self.loop.turns.cut(self._database)
        node, self._node = self._node, None
        node._parts.peers.sender.close()
        node.engine.pool.terminate()
        for task in list(self._tasks):
            task.cancel()
        self._ending = self.loop.create_task(node.engine.supervisor.stop())

    async def stop(self) -> None:
        """In order, so that all that was told of is stored."""
        self.loop.turns.crashes.pop(self._database, None)
        if self.is_up:
            node = self.node
            self._dispatcher = None
            await node.stop()
            await node._database.close()
        elif self._ending is not None:
            await self._ending

    @property
    def is_quiet(self) -> bool:
        """Whether nothing waits to be sent, and no request is worked on."""
        destinations = self.node._parts.peers.sender._destinations.values()
        sending = any(destination.has_work for destination in destinations)
        return not sending and not self._tasks


def _measure(path: str, method: str, status: int, seconds: float) -> None:
    """Nobody looks."""


def configure_log(is_shown: bool) -> None:
    """Have errors noted, and the log shown or not."""
    processors: list[Callable[..., Any]] = [structlog.processors.add_log_level, note_errors]
    plain = structlog.dev.plain_traceback
    shown = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain)
    processors.append(shown if is_shown else _drop)
    structlog.configure(processors=processors)


def _drop(logger: Any, method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    raise structlog.DropEvent
