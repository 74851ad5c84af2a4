"""A client built on matrix-js-sdk that uses sliding sync, in Node.js: see js/sliding.mjs."""

from __future__ import annotations

import pytest

from tests.interop.js_sdk import run_program

TIMEOUT_S = 120.0
STEPS = [
    "the first page",
    "a larger window",
    "a message",
    "a change of state",
    "typing and receipts",
    "account data",
    "an invite",
    "leaving",
    "to-device messages",
]


@pytest.mark.node_js
async def test_a_client_sees_its_rooms_by_sliding_sync(proxy_url: str) -> None:
    assert await run_program("sliding.mjs", proxy_url, timeout_s=TIMEOUT_S) == STEPS
