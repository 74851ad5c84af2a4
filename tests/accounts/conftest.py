"""The accounts' services served to clients whose responses are checked against the specification."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest_asyncio

from tests.accounts.server import SERVER_NAME, AccountServices, serving
from tests.api.client import Api, http_session
from tests.conformance import Exchanges

Served = tuple[AccountServices, Api]
Serve = Callable[..., Any]


@pytest_asyncio.fixture
async def serve(database_url: str, exchanges: Exchanges) -> AsyncIterator[Serve]:
    """``services, api = await serve(section={setting: value})``"""
    async with AsyncExitStack() as stack:

        async def start(**settings: dict[str, Any]) -> Served:
            services, url = await stack.enter_async_context(serving(database_url, settings))
            http = await stack.enter_async_context(http_session())
            return services, Api(http, url, SERVER_NAME, exchanges)

        yield start


@pytest_asyncio.fixture
async def served(serve: Serve) -> Served:
    """The services with the tests' settings: anyone may register, no rate limits."""
    served: Served = await serve()
    return served


@pytest_asyncio.fixture
async def services(served: Served) -> AccountServices:
    return served[0]


@pytest_asyncio.fixture
async def api(served: Served) -> Api:
    return served[1]
