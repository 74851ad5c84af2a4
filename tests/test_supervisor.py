"""Background tasks: restarted with back-off, counted, ended in order."""

from __future__ import annotations

import asyncio

import pytest

from homeserver import supervisor
from homeserver.supervisor import Supervisor, TooManyJobs


async def test_a_failing_task_is_started_again_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "RESTART_DELAY_MIN_S", 0.001)
    restarts: list[str] = []
    finished = asyncio.Event()

    async def flaky() -> None:
        if len(restarts) < 3:
            raise RuntimeError("not yet")
        finished.set()

    owner = Supervisor(restarts.append)
    owner.start("flaky", flaky)
    await asyncio.wait_for(finished.wait(), 5)
    await owner.stop()
    assert restarts == ["flaky"] * 3


async def test_tasks_are_cancelled_newest_first_each_after_the_one_before() -> None:
    ended: list[str] = []
    running = {name: asyncio.Event() for name in ("database", "commits", "sender")}
    owner = Supervisor(lambda name: None)
    for name in running:

        async def task(name: str = name) -> None:
            running[name].set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)  # an ending that takes its time
                ended.append(name)

        owner.start(name, task)
    for event in running.values():
        await event.wait()

    await owner.stop()
    assert ended == ["sender", "commits", "database"]


async def test_a_name_is_taken_once_at_a_time() -> None:
    owner = Supervisor(lambda name: None)

    async def forever() -> None:
        await asyncio.Event().wait()

    owner.start("sender", forever)
    with pytest.raises(ValueError, match="sender runs already"):
        owner.start("sender", forever)
    await owner.stop()
    owner.start("sender", forever)
    await owner.stop()


async def test_jobs_run_once_are_bounded_and_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "JOBS_MAX", 2)
    owner = Supervisor(lambda name: pytest.fail("a job is not started again"))
    cancelled: list[int] = []

    async def fails() -> None:
        raise RuntimeError("once")

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    owner.run_once("fails", fails())
    owner.run_once("waits", waits())
    with pytest.raises(TooManyJobs):
        owner.run_once("waits", waits())
    while owner.jobs_count > 1:  # the failed one makes room
        await asyncio.sleep(0)
    await owner.stop()
    assert cancelled == [1]
    assert owner.jobs_count == 0
