"""Messages between devices of two companies arrive once and in order, and device lists converge, however
often the nodes are killed meanwhile.

VECHE_FAULTS_KILLS sets how often a node is killed, VECHE_FAULTS_SEED repeats a run's random choices.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import asyncpg
import pytest
import pytest_asyncio

from tests.api.client import Api, JsonObject, User, http_session
from tests.api.device_crypto import DeviceCrypto, to_device_of
from tests.conformance import Exchanges
from tests.faults.load import Lost, WhileFailing, answered
from tests.node import Node, free_port
from tests.postgres import TestCluster, make_data_dir
from tests.server_server.certificates import Authority
from tests.server_server.company_node import company_node

NAMES = ("acme.test", "globex.test")
KILLS = int(os.environ.get("VECHE_FAULTS_KILLS", "25"))
USERS, DEVICES_PER_USER = 10, 10  # of each node: 200 devices in all
REQUESTS, TARGETS = 10, 10  # of each device, and of each request: 20,000 messages in all
CUT_EVERY = 4  # times, the node's connections to its database are cut instead
WORK_S = (0.1, 1.5)
"""For how long, between these, the nodes work before the next death."""
PAUSE_S_MAX = 6.0  # between a device's requests: they are to last as long as the deaths
SYNC_TIMEOUT_MS = 2_000
ARRIVAL_TIMEOUT_S = 300.0
EVENT_TYPE = "test.veche.message"


@dataclass
class Company:
    """A node, whether it is meant to answer, and its clients."""

    node: Node
    api: Api
    alive: asyncio.Event = field(default_factory=asyncio.Event)
    users: list[list[User]] = field(default_factory=list)
    """The devices of each user."""


@pytest_asyncio.fixture
async def companies(postgres: TestCluster, exchanges: Exchanges) -> AsyncIterator[list[Company]]:
    """Two nodes that federate over TLS."""
    ports = {name: free_port() for name in NAMES}
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(http_session())
        folder = make_data_dir()
        stack.callback(shutil.rmtree, folder)
        authority = Authority(folder)
        companies: list[Company] = []
        for name in NAMES:
            hosts = {other: f"127.0.0.1:{port}" for other, port in ports.items()}
            node = await stack.enter_async_context(
                company_node(postgres, authority, name, ports[name], hosts)
            )
            companies.append(Company(node, Api(http, node.url, name, WhileFailing(exchanges))))
            companies[-1].alive.set()
        yield companies
        for company in companies:
            await company.node.stop()


@dataclass
class Inbox:
    """A device that syncs as clients do: a token counts only once its answer has arrived."""

    company: Company
    device: User
    seen: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Numbers of messages by the device that sent them, in the order of their coming."""
    since: str | None = None

    async def follow(self, until: asyncio.Event) -> None:
        while not until.is_set():
            await self.company.alive.wait()
            try:
                answer = await answered(lambda: self.device.sync(self.since, timeout_ms=SYNC_TIMEOUT_MS))
            except Lost:
                continue
            self.since = answer["next_batch"]
            for event in to_device_of(answer):
                assert event["type"] == EVENT_TYPE
                self.seen[event["content"]["from"]].append(event["content"]["n"])

    @property
    def count(self) -> int:
        return sum(map(len, self.seen.values()))


