"""Both servers are cut off from each other and go on; afterwards the fork is resolved alike on both."""

from __future__ import annotations

import pytest

from tests.interop.synapse.conftest import OTHER, Pair
from tests.interop.synapse.follower import Follower, same_state

pytestmark = pytest.mark.slow


async def promote(alice: Follower, room_id: str, *others: Follower, level: int = 50) -> None:
    """Give others power, and wait until they know of it."""
    levels = await alice.user.state(room_id, "m.room.power_levels")
    users = {**levels.get("users", {}), **{other.user_id: level for other in others}}
    event_id = await alice.user.set_state(room_id, "m.room.power_levels", {**levels, "users": users})
    for other in others:
        await other.event(event_id)


async def agreed(room_id: str, alice: Follower, bob: Follower) -> dict[tuple[str, str], str]:
    """The room's state, once both servers hear from each other again and agree on it."""
    from_alice = await alice.user.send(room_id, "Can you hear me?")
    from_bob = await bob.user.send(room_id, "And me?")
    await bob.event(from_alice)
    await alice.event(from_bob)
    await same_state(room_id, alice, bob)
    # one more event on top of the fork, so that both states are those after the same events
    last = await bob.user.send(room_id, "Yes")
    await alice.event(last)
    return await same_state(room_id, alice, bob)


async def test_what_both_sides_wrote_is_on_both_sides(
    pair: Pair, alice: Follower, bob: Follower, room: str
) -> None:
    await promote(alice, room, bob)
    written: list[str] = []
    async with pair.parted():
        for number in range(10):
            for follower in (alice, bob):
                written.append(await follower.user.send(room, f"{number} of {follower.user_id}"))
        topics = [
            await follower.user.set_state(room, "m.room.topic", {"topic": f"as {follower.user_id} has it"})
            for follower in (alice, bob)
        ]
        name = await bob.user.set_state(room, "m.room.name", {"name": "Named alone"})
    state = await agreed(room, alice, bob)
    assert state[("m.room.name", "")] == name
    assert state[("m.room.topic", "")] in topics
    for follower in (alice, bob):
        there = {event["event_id"] for event in await follower.user.history(room)}
        assert set(written) <= there


async def test_a_demotion_on_one_side_undoes_what_was_done_on_the_other(
    pair: Pair, alice: Follower, bob: Follower, room: str
) -> None:
    await promote(alice, room, bob)
    async with pair.parted():
        levels = await alice.user.state(room, "m.room.power_levels")
        users = {user: level for user, level in levels["users"].items() if user != bob.user_id}
        demotion = await alice.user.set_state(room, "m.room.power_levels", {**levels, "users": users})
        await bob.user.set_state(room, "m.room.topic", {"topic": "I still may"})
    state = await agreed(room, alice, bob)
    assert state[("m.room.power_levels", "")] == demotion
    assert ("m.room.topic", "") not in state


async def test_power_levels_changed_on_both_sides_become_the_same(
    pair: Pair, alice: Follower, bob: Follower, room: str
) -> None:
    await promote(alice, room, bob, level=100)
    async with pair.parted():
        changed: list[str] = []
        for follower, more in ((alice, {"users_default": 1}), (bob, {"events_default": 1})):
            levels = await follower.user.state(room, "m.room.power_levels")
            content = {**levels, **more, "users_default": 1}
            changed.append(await follower.user.set_state(room, "m.room.power_levels", content))
            changed.append(await follower.user.set_state(room, "m.room.topic", {"topic": str(more)}))
    state = await agreed(room, alice, bob)
    assert state[("m.room.power_levels", "")] in changed
    assert state[("m.room.topic", "")] in changed


async def test_a_ban_on_one_side_undoes_what_the_banned_did_on_the_other(
    pair: Pair, alice: Follower, bob: Follower, room: str, creating: str
) -> None:
    carol = await pair.newcomer(OTHER[creating], "carol")
    await carol.user.join(room)
    await alice.membership(room, carol.user_id, "join")
    await promote(alice, room, bob, carol, level=49)
    levels = await alice.user.state(room, "m.room.power_levels")
    opened = {**levels, "events": {**levels.get("events", {}), "m.room.name": 40}}
    await carol.event(await alice.user.set_state(room, "m.room.power_levels", opened))
    async with pair.parted():
        await alice.user.post("/v3/rooms/{}/ban", room, json={"user_id": carol.user_id})
        name = await carol.user.set_state(room, "m.room.name", {"name": "Carol's room"})
        said = await carol.user.send(room, "Nobody told me that I am banned")
        await bob.event(said)
    state = await agreed(room, alice, bob)
    assert state[("m.room.name", "")] != name
    banned = await alice.user.event(room, state[("m.room.member", carol.user_id)])
    assert banned["content"]["membership"] == "ban"
    await carol.until(lambda: room in carol.left, "the ban")


async def test_joins_on_both_sides_survive(
    pair: Pair, alice: Follower, bob: Follower, version: str, creating: str
) -> None:
    room_id = await alice.user.create_room(room_version=version)
    await bob.user.post("/v3/join/{}", room_id, query={"via": alice.user.server_name})
    await alice.membership(room_id, bob.user_id, "join")
    await bob.membership(room_id, bob.user_id, "join")
    async with pair.parted():
        newcomers = [await pair.newcomer(server, "newcomer") for server in (creating, OTHER[creating])]
        for newcomer in newcomers:
            await newcomer.user.join(room_id)
    state = await agreed(room_id, alice, bob)
    for newcomer in newcomers:
        event = await alice.user.event(room_id, state[("m.room.member", newcomer.user_id)])
        assert event["content"]["membership"] == "join"
