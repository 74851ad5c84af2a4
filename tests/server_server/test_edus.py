"""Who types, who has read what, and who is online: what other servers are told, and believed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from homeserver.clock import now_ms
from tests.api.client import JsonObject, User
from tests.server_server.conftest import ACME, GLOBEX, PEER, Network
from tests.server_server.room_peer import RoomPeer

SETTINGS = {"federation": {"presence_servers": [ACME, GLOBEX]}}

Found = Callable[[JsonObject], Any]


async def until(user: User, found: Found, since: str | None = None) -> Any:
    """Sync until something is found, and return it."""
    async with asyncio.timeout(20):
        while True:
            answer = await user.sync(since, timeout_ms=5_000)
            since = answer["next_batch"]
            if (value := found(answer)) is not None:
                return value


def ephemeral(room_id: str, type: str) -> Found:
    """The content of a room's ephemeral event, if there is one."""

    def found(answer: JsonObject) -> JsonObject | None:
        room = answer.get("rooms", {}).get("join", {}).get(room_id, {})
        events = room.get("ephemeral", {}).get("events", [])
        return next((event["content"] for event in events if event["type"] == type), None)

    return found


def typing_are(room_id: str, *user_ids: str) -> Found:
    def found(answer: JsonObject) -> bool | None:
        content = ephemeral(room_id, "m.typing")(answer)
        return True if content is not None and set(content["user_ids"]) == set(user_ids) else None

    return found


def read_by(room_id: str, user_id: str) -> Found:
    """The event that a user has read up to, and the receipt's data."""

    def found(answer: JsonObject) -> tuple[str, JsonObject] | None:
        content = ephemeral(room_id, "m.receipt")(answer) or {}
        for event_id, receipts in content.items():
            if user_id in receipts.get("m.read", {}):
                return event_id, receipts["m.read"][user_id]
        return None

    return found


def presence_of(user_id: str, state: str) -> Found:
    def found(answer: JsonObject) -> JsonObject | None:
        for event in answer.get("presence", {}).get("events", []):
            if event["sender"] == user_id and event["content"]["presence"] == state:
                return dict(event["content"])
        return None

    return found


async def edus_sent(rooms: RoomPeer, edu_type: str) -> list[JsonObject]:
    """What the peer was sent of one kind, once there is any."""
    async with asyncio.timeout(20):
        while True:
            edus = [edu for each in rooms.transactions for edu in each.get("edus", ())]
            if found := [edu["content"] for edu in edus if edu["edu_type"] == edu_type]:
                return found
            await asyncio.sleep(0.01)


async def test_typing_is_seen_at_the_other_company_and_so_is_its_end(
    alice: User, bob: User, shared: str
) -> None:
    path = "/v3/rooms/{}/typing/{}"
    await alice.put(path, shared, alice.user_id, json={"typing": True, "timeout": 30_000})
    await until(bob, typing_are(shared, alice.user_id))
    await bob.put(path, shared, bob.user_id, json={"typing": True, "timeout": 30_000})
    await until(alice, typing_are(shared, alice.user_id, bob.user_id))
    await alice.put(path, shared, alice.user_id, json={"typing": False})
    await until(bob, typing_are(shared, bob.user_id))


async def test_typing_that_ends_by_itself_ends_everywhere(alice: User, bob: User, shared: str) -> None:
    path = "/v3/rooms/{}/typing/{}"
    await alice.put(path, shared, alice.user_id, json={"typing": True, "timeout": 700})
    await until(bob, typing_are(shared, alice.user_id))
    await until(bob, typing_are(shared))


async def test_typing_is_believed_only_of_the_senders_own_users_in_the_room(
    alice: User, rooms: RoomPeer
) -> None:
    room_id, other_id = await alice.create_room(), await alice.create_room()
    carol = rooms.user("carol")
    await rooms.join(ACME, room_id, carol)

    def typing(user_id: object, room: object = room_id, **more: object) -> JsonObject:
        content = {"room_id": room, "user_id": user_id, "typing": True, **more}
        return {"edu_type": "m.typing", "content": content}

    wrong = [
        typing(alice.user_id),  # not of the peer
        typing(rooms.user("nobody")),  # not in the room
        typing(carol, other_id),
        typing(carol, "!nowhere:acme.test"),
        typing(carol, typing="yes"),
        typing(["@list"]),
        typing(carol, None),
    ]
    answer = await rooms.transmit(ACME, edus=wrong)
    assert answer.json == {"pdus": {}}
    await rooms.transmit(ACME, edus=[typing(carol)])
    content = await until(alice, ephemeral(room_id, "m.typing"))
    assert content == {"user_ids": [carol]}
    assert ephemeral(other_id, "m.typing")(await alice.sync()) is None


