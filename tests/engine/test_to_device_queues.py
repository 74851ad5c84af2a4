"""Messages that wait for devices, where the queues are long."""

from __future__ import annotations

from homeserver.storage.to_device import ToDeviceChange, fetch_messages, shorten_queues
from tests.engine.conftest import Engine

COMES, STAYS_AWAY = 501, 502


async def test_of_what_waits_for_a_device_the_oldest_beyond_a_bound_go(engine: Engine) -> None:
    pool = engine.database.pool
    for number in range(10):
        event = b'{"n":%d,"text":"%s"}' % (number, b"x" * 80)
        await engine.log.commit(ToDeviceChange("@alice:veche.test", STAYS_AWAY, event))
        if number < 5:
            await engine.log.commit(ToDeviceChange("@bob:veche.test", COMES, event))
    assert await shorten_queues(pool, 500) == 5
    assert await shorten_queues(pool, 500) == 0

    async def waiting(device_nid: int) -> list[int]:
        rows = await fetch_messages(pool, device_nid, 0, engine.log.position, 100)
        return [int(event[5:6]) for _, event in rows]

    assert await waiting(STAYS_AWAY) == [5, 6, 7, 8, 9]
    assert await waiting(COMES) == [0, 1, 2, 3, 4]
