"""Messages that wait for devices, where the queues are long."""

from __future__ import annotations

from itertools import count

from homeserver.storage.to_device import ToDeviceChange, fetch_messages, shorten_queues
from tests.engine.conftest import Engine

nids = count(501)  # of devices: the database is that of all tests here
BYTES_MAX, EVENT_BYTES_MAX = 500, 250


async def send(engine: Engine, device_nid: int, number: int, size_bytes: int) -> None:
    event = b'{"n":%d,"text":"' % number
    event += b"x" * (size_bytes - len(event) - 2) + b'"}'
    await engine.log.commit(ToDeviceChange("@alice:veche.test", device_nid, event))


async def waiting(engine: Engine, device_nid: int) -> list[int]:
    rows = await fetch_messages(engine.database.pool, device_nid, 0, engine.log.position, 100)
    return [int(event[5:6]) for _, event in rows]


async def shorten(engine: Engine) -> int:
    return await shorten_queues(engine.database.pool, BYTES_MAX, event_bytes_max=EVENT_BYTES_MAX)


async def test_of_what_waits_for_a_device_the_oldest_beyond_a_bound_go(engine: Engine) -> None:
    comes, stays_away = next(nids), next(nids)
    for number in range(10):
        await send(engine, stays_away, number, 100)
        if number < 5:
            await send(engine, comes, number, 100)
    assert await shorten(engine) == 5
    assert await shorten(engine) == 0
    assert await waiting(engine, stays_away) == [5, 6, 7, 8, 9]
    assert await waiting(engine, comes) == [0, 1, 2, 3, 4]


async def test_few_messages_as_long_as_may_be_are_too_much_too(engine: Engine) -> None:
    at_the_bound, over = next(nids), next(nids)
    for number in range(3):
        await send(engine, over, number, EVENT_BYTES_MAX)
        if number < 2:
            await send(engine, at_the_bound, number, EVENT_BYTES_MAX)
    assert await shorten(engine) == 1
    assert await waiting(engine, over) == [1, 2]
    assert await waiting(engine, at_the_bound) == [0, 1]
