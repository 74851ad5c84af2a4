"""Who leaves, by their own will or not, and comes back."""

from __future__ import annotations

import pytest

from tests.interop.synapse.conftest import OTHER, Pair
from tests.interop.synapse.follower import Follower, same_state

pytestmark = pytest.mark.slow


async def test_who_is_banned_cannot_come_back(alice: Follower, bob: Follower, room: str) -> None:
    await alice.user.post("/v3/rooms/{}/ban", room, json={"user_id": bob.user_id, "reason": "enough"})
    await bob.until(lambda: room in bob.left, "the ban")
    with pytest.raises(Exception, match="403"):
        await bob.user.post("/v3/join/{}", room, query={"via": alice.user.server_name})
    await alice.user.post("/v3/rooms/{}/unban", room, json={"user_id": bob.user_id})
    await bob.user.post("/v3/join/{}", room, query={"via": alice.user.server_name})
    await bob.membership(room, bob.user_id, "join")
    await alice.membership(room, bob.user_id, "join")
    await same_state(room, alice, bob)


async def test_users_of_both_sides_leave_and_the_rest_goes_on(
    alice: Follower, bob: Follower, room: str, creating: str, pair: Pair
) -> None:
    carol = await pair.newcomer(OTHER[creating], "carol")
    await carol.user.join(room)
    await alice.membership(room, carol.user_id, "join")
    await bob.user.leave(room)
    await alice.membership(room, bob.user_id, "leave")
    await carol.membership(room, bob.user_id, "leave")
    await carol.event(await alice.user.send(room, "Who is still here?"))
    await alice.event(await carol.user.send(room, "I am"))
    await same_state(room, alice, carol)


async def test_who_left_comes_back(alice: Follower, bob: Follower, room: str) -> None:
    await bob.user.leave(room)
    await alice.membership(room, bob.user_id, "leave")
    await bob.until(lambda: room in bob.left, "that they have left")
    await alice.user.send(room, "Behind your back")
    topic = await alice.user.set_state(room, "m.room.topic", {"topic": "Behind your back"})
    await bob.user.post("/v3/join/{}", room, query={"via": alice.user.server_name})
    await alice.membership(room, bob.user_id, "join")
    state = await same_state(room, alice, bob)
    assert state[("m.room.topic", "")] == topic
    await alice.event(await bob.user.send(room, "I am back"))
    await bob.event(await alice.user.send(room, "Welcome"))