@dataclass
class Correspondent:
    """A device that sends, one request after the other, each repeated until it is answered."""

    company: Company
    device: User
    targets: list[list[User]]
    """Of each request."""
    rng: random.Random
    sent: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many messages went to each device, by user and device."""

    async def work(self) -> None:
        for number, targets in enumerate(self.targets):
            messages: JsonObject = {}
            for target in targets:
                name = (target.user_id, target.device_id)
                content = {"from": f"{self.device.user_id} {self.device.device_id}", "n": self.sent[name]}
                messages.setdefault(target.user_id, {})[target.device_id] = content
                self.sent[name] += 1
            await self._send(str(number), messages)
            await asyncio.sleep(self.rng.uniform(0, PAUSE_S_MAX))

    async def _send(self, txn_id: str, messages: JsonObject) -> None:
        while True:
            await self.company.alive.wait()
            try:
                await answered(
                    lambda: self.device.put(
                        "/v3/sendToDevice/{}/{}", EVENT_TYPE, txn_id, json={"messages": messages}
                    )
                )
                return
            except Lost:
                continue


@pytest.mark.slow
async def test_messages_arrive_once_and_in_order_and_device_lists_converge(
    companies: list[Company], figures: list[str]
) -> None:
    seed = int(os.environ.get("VECHE_FAULTS_SEED") or random.randrange(2**32))
    print(f"VECHE_FAULTS_SEED={seed}")
    rng = random.Random(seed)
    started = time.monotonic()
    await settle(companies)
    places = [(company, device) for company in companies for user in company.users for device in user]
    devices = [device for _, device in places]
    correspondents = [
        Correspondent(company, device, [rng.sample(devices, TARGETS) for _ in range(REQUESTS)], rng)
        for company, device in places
    ]
    inboxes = [Inbox(company, device) for company, device in places]
    await work_and_die(companies, correspondents, inboxes, rng)
    expected = Counter[tuple[str, str, str]]()
    for sender in correspondents:
        origin = f"{sender.device.user_id} {sender.device.device_id}"
        for (user_id, device_id), count in sender.sent.items():
            expected[user_id, device_id, origin] = count
    for inbox in inboxes:
        for origin, numbers in inbox.seen.items():
            count = expected.pop((inbox.device.user_id, inbox.device.device_id, origin))
            assert numbers == list(range(count)), f"from {origin} to {inbox.device.device_id}: {numbers}"
    assert not expected, f"lost: {dict(expected)}"
    await check_device_lists(companies)
    figures.append(
        f"to-device: {sum(inbox.count for inbox in inboxes)} messages between {len(devices)} devices of two "
        f"nodes, {KILLS} kills, each message once and in order; {time.monotonic() - started:.0f} s in all; "
        f"VECHE_FAULTS_SEED={seed}"
    )


async def settle(companies: list[Company]) -> None:
    """Users with their devices and keys, all in one room."""
    for company in companies:
        for _ in range(USERS):
            first = await company.api.register()
            others = [await first.on_new_device() for _ in range(DEVICES_PER_USER - 1)]
            company.users.append([first, *others])
        for devices in company.users:
            await asyncio.gather(*(DeviceCrypto(device).upload() for device in devices))
    host = companies[0].users[0][0]
    room_id = await host.create_room()
    for company in companies:
        for devices in company.users:
            if devices[0] is not host:
                await devices[0].post("/v3/join/{}", room_id, query={"via": [host.server_name]})
    for company, other in (companies, companies[::-1]):  # every list is known on both nodes
        await company.users[0][0].post("/v3/keys/query", json={"device_keys": all_of(other)})


async def work_and_die(
    companies: list[Company], correspondents: list[Correspondent], inboxes: list[Inbox], rng: random.Random
) -> None:
    """Everybody writes and reads while nodes die, and some devices get other names, or are deleted."""
    done = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        senders = [group.create_task(sender.work()) for sender in correspondents]
        for inbox in inboxes:
            group.create_task(inbox.follow(done))
        churn = group.create_task(change_devices(companies, rng))
        for number in range(KILLS):
            await asyncio.sleep(rng.uniform(*WORK_S))
            company = rng.choice(companies)
            if number % CUT_EVERY == 0:
                await cut_connections(company)
                continue
            company.alive.clear()
            await company.node.kill()
            await company.node.start()
            company.alive.set()
        await asyncio.gather(churn, *senders)
        total = sum(sender.sent.total() for sender in correspondents)
        deadline = time.monotonic() + ARRIVAL_TIMEOUT_S
        while (arrived := sum(inbox.count for inbox in inboxes)) < total:
            assert time.monotonic() < deadline, f"{arrived} of {total} messages arrived"
            await asyncio.sleep(0.2)
        await asyncio.sleep(SYNC_TIMEOUT_MS / 1000)  # in which a message that comes twice would come
        done.set()


async def cut_connections(company: Company) -> None:
    """End the node's connections to its database, whatever they are doing."""
    connection = await asyncpg.connect(company.node.database_url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.close()


async def change_devices(companies: list[Company], rng: random.Random) -> None:
    """Further devices come, are named, and go."""
    for number in range(40):
        company = rng.choice(companies)
        user = rng.choice(company.users)[0]
        await company.alive.wait()
        try:
            device = await answered(user.on_new_device)
            await answered(DeviceCrypto(device).upload)
            name = {"display_name": f"Device {number}"}
            await answered(lambda d=device, n=name: d.put("/v3/devices/{}", d.device_id, json=n))  # type: ignore[misc]
            if number % 2:
                await answered(lambda d=device: d.post("/v3/logout"))  # type: ignore[misc]
        except Lost:
            continue


async def check_device_lists(companies: list[Company]) -> None:
    """What each node says of the other's users becomes what their own node says."""
    for company, other in (companies, companies[::-1]):
        asker, owner = company.users[0][0], other.users[0][0]
        deadline = time.monotonic() + ARRIVAL_TIMEOUT_S
        while True:  # a device that was deleted while the database was away is told of when it is back
            truth = await owner.post("/v3/keys/query", json={"device_keys": all_of(other)})
            seen = await asker.post("/v3/keys/query", json={"device_keys": all_of(other)})
            if seen["device_keys"] == truth["device_keys"]:
                break
            assert time.monotonic() < deadline, "the lists of devices did not converge"
            await asyncio.sleep(0.2)


def all_of(company: Company) -> JsonObject:
    return {devices[0].user_id: [] for devices in company.users}
