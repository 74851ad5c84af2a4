"""Three companies' nodes, each reaching the others by a link of its own, and what their users see alike."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.api.client import Api, JsonObject, User, http_session
from tests.conformance import Exchanges
from tests.network.link import Link
from tests.node import Node, free_port
from tests.postgres import TestCluster, make_data_dir
from tests.server_server.certificates import Authority
from tests.server_server.company_node import company_node

NAMES = ("acme.test", "globex.test", "initech.test")
ALIKE_TIMEOUT_S = 180.0  # a server that was asked in vain, on a busy machine, is left alone for a while
POLL_S = 0.25


@dataclass(slots=True)
class Company:
    """A node that may be away for a while, and how its users reach it."""

    node: Node
    api: Api

    @property
    def name(self) -> str:
        return self.node.server_name


@dataclass(slots=True)
class Companies:
    """All nodes, by server name, and the links from one to another."""

    by_name: dict[str, Company] = field(default_factory=dict)
    links: dict[tuple[str, str], Link] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Company:
        return self.by_name[name]

    def cut(self, *names: str) -> None:
        """Part the servers named from all others; among themselves they stay connected."""
        for link in self._between(names):
            link.cut()

    def mend(self) -> None:
        """Connect all with all."""
        for link in self.links.values():
            link.mend()

    def _between(self, names: Iterable[str]) -> list[Link]:
        apart = set(names)
        return [link for ends, link in self.links.items() if len(apart & set(ends)) == 1]


@asynccontextmanager
async def running_companies(postgres: TestCluster, exchanges: Exchanges) -> AsyncIterator[Companies]:
    """Three nodes that talk to each other and to nobody else. Ends with all of them stopped."""
    ports = {name: free_port() for name in NAMES}
    companies = Companies()
    async with AsyncExitStack() as stack:
        folder = make_data_dir()
        stack.callback(shutil.rmtree, folder)
        authority = Authority(folder)
        for ends in itertools.permutations(NAMES, 2):
            companies.links[ends] = await stack.enter_async_context(Link(ports[ends[1]]).open())
        http = await stack.enter_async_context(http_session())
        for name in NAMES:
            links = {other: link for (own, other), link in companies.links.items() if own == name}
            hosts = {other: f"127.0.0.1:{link.port}" for other, link in links.items()}
            node = await stack.enter_async_context(
                company_node(
                    postgres, authority, name, ports[name], hosts, purposes=("federation", "metrics")
                )
            )
            companies.by_name[name] = Company(node, Api(http, node.url, name, exchanges))
        yield companies
        for company in companies.by_name.values():
            await company.node.stop()
            faults = company.node.faults()
            assert not faults, f"{company.name}:\n" + "\n".join(faults)


# -- what users see --


async def state_hash(user: User, room_id: str) -> str:
    """The room's state in one value: all of (type, state key, event id)."""
    state = await user.get("/v3/rooms/{}/state", room_id)
    triples = sorted((event["type"], event["state_key"], event["event_id"]) for event in state)
    return hashlib.sha256(json.dumps(triples).encode()).hexdigest()


async def events_of(user: User, room_id: str) -> dict[str, JsonObject]:
    """All events that paging back shows, newest first, by id: what everybody should see alike of them."""
    return {event["event_id"]: _shared(event) for event in await user.history(room_id)}


def _shared(event: JsonObject) -> JsonObject:
    """An event without what differs between those who look at it."""
    shared = {key: event[key] for key in ("type", "state_key", "sender", "content") if key in event}
    shared["redacted_because"] = event.get("unsigned", {}).get("redacted_because", {}).get("event_id")
    return shared


async def sent_by(user: User, room_id: str) -> dict[str, list[str]]:
    """The ids of the events of each sender, oldest first, as this user's server orders them."""
    order: dict[str, list[str]] = {}
    for event in reversed(await user.history(room_id)):
        order.setdefault(event["sender"], []).append(event["event_id"])
    return order


async def until(check: Callable[[], Awaitable[Any]], what: str, timeout_s: float = ALIKE_TIMEOUT_S) -> Any:
    """What ``check`` returns once that is true; fails with ``what`` if it does not become so in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = await check()
        if found:
            return found
        assert time.monotonic() < deadline, what
        await asyncio.sleep(POLL_S)


async def become_alike(users: Iterable[User], room_id: str) -> dict[str, JsonObject]:
    """Return when all see the same state and the same events: these. Fails with what differs otherwise."""
    users = list(users)
    seen: Mapping[str, tuple[str, dict[str, JsonObject]]] = {}

    async def alike() -> bool:
        nonlocal seen
        seen = {
            user.user_id: (await state_hash(user, room_id), await events_of(user, room_id)) for user in users
        }
        first, *others = seen.values()
        return all(other == first for other in others)

    try:
        await until(alike, "no agreement")
    except AssertionError as cause:
        raise AssertionError(_differences(seen)) from cause
    return next(iter(seen.values()))[1]


def _differences(seen: Mapping[str, tuple[str, dict[str, JsonObject]]]) -> str:
    union: dict[str, JsonObject] = {}
    for _, events in seen.values():
        union |= events
    lines = ["the servers do not agree:"]
    for user_id, (digest, events) in seen.items():
        missing = [
            f"{id} {event['type']} of {event['sender']}" for id, event in union.items() if id not in events
        ]
        other = [id for id, event in events.items() if union[id] != event]
        lines.append(f"{user_id}: state {digest[:8]}, {len(events)} events")
        lines += [f"  lacks {each}" for each in missing] + [f"  has another {each}" for each in other]
    return "\n".join(lines)
