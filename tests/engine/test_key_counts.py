"""Counts of one-time keys, carried on from batch to batch of the commit log."""

from __future__ import annotations

import asyncio
from itertools import count, permutations

import pytest

from homeserver.commit_log.change import Change
from homeserver.encryption.key_counts import KeyCounts
from homeserver.storage.one_time_keys import ClaimChange, OneTimeKeysChange, fetch_counts
from tests.engine.conftest import CACHE_BYTES, Engine

CURVE = "signed_curve25519"
nids = count(1)  # of devices: the database is that of all tests here


def upload(device_nid: int, key_id: str, *, is_counted: bool) -> OneTimeKeysChange:
    return OneTimeKeysChange(device_nid, {(CURVE, key_id): b'"key"'}, {}, is_counted=is_counted)


@pytest.mark.parametrize("is_counted", [True, False])
async def test_counts_are_what_is_stored_in_whatever_order_a_batch_has_uploads_and_claims(
    engine: Engine, is_counted: bool
) -> None:
    counts = KeyCounts(engine.database.pool, engine.log, cache_bytes=CACHE_BYTES)
    for order in permutations(range(3)):
        device_nids = device, other = next(nids), next(nids)
        await engine.log.commit(upload(device, "0", is_counted=True), upload(other, "0", is_counted=True))
        changes: list[Change] = [
            ClaimChange([(other, CURVE)], ["@bob:veche.test"]),
            upload(device, "1", is_counted=is_counted),
            ClaimChange([(device, CURVE)], ["@alice:veche.test"]),
        ]
        await asyncio.gather(*(engine.log.submit([changes[index]]) for index in order))
        stored = await fetch_counts(engine.database.pool, device_nids)
        told = {nid: (await counts.of(nid)).one_time for nid in device_nids}
        assert told == {nid: {CURVE: 0, **stored[nid].one_time} for nid in device_nids}
        assert told == {device: {CURVE: 1}, other: {CURVE: 0}}
