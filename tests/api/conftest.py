"""Clients of the module's node, and new users on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.api.client import Api, User, http_session
from tests.conformance import Exchanges
from tests.node import SHARED_SECRET, Node


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