async def test_receipts_go_both_ways_with_their_thread(alice: User, bob: User, shared: str) -> None:
    root = await alice.send(shared, "root")
    relation = {"rel_type": "m.thread", "event_id": root}
    reply = await alice.send(shared, {"msgtype": "m.text", "body": "reply", "m.relates_to": relation})

    def arrived(answer: JsonObject) -> bool | None:
        events = answer.get("rooms", {}).get("join", {}).get(shared, {}).get("timeline", {}).get("events", [])
        return True if any(event["event_id"] == reply for event in events) else None

    await until(bob, arrived)
    since = (await alice.sync())["next_batch"]
    await bob.post("/v3/rooms/{}/receipt/m.read/{}", shared, root, json={})
    event_id, data = await until(alice, read_by(shared, bob.user_id), since)
    assert event_id == root and "thread_id" not in data
    since = (await alice.sync())["next_batch"]
    await bob.post("/v3/rooms/{}/receipt/m.read/{}", shared, reply, json={"thread_id": root})
    event_id, data = await until(alice, read_by(shared, bob.user_id), since)
    assert (event_id, data["thread_id"]) == (reply, root)


async def test_nobody_is_told_private_receipts(alice: User, rooms: RoomPeer) -> None:
    room_id = await alice.create_room()
    await rooms.join(ACME, room_id, rooms.user("carol"))
    first, second = await alice.send(room_id, "first"), await alice.send(room_id, "second")
    await alice.post("/v3/rooms/{}/receipt/m.read.private/{}", room_id, second, json={})
    await alice.post("/v3/rooms/{}/receipt/m.read/{}", room_id, first, json={})
    [content] = await edus_sent(rooms, "m.receipt")
    [(user_id, receipt)] = content[room_id]["m.read"].items()
    assert set(content) == {room_id} and set(content[room_id]) == {"m.read"}
    assert (user_id, receipt["event_ids"]) == (alice.user_id, [first])
    assert abs(receipt["data"]["ts"] - now_ms()) < 60_000


async def test_receipts_are_believed_only_of_the_senders_own_users_in_the_room(
    alice: User, rooms: RoomPeer
) -> None:
    room_id, other_id = await alice.create_room(), await alice.create_room()
    carol = rooms.user("carol")
    await rooms.join(ACME, room_id, carol)
    event_id, other_event = await alice.send(room_id, "read me"), await alice.send(other_id, "not me")
    good = {"event_ids": [event_id], "data": {"ts": 1_700_000_000_000}}
    since = (await alice.sync())["next_batch"]

    def receipt(content: object) -> JsonObject:
        return {"edu_type": "m.receipt", "content": content}

    wrong: list[object] = [
        {room_id: {"m.read": {alice.user_id: good}}},
        {room_id: {"m.read": {rooms.user("nobody"): good}}},
        {other_id: {"m.read": {carol: {**good, "event_ids": [other_event]}}}},
        {room_id: {"m.read.private": {carol: good}}},
        {room_id: {"m.read": {carol: {**good, "event_ids": [event_id, event_id]}}}},
        {room_id: {"m.read": {carol: {**good, "event_ids": ["x" * 10]}}}},
        {room_id: {"m.read": {carol: {**good, "data": {"ts": -1}}}}},
        {room_id: {"m.read": {carol: {**good, "data": {"ts": 1, "thread_id": 7}}}}},
        {room_id: {"m.read": {carol: []}}, "!nowhere:acme.test": {"m.read": {carol: good}}},
        {room_id: {"m.read": [carol]}},
        {room_id: "m.read"},
    ]
    await rooms.transmit(ACME, edus=[receipt(content) for content in wrong])
    assert ephemeral(room_id, "m.receipt")(await alice.sync(since)) is None
    await rooms.transmit(ACME, edus=[receipt({room_id: {"m.read": {carol: good}}})])
    content = await until(alice, ephemeral(room_id, "m.receipt"), since)
    assert content == {event_id: {"m.read": {carol: {"ts": 1_700_000_000_000}}}}


