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

from tests.conformance import CHECKOUT, RECORDING, Exchanges
from tests.node import Node
from tests.postgres import TestCluster, make_data_dir, running_cluster

EXCHANGES = pytest.StashKey[Exchanges]()
FIGURES = pytest.StashKey[list[str]]()
COMPLETE = pytest.StashKey[set[str]]()
DESELECTED = pytest.StashKey[set[Path]]()
COUNTED = ("api", "server_server")
"""Folders of tests whose operations are counted, where all of a folder's tests run."""


def _is_worker(config: pytest.Config) -> bool:
    """Whether this process runs a part of the tests for another one, which pytest-xdist started."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    if not _is_worker(config):
        RECORDING.unlink(missing_ok=True)
    config.stash[EXCHANGES] = Exchanges.recording()
    config.stash[FIGURES] = []
    config.stash[COMPLETE] = set()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: of those that run side by side, none is then left over at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    deselected = items[0].config.stash.setdefault(DESELECTED, set())
    deselected |= {item.path.parent for item in items}


def pytest_collection_finish(session: pytest.Session) -> None:
    stash = session.config.stash
    for folder in COUNTED if not session.config.option.collectonly else ():
        path = CHECKOUT / "tests" / folder
        files = {item.path for item in session.items if item.path.parent == path}
        if files == set(path.glob("test_*.py")) and path not in stash.get(DESELECTED, set()):
            stash[COMPLETE].add(folder)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what was seen, or judge it: a run fails as well by what no single test can know."""
    config = session.config
    if _is_worker(config):
        config.workeroutput["seen"] = {  # type: ignore[attr-defined]
            "exchanges": config.stash[EXCHANGES].summary(),
            "figures": config.stash[FIGURES],
            "complete": sorted(config.stash[COMPLETE]),
        }
    elif config.stash[EXCHANGES].shortcomings(config.stash[COMPLETE]):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what one of pytest-xdist's processes has seen; one that crashed has failed a test."""
    if (seen := getattr(node, "workeroutput", {}).get("seen")) is not None:
        stash = node.config.stash
        stash[EXCHANGES].add(seen["exchanges"])
        stash[FIGURES] += seen["figures"]
        stash[COMPLETE] |= set(seen["complete"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    exchanges = config.stash[EXCHANGES]
    for title, lines in (
        ("figures", config.stash[FIGURES]),
        ("conformance with the Matrix specification", exchanges.report() if exchanges.count else []),
        ("FAILED by the run as a whole", exchanges.shortcomings(config.stash[COMPLETE])),
    ):
        if lines:
            terminalreporter.section(title)
            for line in lines:
                terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def exchanges(pytestconfig: pytest.Config) -> Exchanges:
    """All responses that the run's tests have received so far."""
    return pytestconfig.stash[EXCHANGES]


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> list[str]:
    """Lines added here are printed at the end of the run: what was measured, seeds."""
    return pytestconfig.stash[FIGURES]


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
