"""Sliding sync tells the same where nothing that it needs is in memory: see test_sliding_sync_model.py."""

from __future__ import annotations

import pytest

from tests.api.client import Api
from tests.api.sliding_run import run, seeds

SETTINGS = {"limits": {"tail_bytes": 1, "sliding_sync_cache_bytes": 1, "room_cache_bytes": 1}}


@pytest.mark.parametrize("seed", seeds(2, 2001))
async def test_what_the_client_knows_is_true(api: Api, seed: int) -> None:
    await run(api, seed, None)
