"""A company's node and a Synapse, in rooms of several versions, each once as creator and once as joiner."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.api.client import Api, http_session
from tests.conformance import Exchanges
from tests.interop.synapse.follower import Follower
from tests.interop.synapse.link import Link
from tests.interop.synapse.server import Synapse, Unchecked, what_is_missing
from tests.node import Node, free_port
from tests.postgres import TestCluster, make_data_dir
from tests.server_server.certificates import Authority

VERSIONS = ("10", "11", "12")
OTHER = {"veche": "synapse", "synapse": "veche"}


@dataclass(frozen=True, slots=True)
class Pair:
    """The two servers, under the names ``veche`` and ``synapse``."""

    apis: Mapping[str, Api]
    links: Mapping[str, Link]
    """The way to each of them for the other one."""
    node: Node

    async def newcomer(self, server: str, name: str) -> Follower:
        """A new user of one of them."""
        return Follower(await self.apis[server].register(name))

    @asynccontextmanager
    async def parted(self) -> AsyncIterator[None]:
        """Neither reaches the other while the block runs."""
        for link in self.links.values():
            await link.cut()
        try:
            yield
        finally:
            for link in self.links.values():
                await link.mend()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder need Synapse."""
    for item in items:
        if "pair" in getattr(item, "fixturenames", ()):
            item.add_marker("synapse")


@pytest_asyncio.fixture(scope="module")
async def pair(postgres: TestCluster, exchanges: Exchanges) -> AsyncIterator[Pair]:
    """Both servers, running, known to each other by nothing but their names."""
    if (missing := what_is_missing()) is not None:
        pytest.skip(missing)
    async with AsyncExitStack() as stack:
        folder = make_data_dir()
        stack.callback(shutil.rmtree, folder)
        authority = Authority(folder)
        certificate = authority.certificate("127.0.0.1")
        links = {name: Link(free_port(), free_port()) for name in OTHER}
        names = {name: f"127.0.0.1:{link.port}" for name, link in links.items()}
        url = await postgres.create_database()
        stack.push_async_callback(postgres.drop_database, url)
        node = Node(
            folder,
            url,
            {
                "federation": {
                    "mode": "open",
                    "ca_file": str(authority.ca_file),
                    "allowed_networks": ["127.0.0.0/8"],
                }
            },
            server_name=names["veche"],
            more_listeners=[
                {
                    "address": "127.0.0.1",
                    "port": links["veche"].behind,
                    "purposes": ["federation"],
                    "tls_certificate": str(certificate.certificate_file),
                    "tls_key": str(certificate.key_file),
                }
            ],
        )
        synapse_folder = make_data_dir()
        stack.callback(shutil.rmtree, synapse_folder)
        synapse = Synapse(
            synapse_folder, names["synapse"], links["synapse"].behind, certificate, authority.ca_file
        )
        await node.start()
        stack.push_async_callback(node.kill)
        await synapse.start()
        stack.push_async_callback(synapse.stop)
        for link in links.values():
            await stack.enter_async_context(link.up())
        http = await stack.enter_async_context(http_session())
        apis = {
            "veche": Api(http, node.url, names["veche"], exchanges),
            "synapse": Api(http, synapse.url, names["synapse"], Unchecked()),
        }
        yield Pair(apis, links, node)
        await node.stop()
        assert not node.faults()


@pytest.fixture(params=VERSIONS, ids="v{}".format)
def version(request: pytest.FixtureRequest) -> str:
    """The version of the room."""
    version: str = request.param
    return version


@pytest.fixture(params=OTHER, ids="{}-creates".format)
def creating(request: pytest.FixtureRequest) -> str:
    """The server on which the room is created."""
    server: str = request.param
    return server


@pytest_asyncio.fixture
async def alice(pair: Pair, creating: str) -> Follower:
    """A new user of the server that creates the room."""
    return await pair.newcomer(creating, "alice")


@pytest_asyncio.fixture
async def bob(pair: Pair, creating: str) -> Follower:
    """A new user of the other server."""
    return await pair.newcomer(OTHER[creating], "bob")


@pytest_asyncio.fixture
async def room(alice: Follower, bob: Follower, version: str) -> str:
    """A public room that Alice has made and Bob joined."""
    room_id = await alice.user.create_room(room_version=version, name="Plans")
    await bob.user.post("/v3/join/{}", room_id, query={"via": alice.user.server_name})
    await alice.membership(room_id, bob.user_id, "join")
    await bob.membership(room_id, bob.user_id, "join")
    return room_id
