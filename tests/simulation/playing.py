"""Stories in a process of its own, in which sets of strings have the same order each time."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from tests.simulation.bystander import Bystander
from tests.simulation.companies import Company, configure_log
from tests.simulation.databases import empty
from tests.simulation.network import Network
from tests.simulation.simulated_loop import SimulatedLoop
from tests.simulation.story import Story

NAMES = ("acme.test", "globex.test", "initech.test")
START_MS = 2_000_000_000_000
STORY_S = 300.0  # real: no story takes that long


@dataclass(frozen=True, slots=True)
class Played:
    """What happened. `trace` has a line for each request that arrived, and when."""

    crashes: int
    trace: Sequence[str]
    questions: int
    lasted_s: float


@dataclass(frozen=True, slots=True)
class Stage:
    """What all stories use, one after another: a database for each company, and whom to look at them."""

    urls: Sequence[str]
    ca_file: Path
    bystander: Bystander

    def play(self, seed: int) -> Played:
        """Raises AssertionError where something is wrong in the end."""
        for url in self.urls:
            asyncio.run(empty(url))
        loop = SimulatedLoop(Random(f"loop {seed}"), START_MS, self.bystander)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time_ns", loop.now_ns)
            patch.setattr("homeserver.metrics.STALL_TICK_S", 3600.0)
            try:
                return loop.run_until_complete(self._play(seed, loop))
            finally:
                loop.close()

    async def _play(self, seed: int, loop: SimulatedLoop) -> Played:
        network = Network(Random(f"network {seed}"))
        companies = [
            Company(
                name=name, number=number, seed=seed, database_url=url, names=NAMES, ca_file=self.ca_file,
                loop=loop, network=network,
            )
            for number, (name, url) in enumerate(zip(NAMES, self.urls, strict=True), 1)
        ]  # fmt: skip
        story = Story(seed, loop, network, companies)
        try:
            for company in companies:
                await company.start()
                await company.make_users()
                network.add(company)
            await story.begin()
            await story.unfold()
            await story.end_well()
            await story.check()
            crashes = sum(company.crashes for company in companies)
            await story.check_stored()
        finally:
            for company in companies:
                await company.stop()
        return Played(crashes, tuple(network.trace), loop.turns.asked_count, loop.time())


class Player:
    """Plays in another process, one story after another."""

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        self._executor = executor

    def play(self, seed: int) -> Played:
        """As `Stage.play`."""
        return self._executor.submit(_play, seed).result(STORY_S)


@contextmanager
def player(urls: Sequence[str], dsn: str, ca_file: Path, *, is_log_shown: bool) -> Iterator[Player]:
    """`dsn` is that of any database of the cluster but these."""
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), _set_up, (urls, dsn, ca_file, is_log_shown)
    ) as executor:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONHASHSEED", "0")
            executor.submit(os.getpid).result()
        yield Player(executor)


_stage: Stage  # of the process that plays


def _set_up(urls: Sequence[str], dsn: str, ca_file: Path, is_log_shown: bool) -> None:
    global _stage
    configure_log(is_log_shown)
    if not is_log_shown:
        logging.disable()  # asyncpg's: a node that is killed loses its connections
    _stage = Stage(urls, ca_file, Bystander(dsn))


def _play(seed: int) -> Played:
    return _stage.play(seed)
