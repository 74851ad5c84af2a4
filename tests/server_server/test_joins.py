"""Joining rooms of the other company: who gets in, by which way, and what both sides see."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.api.client import JsonObject, User, refused, state_of, timeline_of
from tests.server_server.conftest import ACME, GLOBEX, Network


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


def restricted_to(*room_ids: str) -> JsonObject:
    """An `initial_state` entry that lets members of some rooms join."""
    allow = [{"type": "m.room_membership", "room_id": room_id} for room_id in room_ids]
    content = {"join_rule": "restricted", "allow": allow}
    return {"type": "m.room.join_rules", "state_key": "", "content": content}


async def test_members_of_an_allowed_room_join_a_restricted_one(
    network: Network, alice: User, bob: User
) -> None:
    lobby_id = await alice.create_room()
    room_id = await alice.create_room(preset="private_chat", initial_state=[restricted_to(lobby_id)])
    with refused(403, "M_FORBIDDEN"):
        await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})
    await bob.post("/v3/join/{}", lobby_id, query={"via": [ACME]})
    await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})
    content = await alice.state(room_id, "m.room.member", bob.user_id)
    assert content["join_authorised_via_users_server"] == alice.user_id
    assert (await bob.state(room_id, "m.room.member", bob.user_id)) == content


async def test_who_may_be_let_in_by_the_other_server_alone_is_let_in_by_it(
    network: Network, alice: User, bob: User
) -> None:
    carol = await network.globex_api.register("carol")
    lobby_id = await alice.create_room()
    room_id = await alice.create_room(
        preset="private_chat",
        room_version="10",
        initial_state=[restricted_to(lobby_id)],
        power_level_content_override={"invite": 50, "users": {alice.user_id: 100}},
    )
    for user in (bob, carol):
        await user.post("/v3/join/{}", lobby_id, query={"via": [ACME]})
    await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})
    await carol.join(room_id)  # her server is in the room, but Bob may not invite
    for user in (alice, bob, carol):
        content = await user.state(room_id, "m.room.member", carol.user_id)
        assert content["join_authorised_via_users_server"] == alice.user_id


async def test_conditions_that_the_resident_cannot_look_at(network: Network, alice: User, bob: User) -> None:
    room_id = await alice.create_room(
        preset="private_chat", initial_state=[restricted_to("!unknown:elsewhere.test")]
    )
    with refused(400, "M_UNABLE_TO_AUTHORISE_JOIN"):
        await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})


async def test_a_room_that_all_of_ours_have_left_is_entered_again(
    network: Network, alice: User, bob: User
) -> None:
    room_id = await alice.create_room(name="Before")
    await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})
    since = (await alice.sync())["next_batch"]
    await bob.leave(room_id)
    assert timeline_of(await alice.sync(since, timeout_ms=10_000), room_id)  # it has arrived
    await alice.set_state(room_id, "m.room.name", {"name": "After"})
    since = (await bob.sync())["next_batch"]
    await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})
    assert await bob.state(room_id, "m.room.name") == {"name": "After"}
    assert room_id in (await bob.sync(since, timeout_ms=10_000))["rooms"]["join"]
    assert (await members_seen(alice, room_id))[bob.user_id] == "join"


async def test_an_invite_into_a_room_that_was_left(network: Network, alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="private_chat")
    await alice.invite(room_id, bob.user_id)
    await bob.join(room_id)
    since = (await alice.sync())["next_batch"]
    await bob.leave(room_id)
    await alice.sync(since, timeout_ms=10_000)
    since = (await bob.sync())["next_batch"]
    await alice.invite(room_id, bob.user_id)
    sync = await bob.sync(since, timeout_ms=10_000)
    assert room_id in sync["rooms"]["invite"]
    await bob.join(room_id)
    assert (await members_seen(bob, room_id))[bob.user_id] == "join"


async def test_a_banned_user_stays_out(network: Network, alice: User, bob: User) -> None:
    room_id = await alice.create_room()
    await alice.post("/v3/rooms/{}/ban", room_id, json={"user_id": bob.user_id})
    with refused(403, "M_FORBIDDEN"):
        await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})
    await alice.post("/v3/rooms/{}/unban", room_id, json={"user_id": bob.user_id})
    await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})


async def test_messages_pass_both_ways_after_a_join(network: Network, alice: User, bob: User) -> None:
    room_id = await alice.create_room()
    await bob.post("/v3/join/{}", room_id, query={"server_name": [ACME]})  # as it was called once
    since = (await alice.sync())["next_batch"]
    event_id = await bob.send(room_id, "hello")
    [event] = timeline_of(await alice.sync(since, timeout_ms=10_000), room_id)
    assert event["event_id"] == event_id
    since = (await bob.sync())["next_batch"]
    event_id = await alice.send(room_id, "hello yourself")
    [event] = timeline_of(await bob.sync(since, timeout_ms=10_000), room_id)
    assert event["event_id"] == event_id


async def test_guests_leave_a_room_that_the_other_company_closes_to_them(
    network: Network, alice: User, bob: User
) -> None:
    room_id = await alice.create_room()
    await alice.set_state(room_id, "m.room.guest_access", {"guest_access": "can_join"})
    await alice.give_power(room_id, bob)
    await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})
    guest = await network.acme_api.register_guest()
    await guest.post("/v3/join/{}", room_id)
    since = (await alice.sync())["next_batch"]
    await bob.set_state(room_id, "m.room.guest_access", {"guest_access": "forbidden"})
    async with asyncio.timeout(20):
        while True:
            sync = await alice.sync(since, timeout_ms=5_000)
            since = sync["next_batch"]
            left = state_of(timeline_of(sync, room_id)).get(("m.room.member", guest.user_id))
            if left is not None:
                break
    assert left["content"] == {"membership": "leave"} and left["sender"] == guest.user_id


async def test_aliases_and_publication_follow_who_joins_the_successor_of_a_room(
    network: Network, alice: User, bob: User
) -> None:
    old_id = await alice.create_room()
    await bob.post("/v3/join/{}", old_id, query={"via": [ACME]})
    alias = f"#elsewhere:{GLOBEX}"
    await bob.put("/v3/directory/room/{}", alias, json={"room_id": old_id})
    since = (await bob.sync())["next_batch"]
    new_id = (await alice.post("/v3/rooms/{}/upgrade", old_id, json={"new_version": "11"}))[
        "replacement_room"
    ]
    async with asyncio.timeout(20):
        while True:  # until the tombstone has come
            sync = await bob.sync(since, timeout_ms=5_000)
            since = sync["next_batch"]
            if ("m.room.tombstone", "") in state_of(timeline_of(sync, old_id)):
                break
    assert (await bob.get("/v3/directory/room/{}", alias))["room_id"] == old_id
    await bob.post("/v3/join/{}", new_id, query={"via": [ACME]})
    assert (await bob.get("/v3/directory/room/{}", alias))["room_id"] == new_id
