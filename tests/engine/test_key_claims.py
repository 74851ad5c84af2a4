"""Claims of one-time keys as they are stored: in order, each key once, and never again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count

import pytest

from homeserver.encryption.device_numbers import DeviceNumbers
from homeserver.encryption.key_claims import CLAIMED_KEPT_MS, LocalClaims
from homeserver.storage.one_time_keys import (
    ClaimChange,
    OneTimeKeyDiffers,
    OneTimeKeysChange,
    WantedKey,
    fetch_counts,
)
from tests.engine.conftest import CACHE_BYTES, Engine

nids = count(1_000_001)  # of devices, which need not be there


async def upload(
    engine: Engine, device_nid: int, *key_ids: str, algorithm: str = "a", json: str = "1"
) -> None:
    keys = {(algorithm, key_id): json.encode() for key_id in key_ids}
    await engine.log.commit(OneTimeKeysChange(device_nid, keys, {}))


async def claim(engine: Engine, *wanted: WantedKey) -> list[str | None]:
    """The ids of the keys that are given."""
    change = ClaimChange(wanted, ["@alice:veche.test"] * len(wanted))
    await engine.log.commit(change)
    return [key[0] if key is not None else None for key in change.keys]


async def unclaimed(engine: Engine, device_nid: int) -> dict[str, int]:
    return (await fetch_counts(engine.database.pool, (device_nid,)))[device_nid].one_time


@pytest.fixture
def claims(engine: Engine) -> LocalClaims:
    pool = engine.database.pool
    return LocalClaims(pool, engine.log, DeviceNumbers(pool, cache_bytes=CACHE_BYTES), engine.clock)


@pytest.mark.parametrize("amount", [1, 2, 3, 7])
async def test_keys_are_given_in_order_where_uploads_of_devices_and_algorithms_alternate(
    engine: Engine, amount: int
) -> None:
    wanted: Sequence[WantedKey] = [(next(nids), "a"), (next(nids), "a")]
    wanted = [*wanted, (wanted[0][0], "b")]
    numbers = count()
    expected: dict[WantedKey, list[str | None]] = {one: [] for one in wanted}
    for size in (1, 3, 2, 1, 1, 5):
        for device_nid, algorithm in wanted:
            key_ids = [f"{next(numbers):03}" for _ in range(size)]
            expected[device_nid, algorithm] += key_ids
            await upload(engine, device_nid, *key_ids, algorithm=algorithm)
    given: dict[WantedKey, list[str | None]] = {one: [] for one in wanted}
    for _ in range(20 // amount):
        for keys in await asyncio.gather(*(claim(engine, *wanted) for _ in range(amount))):
            for one, key_id in zip(wanted, keys, strict=True):
                given[one].append(key_id)
    for one, key_ids in expected.items():
        assert given[one] == [*key_ids, *[None] * len(given[one])][: len(given[one])]


async def test_claimed_keys_stay_gone_for_the_time_that_a_repeated_upload_may_come(
    engine: Engine, claims: LocalClaims
) -> None:
    device_nid = next(nids)
    await upload(engine, device_nid, "1", "2", "3")
    assert await claim(engine, (device_nid, "a")) == ["1"]
    await claims.sweep()
    engine.clock.now += CLAIMED_KEPT_MS - 1
    assert await claim(engine, (device_nid, "a")) == ["2"]
    await claims.sweep()
    for key_id in ("1", "2"):
        await upload(engine, device_nid, key_id)
        with pytest.raises(OneTimeKeyDiffers):
            await upload(engine, device_nid, key_id, json="2")
    assert await unclaimed(engine, device_nid) == {"a": 1}

    engine.clock.now += 2
    await claims.sweep()  # of the first only: the other was claimed just now
    await upload(engine, device_nid, "1", json="2")
    with pytest.raises(OneTimeKeyDiffers):
        await upload(engine, device_nid, "2", json="2")
    assert await unclaimed(engine, device_nid) == {"a": 2}

    for _ in range(2):
        engine.clock.now += CLAIMED_KEPT_MS + 1
        await claims.sweep()
    select = "SELECT key_id FROM one_time_keys WHERE device_nid = $1 ORDER BY nid"
    rows = await engine.database.pool.fetch(select, device_nid)
    assert [row["key_id"] for row in rows] == ["3", "1"]  # what nobody claimed
    assert await claim(engine, (device_nid, "a")) == ["3"]
    engine.clock.now += 10 * CLAIMED_KEPT_MS  # whenever it is noted, it is kept from then on
    await claims.sweep()
    with pytest.raises(OneTimeKeyDiffers):
        await upload(engine, device_nid, "3", json="2")
    assert await claim(engine, (device_nid, "a")) == ["1"]
    assert await claim(engine, (device_nid, "a")) == [None]
    assert await unclaimed(engine, device_nid) == {}
