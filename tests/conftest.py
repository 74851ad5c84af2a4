"""Fixtures that all tests may use: see ``tests/postgres.py`` for the databases."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.postgres import TestCluster, make_data_dir, running_cluster


@pytest_asyncio.fixture(scope="session")
async def postgres() -> AsyncIterator[TestCluster]:
    """The run's PostgreSQL: ``await postgres.create_database()`` for a database of one's own."""
    async with running_cluster() as cluster:
        yield cluster


@pytest_asyncio.fixture(scope="module")
async def database_url(postgres: TestCluster) -> AsyncIterator[str]:
    """An empty database with the schema, one a test module, for ``database.url``."""
    url = await postgres.create_database()
    yield url
    await postgres.drop_database(url)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A new folder with a short path that the database's account may enter; removed after the test."""
    folder = make_data_dir()
    yield folder
    shutil.rmtree(folder)
