"""A talk of two people with two devices each in an encrypted room: js/encryption.mjs, on matrix-js-sdk."""

from __future__ import annotations

import json

from tests.api.client import PASSWORD, User
from tests.interop.js_sdk import run_program
from tests.interop.proxy import observing_proxy

TIMEOUT_S = 280.0
STEPS = [
    "identities",
    "meet in an encrypted room",
    "both ways",
    "verify by emoji",
    "alice 2 reads old messages",
    "bob 2 reads old messages",
    "all devices read each other",
    "no keys for a device that logged out",
    "all",
]


async def talk_encrypted(alice: User, bob: User) -> None:
    """They log in on devices of their own, which is why those that they have are logged out."""
    for user in (alice, bob):
        await user.post("/v3/logout")
    async with (
        observing_proxy(alice.url, alice.exchanges) as alice_url,
        observing_proxy(bob.url, bob.exchanges) as bob_url,
    ):
        people = {
            "password": PASSWORD,
            "alice": {"url": alice_url, "user": alice.user_id},
            "bob": {"url": bob_url, "user": bob.user_id},
        }
        steps = await run_program("encryption.mjs", json.dumps(people), timeout_s=TIMEOUT_S)
    assert steps == STEPS
