"""Many who want the same thing: one fetches it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from federation.transport.single_flight import SingleFlight


def counted(
    gate: asyncio.Event, calls: list[int], result: int | Exception = 7
) -> Callable[[], Awaitable[int]]:
    async def work() -> int:
        calls.append(1)
        await gate.wait()
        if isinstance(result, Exception):
            raise result
        return result

    return work


async def test_all_get_what_one_fetched() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    gate, calls = asyncio.Event(), list[int]()
    waiting = [asyncio.ensure_future(flights.run("a", counted(gate, calls))) for _ in range(5)]
    other = asyncio.ensure_future(flights.run("b", counted(gate, calls)))
    await asyncio.sleep(0)
    assert len(flights) == 2
    gate.set()
    assert await asyncio.gather(*waiting, other) == [7] * 6
    assert len(calls) == 2 and len(flights) == 0


async def test_all_get_what_it_failed_with_and_the_next_one_tries_again() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    gate, calls = asyncio.Event(), list[int]()
    failing = counted(gate, calls, OSError("down"))
    waiting = [asyncio.ensure_future(flights.run("a", failing)) for _ in range(3)]
    await asyncio.sleep(0)
    gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(result) for result in results] == ["down"] * 3 and len(calls) == 1
    assert await flights.run("a", counted(gate, calls)) == 7


async def test_where_the_one_who_fetches_is_cancelled_another_takes_over() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    gate, calls = asyncio.Event(), list[int]()
    first = asyncio.ensure_future(flights.run("a", counted(gate, calls)))
    second = asyncio.ensure_future(flights.run("a", counted(gate, calls)))
    third = asyncio.ensure_future(flights.run("a", counted(gate, calls)))
    await asyncio.sleep(0)
    first.cancel()
    third.cancel()  # one who waits may leave without harm to the others
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.set()
    assert await second == 7
    assert len(calls) == 2 and third.cancelled()
