"""Reads for many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from homeserver.batched_reads import KEYS_MAX, READS_MAX, BatchedReads


class Source:
    """Storage that answers when it is let; its values count up."""

    def __init__(self) -> None:
        self.value = 0
        self.reads: list[list[str]] = []
        self.open = asyncio.Event()
        self.fails = False

    async def read(self, keys: Collection[str]) -> dict[str, int]:
        self.reads.append(list(keys))
        self.value += 1
        read = {key: self.value for key in keys if key != "missing"}
        fails = self.fails
        await self.open.wait()
        if fails:
            raise OSError("gone")
        return read


async def begun(reads: BatchedReads[str, int], *keys: str) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(reads.of(key)) for key in keys]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_what_is_asked_for_while_a_read_is_under_way_is_read_together_afterwards() -> None:
    source = Source()
    reads = BatchedReads(source.read)
    first = await begun(reads, "a", "b")
    second = await begun(reads, "c", "a", "c")
    assert source.reads == [["a", "b"]]
    source.open.set()
    assert await asyncio.gather(*first, *second) == [1, 1, 2, 2, 2]  # nothing older than the question
    assert source.reads == [["a", "b"], ["c", "a"]]
    assert await reads.of("a") == 3


async def test_where_much_waits_a_few_reads_are_under_way_each_bounded() -> None:
    source = Source()
    reads = BatchedReads(source.read)
    count = (READS_MAX + 2) * KEYS_MAX + 1
    waiting = await begun(reads, *map(str, range(count)))
    assert [len(keys) for keys in source.reads] == [KEYS_MAX] * READS_MAX
    source.open.set()
    await asyncio.gather(*waiting)
    assert [key for keys in source.reads for key in keys] == list(map(str, range(count)))
    assert max(map(len, source.reads)) == KEYS_MAX


async def test_a_read_that_fails_does_for_those_who_wait_for_it_alone() -> None:
    source = Source()
    reads = BatchedReads(source.read)
    source.fails = True
    first = await begun(reads, "a", "b")
    source.fails = False
    second = await begun(reads, "a")
    source.open.set()
    for task in first:
        with pytest.raises(OSError):
            await task
    assert await second[0] == 2
    with pytest.raises(KeyError):
        await reads.of("missing")


async def test_who_gives_up_takes_nobody_along() -> None:
    source = Source()
    reads = BatchedReads(source.read)
    given_up, waiting = await begun(reads, "a", "a")
    [later] = await begun(reads, "b")
    given_up.cancel()
    later.cancel()
    source.open.set()
    assert await waiting == 1
    assert await reads.of("a") == 2
    assert source.reads[-1] == ["a"]
