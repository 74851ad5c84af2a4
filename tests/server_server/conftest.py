"""Two companies' nodes on loopback, over TLS by a local authority, and a server of the tests beside them."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from federation.keys import SigningKey
from tests.api.client import Api, User, http_session
from tests.conformance import Exchanges
from tests.node import Node, free_port
from tests.postgres import TestCluster, make_data_dir
from tests.server_server.certificates import Authority
from tests.server_server.company_node import company_node
from tests.server_server.device_peer import DevicePeer
from tests.server_server.peer import Peer
from tests.server_server.room_peer import RoomPeer

ACME, GLOBEX, PEER = "acme.test", "globex.test", "peer.test"


@dataclass(frozen=True, slots=True)
class Network:
    """The nodes, how clients reach them, and the peer that may talk to both."""

    acme: Node
    globex: Node
    ports: dict[str, int]
    """Of the federation listeners, by server name."""
    peer: Peer
    acme_api: Api
    globex_api: Api
    authority: Authority

    async def metric(self, node: Node, line: str) -> float:
        """A value of the node's metrics; 0 where it has none yet."""
        return await read_metric(self.acme_api, node, line)


async def read_metric(api: Api, node: Node, line: str) -> float:
    async with api.http.get(f"{node.url}/metrics") as response:
        text = await response.text()
    values = [row.rpartition(" ")[2] for row in text.splitlines() if row.startswith(line)]
    return float(values[0]) if values else 0.0


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    """A certificate authority with files in a folder of its own."""
    folder = make_data_dir()
    yield Authority(folder)
    shutil.rmtree(folder)


@pytest_asyncio.fixture(scope="module")
async def network(
    postgres: TestCluster, authority: Authority, exchanges: Exchanges, request: pytest.FixtureRequest
) -> AsyncIterator[Network]:
    """Two running nodes that know each other and the peer, and nobody else.

    A module's SETTINGS are added to the configuration of both.
    """
    more_settings: Mapping[str, Mapping[str, Any]] = getattr(request.module, "SETTINGS", {})
    ports = {name: free_port() for name in (ACME, GLOBEX, PEER)}
    hosts = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    nodes: dict[str, Node] = {}
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(http_session())
        folder = make_data_dir()
        stack.callback(shutil.rmtree, folder)
        for name in (ACME, GLOBEX):
            policy_server = {
                "enabled": name == GLOBEX,
                "key_file": str(folder / "policy.key"),
                "mentions_max": 3,
                "refused_words": ["lottery"],
            }
            settings = {
                "server": {"public_federation_address": f"matrix.{name}:443"},
                "listeners": {"purposes": ["client", "metrics"]},
                "policy_server": policy_server,
            }
            nodes[name] = await stack.enter_async_context(
                company_node(postgres, authority, name, ports[name], hosts, settings, more_settings)
            )
        peer = Peer(PEER, ports[PEER], SigningKey.generate("p1"), str(authority.ca_file), exchanges)
        await stack.enter_async_context(peer.serving(authority.certificate(PEER)))
        acme, globex = nodes[ACME], nodes[GLOBEX]
        yield Network(
            acme,
            globex,
            ports,
            peer,
            Api(http, acme.url, ACME, exchanges),
            Api(http, globex.url, GLOBEX, exchanges),
            authority,
        )
        for node in nodes.values():
            await node.stop()
            assert not node.faults()


@pytest_asyncio.fixture
async def alice(network: Network) -> User:
    """A new user of the first company."""
    return await network.acme_api.register("alice")


@pytest_asyncio.fixture
async def bob(network: Network) -> User:
    """A new user of the second company, whose node is a policy server."""
    return await network.globex_api.register("bob")


@pytest_asyncio.fixture
async def shared(alice: User, bob: User) -> str:
    """A room of both companies."""
    room_id = await alice.create_room()
    await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})
    return room_id


@pytest.fixture
def rooms(network: Network) -> Iterator[RoomPeer]:
    """The peer speaks rooms."""
    rooms = RoomPeer(network.peer, network.ports)
    network.peer.speaks = rooms.answer
    yield rooms
    network.peer.speaks = None


@pytest_asyncio.fixture
async def carol(alice: User, rooms: RoomPeer, network: Network) -> DevicePeer:
    """A user of the peer, with a device, in a room with Alice."""
    room_id = await alice.create_room()
    carol = DevicePeer(rooms, rooms.user(f"carol-{alice.localpart}"))
    carol.add_device("PHONE")
    await rooms.join(ACME, room_id, carol.user_id)
    return carol
