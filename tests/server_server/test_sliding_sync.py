"""Sliding sync of users whose rooms are elsewhere, or are shared with another company."""

from __future__ import annotations

import asyncio
import random

import pytest

from homeserver.clock import now_ms
from tests.api.client import JsonObject, Refused, User
from tests.api.sliding import SlidingClient, listing
from tests.server_server.conftest import ACME, PEER, Network
from tests.server_server.room_peer import RoomPeer

EVERYTHING = ("*", "*")


def shown(room: JsonObject) -> dict[tuple[str, str], JsonObject]:
    """The stripped state of an invite."""
    return {(event["type"], event["state_key"]): event["content"] for event in room["invite_state"]}


async def test_an_invite_of_another_company_is_shown_accepted_and_followed(
    network: Network, alice: User
) -> None:
    bob = await network.globex_api.register("bob")
    client = SlidingClient(bob, lists={"all": listing((0, 9), EVERYTHING, timeline_limit=5)})
    await client.sync()
    room_id = await alice.create_room(
        preset="private_chat",
        name="Plans",
        initial_state=[
            {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}, "state_key": ""}
        ],
    )
    await alice.invite(room_id, bob.user_id)

    room = (await client.sync(timeout_ms=10_000))["rooms"][room_id]
    assert room["membership"] == "invite"
    assert shown(room)["m.room.name", ""] == {"name": "Plans"}
    assert shown(room)["m.room.member", bob.user_id]["membership"] == "invite"
    filters = {"is_encrypted": True, "room_name_like": "plan"}
    fresh = SlidingClient(bob, conn_id="fresh", lists={"all": listing((0, 9), filters=filters)})
    assert set((await fresh.sync())["rooms"]) == {room_id}

    await bob.join(room_id)
    room = (await client.sync(timeout_ms=10_000))["rooms"][room_id]
    assert room["initial"] and room["membership"] == "join" and room["name"] == "Plans"
    assert room["joined_count"] == 2
    client.take(await client.ask())
    await alice.send(room_id, "from acme")
    bodies: list[str] = []
    while "from acme" not in bodies:
        news = (await client.sync(timeout_ms=10_000))["rooms"].get(room_id, {})
        bodies += [event["content"].get("body", "") for event in news.get("timeline", [])]


async def test_an_invite_that_is_turned_down_or_taken_back_is_over(network: Network, alice: User) -> None:
    bob = await network.globex_api.register("bob")
    client = SlidingClient(bob, lists={"all": listing((0, 9))})
    rooms = [await alice.create_room(preset="private_chat") for _ in range(2)]
    for room_id in rooms:
        await alice.invite(room_id, bob.user_id)
    assert set((await client.sync())["rooms"]) == set(rooms)

    await bob.leave(rooms[0])
    await alice.post("/v3/rooms/{}/kick", rooms[1], json={"user_id": bob.user_id})
    over: dict[str, str] = {}
    while set(over) != set(rooms):
        answer = await client.sync(timeout_ms=10_000)
        over |= {room_id: room["membership"] for room_id, room in answer["rooms"].items()}

    assert set(over.values()) == {"leave"}
    assert (await client.sync())["lists"]["all"]["count"] == 0


@pytest.mark.parametrize("seed", range(3))
async def test_state_that_forks_is_told_as_it_is_resolved(
    network: Network, rooms: RoomPeer, alice: User, seed: int
) -> None:
    choose = random.Random(seed)
    peer = rooms.user("bob")
    room = rooms.create(peer)
    await alice.post("/v3/join/{}", room.room_id, query={"via": [PEER]})
    client = SlidingClient(alice, lists={"all": listing((0, 9), EVERYTHING, timeline_limit=2)})
    known: dict[tuple[str, str], str] = {}
    anew = 0
    events = list(room.newest)
    for number in range(25):
        type, key = choose.choice(
            (
                ("m.room.topic", ""),
                ("m.room.name", ""),
                ("org.example.thing", "a"),
                ("org.example.thing", "b"),
            )
        )
        prev = choose.sample(events[-4:], choose.choice((1, 1, 2)) if len(events) > 2 else 1)
        content = {"name": f"Name {number}", "topic": f"Topic {number}"}
        # Of conflicting events the later one wins, by its own clock: some lose against what is there.
        event = room.make(peer, type, content, key, prev=prev, ts_ms=now_ms() - choose.randrange(3_600_000))
        events.append(event)
        assert (await rooms.transmit(ACME, event)).json["pdus"][event.event_id] == {}
        while event.event_id not in await stored(alice, room.room_id, event.event_id):
            await asyncio.sleep(0.01)
        if choose.random() < 0.4:
            continue
        if choose.random() < 0.3:
            await client.ask()  # its answer is lost
        told = (await client.sync())["rooms"].get(room.room_id, {})
        known = {} if told.get("initial") else known
        anew += bool(told.get("initial"))
        for each in told.get("required_state", []):
            known[each["type"], each["state_key"]] = each["event_id"]
        state = await alice.get("/v3/rooms/{}/state", room.room_id)
        assert known == {(each["type"], each["state_key"]): each["event_id"] for each in state}
    assert anew > 1  # the room itself, and what resolution has decided on another event


async def stored(user: User, room_id: str, event_id: str) -> set[str]:
    """The event's id, once the node has taken it in."""
    try:
        return {(await user.event(room_id, event_id))["event_id"]}
    except Refused:
        return set()
