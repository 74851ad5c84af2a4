"""A running node for each test module, and new users on it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from tests.api.client import Api, User, http_session
from tests.conformance import Exchanges
from tests.node import SHARED_SECRET, Node
from tests.postgres import make_data_dir


@pytest_asyncio.fixture(scope="module")
async def node(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Node]:
    """The module's node, on a database of its own. A module's SETTINGS are added to the configuration."""
    settings: Mapping[str, Mapping[str, Any]] = getattr(request.module, "SETTINGS", {})
    folder = make_data_dir()
    node = Node(folder, database_url, settings)
    try:
        await node.start()
        yield node
        await node.stop()
        assert not node.faults()
    finally:
        await node.kill()
        shutil.rmtree(folder)


@pytest_asyncio.fixture(scope="module")
async def api(node: Node, exchanges: Exchanges) -> AsyncIterator[Api]:
    """The node, asked without an access token."""
    async with http_session() as http:
        yield Api(http, node.url, node.server_name, exchanges)


@pytest_asyncio.fixture
async def alice(api: Api) -> User:
    """A new user."""
    return await api.register("alice")


@pytest_asyncio.fixture
async def bob(api: Api) -> User:
    """Another new user."""
    return await api.register("bob")


@pytest_asyncio.fixture
async def admin(api: Api) -> User:
    """A new administrator of the node."""
    return await api.register_admin(SHARED_SECRET)
