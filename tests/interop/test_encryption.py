"""Encrypted rooms with matrix-js-sdk and its cryptography in Rust: on one node, and across two."""

from __future__ import annotations

import pytest

from tests.api.client import Api, http_session
from tests.conformance import Exchanges
from tests.interop.encrypted_talk import talk_encrypted
from tests.node import Node
from tests.server_server.conftest import Network

pytestmark = [pytest.mark.node_js, pytest.mark.slow]


async def test_on_one_node(node: Node, exchanges: Exchanges) -> None:
    async with http_session() as http:
        api = Api(http, node.url, node.server_name, exchanges)
        await talk_encrypted(await api.register("alice"), await api.register("bob"))


async def test_across_two_nodes(network: Network) -> None:
    await talk_encrypted(await network.acme_api.register("alice"), await network.globex_api.register("bob"))
