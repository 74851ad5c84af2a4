"""Joining rooms of the other company: who gets in, by which way, and what both sides see."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest_asyncio

from tests.api.client import JsonObject, User, refused, state_of, timeline_of
from tests.server_server.conftest import ACME, GLOBEX, Network


@pytest_asyncio.fixture
async def bob(network: Network) -> User:
    """A new user of the second company."""
    return await network.globex_api.register("bob")


async def members_seen(user: User, room_id: str) -> dict[str, Any]:
    """The memberships that a first sync shows, by user."""
    room = (await user.sync())["rooms"]["join"][room_id]
    events: list[JsonObject] = [*room["state"]["events"], *room["timeline"]["events"]]
    return {
        key: event["content"]["membership"]
        for (type, key), event in state_of(events).items()
        if type == "m.room.member"
    }


async def test_a_public_room_is_joined_through_a_server_that_the_client_names(
    network: Network, alice: User, bob: User
) -> None:
    room_id = await alice.create_room(name="Lunch")
    await alice.send(room_id, "before")
    since = (await alice.sync())["next_batch"]
    answer = await bob.post("/v3/join/{}", room_id, query={"via": [ACME]}, json={"reason": "hungry"})
    assert answer == {"room_id": room_id}
    everyone = {alice.user_id: "join", bob.user_id: "join"}
    assert await members_seen(bob, room_id) == everyone
    assert await bob.state(room_id, "m.room.name") == {"name": "Lunch"}
    [event] = timeline_of(await alice.sync(since, timeout_ms=10_000), room_id)
    assert (event["state_key"], event["content"]["membership"]) == (bob.user_id, "join")
    assert event["content"]["reason"] == "hungry"
    assert await members_seen(alice, room_id) == everyone


async def test_a_room_is_joined_by_its_alias(network: Network, alice: User, bob: User) -> None:
    room_id = await alice.create_room(room_alias_name="by-alias")
    assert (await bob.post("/v3/join/{}", f"#by-alias:{ACME}"))["room_id"] == room_id
    assert bob.user_id in await members_seen(alice, room_id)
    with refused(404, "M_NOT_FOUND"):
        await bob.join(f"#by-no-alias:{ACME}")


async def test_who_is_not_invited_stays_out(network: Network, alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="private_chat")
    with refused(403, "M_FORBIDDEN"):
        await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})
    with refused(404, "M_NOT_FOUND"):
        await bob.join("!nowhere")
    assert bob.user_id not in await members_seen(alice, room_id)


async def test_two_users_join_at_the_same_time(network: Network, alice: User, bob: User) -> None:
    carol = await network.globex_api.register("carol")
    room_id = await alice.create_room()
    await asyncio.gather(*(user.post("/v3/join/{}", room_id, query={"via": [ACME]}) for user in (bob, carol)))
    for user in (bob, carol):
        seen = await members_seen(user, room_id)
        assert seen[bob.user_id] == seen[carol.user_id] == "join"


async def test_a_room_for_one_company_alone_is_closed_to_others(
    network: Network, alice: User, bob: User
) -> None:
    room_id = await alice.create_room(creation_content={"m.federate": False})
    with refused(403, "M_FORBIDDEN"):
        await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})


async def test_a_server_that_the_rooms_acl_denies_cannot_join(
    network: Network, alice: User, bob: User
) -> None:
    room_id = await alice.create_room()
    await alice.set_state(room_id, "m.room.server_acl", {"allow": ["*"], "deny": [GLOBEX]})
    with refused(403, "M_FORBIDDEN"):
        await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})
