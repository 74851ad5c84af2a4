"""Background tasks: named, started again when they fail, counted, and cancelled in reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger()

RESTART_DELAY_MIN_S = 0.1
RESTART_DELAY_MAX_S = 60.0
SETTLED_S = 60.0  # a task that ran this long starts again without delay
JOBS_MAX = 1_000


class TooManyJobs(Exception):
    """JOBS_MAX jobs are running: do the work in the request, or refuse it."""


class Supervisor:
    """Owns every task that is not a request's own.

    ``on_restart`` is told the name of each task that failed, to count it.
    """

    def __init__(self, on_restart: Callable[[str], None]) -> None:
        self._on_restart = on_restart
        self._tasks: dict[str, asyncio.Task[None]] = {}  # in the order of their start
        self._jobs: set[asyncio.Task[None]] = set()

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run ``run`` until it returns; when it fails, again, after a delay that doubles.

        Raises ValueError if a task of that name is running.
        """
        task = self._tasks.get(name)
        if task is not None and not task.done():
            raise ValueError(f"the task {name} runs already")
        self._tasks.pop(name, None)  # so that it counts as the newest
        self._tasks[name] = asyncio.get_running_loop().create_task(self._keep_running(name, run), name=name)

    def run_once(self, name: str, job: Coroutine[Any, Any, None]) -> None:
        """Run ``job`` beside everything else, once; a failure is logged. Raises TooManyJobs."""
        if len(self._jobs) >= JOBS_MAX:
            job.close()
            raise TooManyJobs(name)
        task = asyncio.get_running_loop().create_task(self._run_job(name, job), name=name)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    @property
    def jobs_count(self) -> int:
        """How many jobs of ``run_once`` are running."""
        return len(self._jobs)

    async def stop(self) -> None:
        """Cancel the jobs, then the tasks, the newest first, each when the one before has ended."""
        await _cancel(list(self._jobs))
        while self._tasks:
            _, task = self._tasks.popitem()
            await _cancel([task])

    async def _keep_running(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        delay = RESTART_DELAY_MIN_S
        while True:
            started = loop.time()
            try:
                await run()
            except Exception:
                if loop.time() - started >= SETTLED_S:
                    delay = RESTART_DELAY_MIN_S
                log.exception("background task failed", task=name, restart_seconds=delay)
                self._on_restart(name)
                await asyncio.sleep(delay)
                delay = min(delay * 2, RESTART_DELAY_MAX_S)
            else:
                return

    async def _run_job(self, name: str, job: Coroutine[Any, Any, None]) -> None:
        try:
            await job
        except Exception:
            log.exception("background job failed", task=name)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
