"""The node behind a proxy that holds its responses against the specification."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.conformance import Exchanges
from tests.interop.proxy import observing_proxy
from tests.node import Node
from tests.server_server.conftest import authority, network

__all__ = ["authority", "network", "proxy_url"]  # fixtures


@pytest_asyncio.fixture(scope="module")
async def proxy_url(node: Node, exchanges: Exchanges) -> AsyncIterator[str]:
    """Where software from outside reaches the module's node."""
    async with observing_proxy(node.url, exchanges) as url:
        yield url
