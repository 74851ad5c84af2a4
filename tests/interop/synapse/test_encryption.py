"""Encrypted rooms with matrix-js-sdk, one of whose people is on Synapse."""

from __future__ import annotations

import pytest

from tests.interop.encrypted_talk import talk_encrypted
from tests.interop.synapse.follower import Follower

pytestmark = [pytest.mark.node_js, pytest.mark.slow]


async def test_between_a_node_and_synapse(alice: Follower, bob: Follower) -> None:
    await talk_encrypted(alice.user, bob.user)
