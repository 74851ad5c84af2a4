"""Invites between companies, and knocks: how they are shown, taken, turned down, and taken back."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from aiohttp import web

from tests.api.client import JsonObject, User, refused, timeline_of
from tests.server_server.conftest import ACME, GLOBEX, PEER, Network
from tests.server_server.peer_room import MEMBER, PeerRoom
from tests.server_server.room_peer import RoomPeer
from tests.server_server.test_joins import members_seen
from tests.server_server.test_partial_joins import without_members


def invite_of(sync: JsonObject, room_id: str, section: str = "invite") -> dict[tuple[str, str], Any]:
    """The stripped state of a room in a sync, by type and state key; empty if the room is not in it."""
    room = sync.get("rooms", {}).get(section, {}).get(room_id, {})
    events = room.get(f"{section}_state", {}).get("events", [])
    return {(event["type"], event["state_key"]): event for event in events}


async def test_an_invite_is_shown_and_accepted(network: Network, alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="private_chat", name="Plans")
    since = (await bob.sync())["next_batch"]
    await alice.invite(room_id, bob.user_id)
    sync = await bob.sync(since, timeout_ms=10_000)
    for shown in (invite_of(sync, room_id), invite_of(await bob.sync(), room_id)):
        assert shown["m.room.name", ""]["content"] == {"name": "Plans"}
        assert shown["m.room.create", ""]["sender"] == alice.user_id
        assert shown["m.room.member", bob.user_id]["content"]["membership"] == "invite"
        assert shown["m.room.member", bob.user_id]["sender"] == alice.user_id
    assert (await members_seen(alice, room_id))[bob.user_id] == "invite"
    await bob.join(room_id)  # the inviting server is known: nobody has to name it
    after = await bob.sync(sync["next_batch"], timeout_ms=10_000)
    assert room_id in after["rooms"]["join"]
    assert not invite_of(await bob.sync(), room_id)
    assert (await members_seen(alice, room_id))[bob.user_id] == "join"


async def test_an_invite_is_turned_down(network: Network, alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="private_chat")
    await alice.invite(room_id, bob.user_id)
    bobs, alices = (await bob.sync())["next_batch"], (await alice.sync())["next_batch"]
    await bob.post("/v3/rooms/{}/leave", room_id, json={"reason": "busy"})
    [event] = timeline_of(await alice.sync(alices, timeout_ms=10_000), room_id)
    assert event["content"] == {"membership": "leave", "reason": "busy"}
    left = (await bob.sync(bobs, timeout_ms=10_000))["rooms"]["leave"][room_id]
    assert left["timeline"]["events"][-1]["content"]["membership"] == "leave"
    assert not invite_of(await bob.sync(), room_id)
    await bob.leave(room_id)  # who has left may do so again
    await bob.post("/v3/rooms/{}/forget", room_id)
    with refused(403, "M_FORBIDDEN"):
        await bob.join(room_id)


async def test_an_invite_is_taken_back(network: Network, alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="private_chat")
    await alice.invite(room_id, bob.user_id)
    since = (await bob.sync())["next_batch"]
    await alice.post("/v3/rooms/{}/kick", room_id, json={"user_id": bob.user_id})
    left = (await bob.sync(since, timeout_ms=10_000))["rooms"]["leave"][room_id]
    assert left["timeline"]["events"][-1]["sender"] == alice.user_id
    assert not invite_of(await bob.sync(), room_id)
    with refused(403, "M_FORBIDDEN"):
        await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})


async def test_an_answer_that_is_no_canonical_json_is_told_apart(alice: User, rooms: RoomPeer) -> None:
    async def lie(request: web.BaseRequest) -> web.StreamResponse:
        event = orjson.loads(await request.read())["event"]
        event["signatures"][PEER] = {"ed25519:p1": "x" * 86}
        return web.json_response({"event": {**event, "number": 1.5}})

    rooms.lies["invite"] = lie
    room_id = await alice.create_room()
    with refused(400, "M_BAD_JSON"):
        await alice.invite(room_id, rooms.user("carol"))


async def test_who_takes_no_invites_is_left_alone(network: Network, alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="private_chat")
    await bob.put(
        "/v3/user/{}/account_data/{}",
        bob.user_id,
        "m.invite_permission_config",
        json={"default_action": "block"},
    )
    with refused(403, "M_INVITE_BLOCKED"):
        await alice.invite(room_id, bob.user_id)
    with refused(403, "M_FORBIDDEN"):
        await alice.invite(room_id, f"@nobody:{GLOBEX}")
    assert bob.user_id not in await members_seen(alice, room_id)


async def test_an_invite_of_an_ignored_user_is_not_shown(network: Network, alice: User, bob: User) -> None:
    await bob.put(
        "/v3/user/{}/account_data/{}",
        bob.user_id,
        "m.ignored_user_list",
        json={"ignored_users": {alice.user_id: {}}},
    )
    room_id = await alice.create_room(preset="private_chat")
    await alice.invite(room_id, bob.user_id)
    assert not invite_of(await bob.sync(), room_id)


async def test_users_of_other_servers_are_invited_to_a_new_room(
    network: Network, alice: User, bob: User
) -> None:
    room_id = await alice.create_room(
        preset="trusted_private_chat", invite=[bob.user_id, f"@nobody:{GLOBEX}"], is_direct=True
    )
    shown = invite_of(await bob.sync(), room_id)
    assert shown["m.room.member", bob.user_id]["content"]["is_direct"] is True
    await bob.join(room_id)
    with refused(403, "M_FORBIDDEN"):
        await alice.create_room(invite=[bob.user_id], creation_content={"m.federate": False})


async def test_a_member_invites_into_a_room_of_the_other_company(
    network: Network, alice: User, bob: User
) -> None:
    carol = await network.globex_api.register("carol")
    room_id = await alice.create_room()
    await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})
    await alice.invite(room_id, carol.user_id)  # into a room that her server is in
    assert invite_of(await carol.sync(timeout_ms=10_000), room_id)
    await carol.join(room_id)
    assert (await members_seen(bob, room_id))[carol.user_id] == "join"


async def test_a_knock_is_shown_and_answered(network: Network, alice: User, bob: User) -> None:
    rule = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
    room_id = await alice.create_room(preset="private_chat", name="Members", initial_state=[rule])
    answer = await bob.post("/v3/knock/{}", room_id, query={"via": [ACME]}, json={"reason": "please"})
    assert answer == {"room_id": room_id}
    shown = invite_of(await bob.sync(), room_id, "knock")
    assert shown["m.room.name", ""]["content"] == {"name": "Members"}
    assert shown["m.room.member", bob.user_id]["content"]["reason"] == "please"
    assert (await members_seen(alice, room_id))[bob.user_id] == "knock"
    with refused(403, "M_FORBIDDEN"):
        await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})
    await alice.invite(room_id, bob.user_id)
    sync = await bob.sync()
    assert invite_of(sync, room_id) and not invite_of(sync, room_id, "knock")
    await bob.join(room_id)
    assert (await members_seen(alice, room_id))[bob.user_id] == "join"


async def test_a_knock_is_taken_back(network: Network, alice: User, bob: User) -> None:
    rule = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
    room_id = await alice.create_room(preset="private_chat", initial_state=[rule])
    await bob.post("/v3/knock/{}", room_id, query={"via": [ACME]})
    await bob.leave(room_id)
    assert (await members_seen(alice, room_id)).get(bob.user_id, "leave") == "leave"
    assert not invite_of(await bob.sync(), room_id, "knock")
    public_id = await alice.create_room()
    with refused(403, "M_FORBIDDEN"):
        await bob.post("/v3/knock/{}", public_id, query={"via": [ACME]})


async def test_invites_and_knocks_outlive_a_restart(network: Network, alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="private_chat", name="Plans")
    await alice.invite(room_id, bob.user_id)
    await network.globex.kill()
    await network.globex.start()
    assert invite_of(await bob.sync(), room_id)["m.room.name", ""]["content"] == {"name": "Plans"}
    initial = await bob.get("/v3/initialSync")
    [room] = initial["rooms"]
    assert (room["room_id"], room["membership"]) == (room_id, "invite")
    assert room["invite"]["sender"] == alice.user_id
    await bob.join(room_id)
    assert bob.user_id in await members_seen(alice, room_id)


async def test_an_invite_can_be_turned_down_without_the_other_server(
    network: Network, alice: User, bob: User
) -> None:
    room_id = await alice.create_room(preset="private_chat")
    await alice.invite(room_id, bob.user_id)
    since = (await bob.sync())["next_batch"]
    await network.acme.kill()
    try:
        await bob.leave(room_id)
        left = (await bob.sync(since))["rooms"]["leave"][room_id]
        assert left["timeline"]["events"][-1]["content"]["membership"] == "leave"
        assert not invite_of(await bob.sync(), room_id)
    finally:
        await network.acme.start()


async def invite_by_peer(rooms: RoomPeer, room: PeerRoom, user_id: str, *, takes_part: bool) -> None:
    """Send the peer's invite to the user's server; it becomes part of the room or not."""
    make = room.make if takes_part else room.build
    invite = make(rooms.user("host"), MEMBER, {"membership": "invite"}, user_id, with_origin=True)
    target = f"/_matrix/federation/v2/invite/{quote(room.room_id)}/{quote(invite.event_id)}"
    create = room.state["m.room.create", ""].json
    content: JsonObject = {"room_version": "12", "event": invite.json, "invite_room_state": [create]}
    answer = await rooms.peer.send(ACME, rooms.ports[ACME], "PUT", target, content)
    assert answer.status == 200, answer.json


@pytest.mark.parametrize("knows_members", [True, False])
async def test_an_invite_that_is_not_in_the_room_ends_when_somebody_else_enters_it(
    network: Network, rooms: RoomPeer, alice: User, knows_members: bool
) -> None:
    carol, dave = [await network.acme_api.register(name) for name in ("carol", "dave")]
    room = rooms.create(rooms.user("host"))
    await invite_by_peer(rooms, room, alice.user_id, takes_part=False)
    await invite_by_peer(rooms, room, dave.user_id, takes_part=True)
    shown = await alice.sync()
    assert invite_of(shown, room.room_id) and invite_of(await dave.sync(), room.room_id)
    if not knows_members:
        rooms.lies["send_join"] = without_members(room)
    await carol.post("/v3/join/{}", room.room_id, query={"via": [PEER]})
    assert (await members_seen(carol, room.room_id))[dave.user_id] == "invite"  # so by now they are known
    after = await alice.sync(shown["next_batch"], timeout_ms=10_000)
    while room.room_id not in after["rooms"].get("leave", {}):
        after = await alice.sync(after["next_batch"], timeout_ms=10_000)
    assert not invite_of(await alice.sync(), room.room_id)
    assert invite_of(await dave.sync(), room.room_id)
    await network.acme.kill()
    await network.acme.start()
    assert not invite_of(await alice.sync(), room.room_id)
    assert invite_of(await dave.sync(), room.room_id)


async def test_an_invite_that_is_turned_down_while_others_come_in_is_left_in_the_room(
    network: Network, alice: User, rooms: RoomPeer
) -> None:
    """The peer is asked for a way out first; by its answer, the room is not somebody else's any more."""
    carol = await network.acme_api.register("carol")
    host = rooms.user("host")
    room = rooms.create(host, "10")
    invite = room.make(host, "m.room.member", {"membership": "invite"}, alice.user_id, with_origin=True)
    target = f"/_matrix/federation/v2/invite/{quote(room.room_id)}/{quote(invite.event_id)}"
    content: JsonObject = {"room_version": "10", "event": invite.json, "invite_room_state": []}
    answer = await rooms.peer.send(ACME, network.ports[ACME], "PUT", target, content)
    assert answer.status == 200
    come_in = asyncio.Event()

    async def refusing(request: web.BaseRequest) -> web.StreamResponse:
        await come_in.wait()
        return web.json_response({"errcode": "M_FORBIDDEN", "error": "Not now"}, status=403)

    rooms.lies["make_leave"] = refusing
    async with asyncio.TaskGroup() as group:
        group.create_task(alice.leave(room.room_id))
        while "make_leave" not in rooms.asked:
            await alice.sync()
        await carol.post("/v3/join/{}", room.room_id, query={"via": [PEER]})
        assert (await members_seen(carol, room.room_id))[alice.user_id] == "invite"
        come_in.set()
    assert (await members_seen(carol, room.room_id))[alice.user_id] == "leave"
    assert not invite_of(await alice.sync(), room.room_id)