async def test_a_receipt_does_not_move_back(alice: User, rooms: RoomPeer) -> None:
    room_id = await alice.create_room()
    carol = rooms.user("carol")
    await rooms.join(ACME, room_id, carol)
    first, second = await alice.send(room_id, "first"), await alice.send(room_id, "second")
    for event_id in (second, first, "$unknown"):
        content = {room_id: {"m.read": {carol: {"event_ids": [event_id], "data": {"ts": 1}}}}}
        await rooms.transmit(ACME, edus=[{"edu_type": "m.receipt", "content": content}])
    assert read_by(room_id, carol)(await alice.sync()) == (second, {"ts": 1})


async def test_a_server_that_the_acl_denies_is_not_listened_to(alice: User, rooms: RoomPeer) -> None:
    room_id = await alice.create_room()
    carol = rooms.user("carol")
    await rooms.join(ACME, room_id, carol)
    event_id = await alice.send(room_id, "read me")
    await alice.set_state(room_id, "m.room.server_acl", {"allow": ["*"], "deny": [PEER]})
    receipts = {"m.read": {carol: {"event_ids": [event_id], "data": {"ts": 1}}}}
    typing = {"room_id": room_id, "user_id": carol, "typing": True}
    await rooms.transmit(
        ACME,
        edus=[
            {"edu_type": "m.receipt", "content": {room_id: receipts}},
            {"edu_type": "m.typing", "content": typing},
        ],
    )
    answer = await alice.sync()
    assert ephemeral(room_id, "m.receipt")(answer) is None
    assert ephemeral(room_id, "m.typing")(answer) is None


async def test_partners_see_each_others_presence(alice: User, bob: User, shared: str) -> None:
    status = {"presence": "unavailable", "status_msg": "At lunch"}
    await until(bob, presence_of(alice.user_id, "online"))
    await alice.put("/v3/presence/{}/status", alice.user_id, json=status)
    content = await until(bob, presence_of(alice.user_id, "unavailable"))
    assert content["status_msg"] == "At lunch"
    answer = await bob.get("/v3/presence/{}/status", alice.user_id)
    assert (answer["presence"], answer["status_msg"]) == ("unavailable", "At lunch")


async def test_who_meets_sees_at_once_who_is_online(alice: User, bob: User) -> None:
    await alice.put(
        "/v3/presence/{}/status", alice.user_id, json={"presence": "online", "status_msg": "Here"}
    )
    await bob.put("/v3/presence/{}/status", bob.user_id, json={"presence": "online", "status_msg": "There"})
    room_id = await alice.create_room()
    alices = (await alice.sync())["next_batch"]
    bobs = (await bob.sync())["next_batch"]
    await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})
    seen = await until(bob, presence_of(alice.user_id, "online"), bobs)
    assert seen["status_msg"] == "Here"
    seen = await until(alice, presence_of(bob.user_id, "online"), alices)
    assert seen["status_msg"] == "There"


async def test_who_enters_another_room_sees_who_is_online_there(
    network: Network, alice: User, bob: User, shared: str
) -> None:
    await until(alice, presence_of(bob.user_id, "online"))
    carol = await network.acme_api.register("carol")
    since = (await carol.sync())["next_batch"]
    await carol.join(shared)
    await until(carol, presence_of(bob.user_id, "online"), since)


async def test_who_is_no_partner_is_told_nothing_of_presence_and_not_believed(
    alice: User, rooms: RoomPeer
) -> None:
    room_id = await alice.create_room()
    carol = rooms.user("carol")
    await rooms.join(ACME, room_id, carol)
    await alice.put("/v3/presence/{}/status", alice.user_id, json={"presence": "unavailable"})
    push = [{"user_id": carol, "presence": "online", "last_active_ago": 5}]
    await rooms.transmit(ACME, edus=[{"edu_type": "m.presence", "content": {"push": push}}])
    event_id = await alice.send(room_id, "something to be told")
    await alice.post("/v3/rooms/{}/receipt/m.read/{}", room_id, event_id, json={})
    await edus_sent(rooms, "m.receipt")
    sent = [edu["edu_type"] for each in rooms.transactions for edu in each.get("edus", ())]
    assert "m.presence" not in sent
    assert presence_of(carol, "online")(await alice.sync()) is None
