"""Rooms that are shared with a Synapse: what one side does, the other side sees."""

from __future__ import annotations

import pytest

from tests.api.client import JsonObject
from tests.interop.synapse.conftest import Pair
from tests.interop.synapse.follower import Follower, same_state

pytestmark = pytest.mark.slow


async def test_a_public_room_is_joined_by_its_alias(
    alice: Follower, bob: Follower, version: str, creating: str, pair: Pair
) -> None:
    alias = f"open-{creating}-{version}"
    room_id = await alice.user.create_room(room_version=version, room_alias_name=alias)
    await bob.user.join(f"#{alias}:{pair.apis[creating].server_name}")
    await alice.membership(room_id, bob.user_id, "join")
    await same_state(room_id, alice, bob)


async def test_members_of_one_room_may_join_another(
    alice: Follower, bob: Follower, room: str, version: str
) -> None:
    allow = [{"type": "m.room_membership", "room_id": room}]
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}
    restricted = await alice.user.create_room(
        preset="private_chat", room_version=version, initial_state=[rules]
    )
    await bob.user.post("/v3/join/{}", restricted, query={"via": alice.user.server_name})
    await alice.membership(restricted, bob.user_id, "join")
    await bob.membership(restricted, alice.user_id, "join")
    state = await same_state(restricted, alice, bob)
    joined = await alice.user.event(restricted, state[("m.room.member", bob.user_id)])
    assert joined["content"]["join_authorised_via_users_server"] == alice.user_id


async def test_messages_go_both_ways_and_in_the_same_order(alice: Follower, bob: Follower, room: str) -> None:
    sent = []
    for number in range(4):
        for speaker, listener in ((alice, bob), (bob, alice)):
            text = f"{number} from {speaker.user_id}"
            sent.append(await speaker.user.send(room, text))
            seen = await listener.event(sent[-1])
            assert (seen["content"]["body"], seen["sender"]) == (text, speaker.user_id)
    for follower in (alice, bob):
        messages = [e for e in await follower.user.history(room) if e["type"] == "m.room.message"]
        assert [event["event_id"] for event in messages] == sent[::-1]


async def test_edits_and_reactions_are_bundled_on_both_sides(
    alice: Follower, bob: Follower, room: str
) -> None:
    question = await alice.user.send(room, "Lunch?")
    await bob.event(question)
    edited: JsonObject = {
        "msgtype": "m.text",
        "body": "* Lunch at noon?",
        "m.new_content": {"msgtype": "m.text", "body": "Lunch at noon?"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": question},
    }
    await bob.event(await alice.user.send(room, edited))
    relation = {"rel_type": "m.annotation", "event_id": question, "key": "👍"}
    await alice.event(await bob.user.send(room, {"m.relates_to": relation}, type="m.reaction"))
    for follower in (alice, bob):
        seen = await follower.user.event(room, question)
        replaced = seen["unsigned"]["m.relations"]["m.replace"]
        assert replaced["content"]["m.new_content"]["body"] == "Lunch at noon?"
        path = "/v1/rooms/{}/relations/{}/m.annotation"
        reactions = await follower.user.get(path, room, question)
        assert [event["sender"] for event in reactions["chunk"]] == [bob.user_id]


async def test_state_changes_count_on_both_sides(alice: Follower, bob: Follower, room: str) -> None:
    topic = await alice.user.set_state(room, "m.room.topic", {"topic": "Tomorrow"})
    await bob.event(topic)
    assert await bob.user.state(room, "m.room.topic") == {"topic": "Tomorrow"}

    levels = await alice.user.state(room, "m.room.power_levels")
    users = {**levels.get("users", {}), bob.user_id: 50}
    promoted = await alice.user.set_state(room, "m.room.power_levels", {**levels, "users": users})
    await bob.event(promoted)
    name = await bob.user.set_state(room, "m.room.name", {"name": "Plans of tomorrow"})
    await alice.event(name)
    state = await same_state(room, alice, bob)
    assert (state[("m.room.topic", "")], state[("m.room.name", "")]) == (topic, name)


async def test_redactions_take_effect_on_both_sides(alice: Follower, bob: Follower, room: str) -> None:
    regretted = await bob.user.send(room, "I did not mean that")
    rude = await bob.user.send(room, "This neither")
    await alice.event(rude)
    for speaker, listener, event_id in ((bob, alice, regretted), (alice, bob, rude)):
        redaction = await speaker.user.redact(room, event_id, reason="regret")
        seen = await listener.event(redaction)
        assert seen["content"]["reason"] == "regret"
        for follower in (alice, bob):
            redacted = await follower.user.event(room, event_id)
            assert redacted["content"] == {}
            assert redacted["unsigned"]["redacted_because"]["event_id"] == redaction
