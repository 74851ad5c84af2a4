"""Invitations to rooms of the other server, and knocks on them."""

from __future__ import annotations

import pytest

from tests.interop.synapse.follower import Follower, same_state

pytestmark = pytest.mark.slow


async def test_an_invitation_tells_of_the_room_and_is_accepted(
    alice: Follower, bob: Follower, version: str
) -> None:
    room_id = await alice.user.create_room(preset="private_chat", room_version=version, name="Plans")
    await alice.user.invite(room_id, bob.user_id)
    shown = {event["type"]: event for event in await bob.invited_to(room_id) if event["state_key"] == ""}
    assert shown["m.room.name"]["content"] == {"name": "Plans"}
    assert shown["m.room.create"]["content"]["room_version"] == version
    await bob.user.join(room_id)
    await alice.membership(room_id, bob.user_id, "join")
    await bob.membership(room_id, alice.user_id, "join")
    await same_state(room_id, alice, bob)
    for follower in (alice, bob):
        members = await follower.user.get("/v3/rooms/{}/joined_members", room_id)
        assert set(members["joined"]) == {alice.user_id, bob.user_id}


async def test_an_invitation_is_declined_and_another_taken_back(
    alice: Follower, bob: Follower, version: str
) -> None:
    room_id = await alice.user.create_room(preset="private_chat", room_version=version)
    await alice.user.invite(room_id, bob.user_id)
    await bob.invited_to(room_id)
    await bob.user.leave(room_id)
    await alice.membership(room_id, bob.user_id, "leave")
    await bob.until(lambda: room_id not in bob.invites, "the invitation go")

    await alice.user.invite(room_id, bob.user_id)
    await bob.invited_to(room_id)
    await alice.user.post("/v3/rooms/{}/kick", room_id, json={"user_id": bob.user_id})
    await bob.until(lambda: room_id not in bob.invites, "the invitation taken back")


async def test_knocking_is_answered_by_an_invitation(alice: Follower, bob: Follower, version: str) -> None:
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
    room_id = await alice.user.create_room(room_version=version, initial_state=[rules])
    server = alice.user.server_name
    await bob.user.post("/v3/knock/{}", room_id, query={"via": server}, json={"reason": "Let me in"})
    await alice.membership(room_id, bob.user_id, "knock")
    await alice.user.invite(room_id, bob.user_id)
    await bob.invited_to(room_id)
    await bob.user.join(room_id)
    await alice.membership(room_id, bob.user_id, "join")
    await same_state(room_id, alice, bob)
