"""Typing and receipts reach the other server."""

from __future__ import annotations

import pytest

from tests.interop.synapse.follower import Follower

pytestmark = pytest.mark.slow


async def test_typing_and_receipts_are_seen_by_the_other_side(
    alice: Follower, bob: Follower, room: str
) -> None:
    for speaker, listener in ((alice, bob), (bob, alice)):
        path = "/v3/rooms/{}/typing/{}"
        await speaker.user.put(path, room, speaker.user_id, json={"typing": True, "timeout": 30_000})
        await listener.until(
            lambda s=speaker, f=listener: s.user_id in f.typing.get(room, []), "somebody typing"
        )
        await speaker.user.put(path, room, speaker.user_id, json={"typing": False})
        await listener.until(
            lambda s=speaker, f=listener: s.user_id not in f.typing.get(room, []), "the end of typing"
        )
        message = await speaker.user.send(room, "Have you read this?")
        await listener.event(message)
        await listener.user.post("/v3/rooms/{}/receipt/m.read/{}", room, message)
        await speaker.until(
            lambda s=speaker, f=listener, m=message: (m, f.user_id) in s.receipts, "the receipt"
        )
