"""A chat of two clients built on matrix-js-sdk, in Node.js: see js/chat.mjs."""

from __future__ import annotations

import pytest

from tests.interop.js_sdk import run_program

TIMEOUT_S = 120.0
STEPS = [
    "register and login",
    "invite",
    "join",
    "send",
    "edit",
    "react",
    "thread",
    "redact",
    "typing",
    "receipt",
    "page back",
    "all",
]


@pytest.mark.node_js
async def test_two_clients_chat_and_see_everything_by_sync(proxy_url: str) -> None:
    assert await run_program("chat.mjs", proxy_url, timeout_s=TIMEOUT_S) == STEPS
