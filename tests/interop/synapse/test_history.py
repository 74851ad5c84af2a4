"""Paging back through what was said before one's server was in the room."""

from __future__ import annotations

import pytest

from tests.api.client import JsonObject
from tests.interop.synapse.conftest import OTHER
from tests.interop.synapse.follower import Follower, same_state

pytestmark = pytest.mark.slow

MESSAGES = 500
PASSES_MAX = {"veche": 1, "synapse": 20}
"""How often a client may have to page back to see all: Synapse fetches history while it answers."""


async def test_500_earlier_messages_are_reached_by_paging_back(
    alice: Follower, bob: Follower, version: str, creating: str
) -> None:
    room_id = await alice.user.create_room(room_version=version)
    earlier = [await alice.user.send(room_id, f"message {number}") for number in range(MESSAGES)]
    await bob.user.post("/v3/join/{}", room_id, query={"via": alice.user.server_name})

    paged = await bob.user.history(room_id)
    passes = 1
    while len(messages_of(paged)) < MESSAGES and passes < PASSES_MAX[OTHER[creating]]:
        paged = await bob.user.history(room_id)
        passes += 1
    assert [event["event_id"] for event in messages_of(paged)] == earlier[::-1]
    assert [event["content"]["body"] for event in messages_of(paged)[:2]] == ["message 499", "message 498"]
    assert paged[-1]["type"] == "m.room.create"
    there = await alice.user.history(room_id)
    assert [event["event_id"] for event in paged] == [event["event_id"] for event in there]


def messages_of(events: list[JsonObject]) -> list[JsonObject]:
    return [event for event in events if event["type"] == "m.room.message"]


async def test_what_was_said_before_is_hidden_where_history_is_for_members_only(
    alice: Follower, bob: Follower, version: str
) -> None:
    narrow = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room_id = await alice.user.create_room(room_version=version, initial_state=[narrow])
    secret = [await alice.user.send(room_id, f"secret {number}") for number in range(20)]
    await bob.user.post("/v3/join/{}", room_id, query={"via": alice.user.server_name})
    await bob.membership(room_id, bob.user_id, "join")
    heard = await alice.user.send(room_id, "Welcome")
    await bob.event(heard)
    there = {event["event_id"] for event in await bob.user.history(room_id)}
    assert heard in there
    assert not there & set(secret)


async def test_who_left_and_comes_back_sees_what_was_said_meanwhile(
    alice: Follower, bob: Follower, version: str
) -> None:
    room_id = await alice.user.create_room(room_version=version)
    await bob.user.post("/v3/join/{}", room_id, query={"via": alice.user.server_name})
    await bob.membership(room_id, bob.user_id, "join")
    await alice.membership(room_id, bob.user_id, "join")
    await bob.user.leave(room_id)
    await alice.membership(room_id, bob.user_id, "leave")
    missed = [await alice.user.send(room_id, f"{number}") for number in range(5)]
    topic = await alice.user.set_state(room_id, "m.room.topic", {"topic": "Behind your back"})

    await bob.user.post("/v3/join/{}", room_id, query={"via": alice.user.server_name})
    await alice.membership(room_id, bob.user_id, "join")
    state = await same_state(room_id, alice, bob)
    assert state[("m.room.topic", "")] == topic
    there = {event["event_id"] for event in await bob.user.history(room_id)}
    assert {*missed, topic} <= there
