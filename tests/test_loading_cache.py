"""The cache over storage, and locks by key."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from homeserver.keyed_locks import KeyedLocks
from homeserver.loading_cache import LoadingCache


class Source:
    """Storage that answers when it is let."""

    def __init__(self) -> None:
        self.value = 1
        self.reads = 0
        self.open = asyncio.Event()
        self.open.set()

    async def load(self, keys: Collection[str]) -> dict[str, int]:
        self.reads += 1
        read = {key: self.value for key in keys if key != "missing"}
        await self.open.wait()
        return read


def new_cache(source: Source, bytes_max: int = 100) -> LoadingCache[str, int]:
    return LoadingCache(source.load, lambda key, value: 10, bytes_max)


async def test_a_value_is_read_once() -> None:
    source = Source()
    cache = new_cache(source)
    assert [await cache.load("a") for _ in range(3)] == [1, 1, 1]
    assert source.reads == 1


async def test_what_changes_while_it_is_read_is_not_kept() -> None:
    source = Source()
    source.open.clear()
    cache = new_cache(source)
    reading = asyncio.create_task(cache.load("a"))
    await asyncio.sleep(0)
    source.value = 2
    cache.forget("a")
    source.open.set()
    assert await reading == 1
    assert await cache.load("a") == 2


async def test_a_newer_value_put_while_reading_stays() -> None:
    source = Source()
    source.open.clear()
    cache = new_cache(source)
    reading = asyncio.create_task(cache.load("a"))
    await asyncio.sleep(0)
    cache.put("a", 2)
    source.open.set()
    await reading
    assert cache.get("a") == 2


async def test_the_least_recently_used_is_dropped_over_the_bound() -> None:
    cache = new_cache(Source(), bytes_max=30)
    await cache.load_many(["a", "b", "c"])
    cache.get("a")
    await cache.load("d")
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]
    assert cache.size_bytes == 30


async def test_what_the_reader_does_not_have_is_a_key_error() -> None:
    cache = new_cache(Source())
    assert await cache.load_many(["a", "missing"]) == {"a": 1}
    with pytest.raises(KeyError):
        await cache.load("missing")


async def test_one_at_a_time_for_each_key() -> None:
    locks: KeyedLocks[str] = KeyedLocks()
    inside: list[str] = []

    async def enter(key: str) -> None:
        async with locks.hold(key):
            assert key not in inside
            inside.append(key)
            await asyncio.sleep(0)
            inside.remove(key)

    await asyncio.gather(*(enter(key) for key in "aabbab"))
    assert locks.count == 0
