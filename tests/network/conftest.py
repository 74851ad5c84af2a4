"""The module's three companies, and a user of each."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.api.client import User
from tests.conformance import Exchanges
from tests.network.companies import NAMES, Companies, running_companies
from tests.postgres import TestCluster


@pytest_asyncio.fixture(scope="module")
async def companies(postgres: TestCluster, exchanges: Exchanges) -> AsyncIterator[Companies]:
    """Three running nodes."""
    async with running_companies(postgres, exchanges) as companies:
        yield companies


@pytest_asyncio.fixture
async def alice(companies: Companies) -> User:
    """A new user of the first company."""
    return await companies[NAMES[0]].api.register("alice")


@pytest_asyncio.fixture
async def bob(companies: Companies) -> User:
    """A new user of the second company."""
    return await companies[NAMES[1]].api.register("bob")


@pytest_asyncio.fixture
async def other_alice(companies: Companies) -> User:
    """A new user of the third company."""
    return await companies[NAMES[2]].api.register("alice")
