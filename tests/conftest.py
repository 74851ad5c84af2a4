"""Fixtures that all tests may use, and what is printed at the end of the run: figures, conformance.

See ``tests/postgres.py`` for the databases, ``tests/conformance.py`` for the report.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.conformance import CHECKOUT, Exchanges
from tests.node import Node
from tests.postgres import TestCluster, make_data_dir, running_cluster

EXCHANGES = pytest.StashKey[Exchanges]()
FIGURES = pytest.StashKey[list[str]]()
DESELECTED = pytest.StashKey[set[str]]()
COUNTED = ("api", "server_server")
"""Folders of tests whose operations are counted, where all of a folder's tests run."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[EXCHANGES] = Exchanges.recording()
    config.stash[FIGURES] = []


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    for folder in COUNTED:
        if any(_is_in(item, folder) for item in items):
            items[0].config.stash.setdefault(DESELECTED, set()).add(folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The judgement on all responses comes after whatever receives some."""
    items.sort(key=lambda item: item.path.name == "test_conformance.py")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    exchanges = config.stash[EXCHANGES]
    for title, lines in (
        ("figures", config.stash[FIGURES]),
        ("conformance with the Matrix specification", exchanges.report() if exchanges.count else []),
    ):
        if lines:
            terminalreporter.section(title)
            for line in lines:
                terminalreporter.write_line(line)


def _is_in(item: pytest.Item, folder: str) -> bool:
    return item.path.parent == CHECKOUT / "tests" / folder


@pytest.fixture(scope="session")
def exchanges(pytestconfig: pytest.Config) -> Exchanges:
    """All responses that the run's tests have received so far."""
    return pytestconfig.stash[EXCHANGES]


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> list[str]:
    """Lines added here are printed at the end of the run: what was measured, seeds."""
    return pytestconfig.stash[FIGURES]


@pytest.fixture
def all_api_tests_ran(request: pytest.FixtureRequest) -> bool:
    """Whether the run takes in every test of ``tests/api``, so that its count of operations is whole."""
    return _all_ran(request, "api")


@pytest.fixture
def all_server_tests_ran(request: pytest.FixtureRequest) -> bool:
    """The same of ``tests/server_server``."""
    return _all_ran(request, "server_server")


def _all_ran(request: pytest.FixtureRequest, folder: str) -> bool:
    files = {item.path for item in request.session.items if _is_in(item, folder)}
    complete = files == set((CHECKOUT / "tests" / folder).glob("test_*.py"))
    return complete and folder not in request.config.stash.get(DESELECTED, set())


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


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A new folder with a short path that the database's account may enter; removed after the test."""
    folder = make_data_dir()
    yield folder
    shutil.rmtree(folder)
