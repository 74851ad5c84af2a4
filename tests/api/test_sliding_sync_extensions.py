"""Extensions of sliding sync: account data, receipts and typing, for the rooms that they are asked for."""

from __future__ import annotations

import asyncio

from tests.api.client import JsonObject, User, refused
from tests.api.device_crypto import DeviceCrypto, claim
from tests.api.sliding import SlidingClient, listing, wanting


def enabled(*names: str) -> JsonObject:
    return {name: {"enabled": True} for name in names}


def types(events: list[JsonObject]) -> set[str]:
    return {event["type"] for event in events}


async def test_account_data_comes_whole_first_and_then_as_it_changes(alice: User) -> None:
    first, second = await alice.create_room(), await alice.create_room()
    await alice.put("/v3/user/{}/account_data/{}", alice.user_id, "org.example.a", json={"n": 1})
    await alice.put("/v3/user/{}/rooms/{}/tags/{}", alice.user_id, first, "u.old", json={})
    client = SlidingClient(alice, lists={"all": listing((0, 0))}, extensions=enabled("account_data"))

    data = (await client.sync())["extensions"]["account_data"]
    assert {"org.example.a", "m.push_rules"} <= types(data["global"])
    assert "rooms" not in data  # the first room is not in the window

    client.lists = {"all": listing((0, 9))}
    data = (await client.sync())["extensions"]["account_data"]
    assert "global" not in data and types(data["rooms"][first]) == {"m.tag"}
    assert (await client.sync())["extensions"] == {}

    await alice.put("/v3/user/{}/account_data/{}", alice.user_id, "org.example.a", json={"n": 2})
    await alice.put("/v3/user/{}/rooms/{}/tags/{}", alice.user_id, second, "u.new", json={})
    answer = await client.sync()
    assert answer["rooms"] == {}
    data = answer["extensions"]["account_data"]
    assert data["global"] == [{"type": "org.example.a", "content": {"n": 2}}]
    assert set(data["rooms"]) == {second}


async def test_an_extension_that_is_enabled_later_brings_all(alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    event_id = await alice.send(room_id, "hello")
    await bob.post("/v3/rooms/{}/receipt/{}/{}", room_id, "m.read", event_id, json={})
    await alice.put("/v3/user/{}/rooms/{}/tags/{}", alice.user_id, room_id, "u.tag", json={})
    client = SlidingClient(alice, lists={"all": listing((0, 9))})
    assert (await client.sync())["extensions"] == {}

    client.extensions = enabled("account_data", "receipts")
    found = (await client.sync())["extensions"]

    assert types(found["account_data"]["rooms"][room_id]) == {"m.tag"}
    assert bob.user_id in found["receipts"]["rooms"][room_id]["content"][event_id]["m.read"]


async def test_receipts_come_at_the_timeline_first_and_then_as_they_move(alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    old = await alice.send(room_id, "old")
    await bob.post("/v3/rooms/{}/receipt/{}/{}", room_id, "m.read", old, json={})
    await alice.post("/v3/rooms/{}/receipt/{}/{}", room_id, "m.read.private", old, json={})
    new = await bob.send(room_id, "new")
    client = SlidingClient(alice, lists={"all": listing((0, 9))}, extensions=enabled("receipts"))

    event = (await client.sync())["extensions"]["receipts"]["rooms"][room_id]
    assert event["type"] == "m.receipt"
    assert set(event["content"]) == {old} and set(event["content"][old]) == {"m.read.private"}

    await bob.post("/v3/rooms/{}/receipt/{}/{}", room_id, "m.read", new, json={})
    await bob.post("/v3/rooms/{}/receipt/{}/{}", room_id, "m.read.private", new, json={})
    answer = await client.sync()
    assert answer["rooms"] == {}
    assert answer["extensions"]["receipts"]["rooms"][room_id]["content"] == {
        new: {"m.read": {bob.user_id: event_of(answer, room_id, new, bob)}}
    }


def event_of(answer: JsonObject, room_id: str, event_id: str, user: User) -> JsonObject:
    """What the answer says of a user's receipt at an event."""
    content = answer["extensions"]["receipts"]["rooms"][room_id]["content"]
    found: JsonObject = content[event_id]["m.read"][user.user_id]
    assert set(found) == {"ts"}
    return found


async def test_the_own_receipt_clears_the_counts_on_other_devices(alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    client = SlidingClient(alice, lists={"all": listing((0, 9))}, extensions=enabled("receipts"))
    await client.sync()
    event_id = await bob.send(room_id, "hello")
    assert (await client.sync())["rooms"][room_id]["notification_count"] == 1
    await alice.post("/v3/rooms/{}/receipt/{}/{}", room_id, "m.read.private", event_id, json={})
    answer = await client.sync()
    assert answer["rooms"][room_id]["notification_count"] == 0
    assert "timeline" not in answer["rooms"][room_id]


async def test_typing_is_told_and_its_end(alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    client = SlidingClient(alice, lists={"all": listing((0, 9))}, extensions=enabled("typing"))
    assert (await client.sync())["extensions"] == {}
    for typing in (True, False):
        await bob.put(
            "/v3/rooms/{}/typing/{}", room_id, bob.user_id, json={"typing": typing, "timeout": 30_000}
        )
        answer = await client.sync(timeout_ms=20_000)
        event = answer["extensions"]["typing"]["rooms"][room_id]
        assert event == {"type": "m.typing", "content": {"user_ids": [bob.user_id] if typing else []}}
        assert answer["rooms"] == {}


async def test_extensions_keep_to_their_lists_and_rooms(alice: User, bob: User) -> None:
    listed = await alice.create_room(preset="public_chat")
    subscribed = await alice.create_room(preset="public_chat")
    for room_id in (listed, subscribed):
        await bob.join(room_id)
    await alice.send(listed, "newest")

    async def typed_in(extension: JsonObject) -> set[str]:
        client = SlidingClient(
            alice,
            lists={"top": listing((0, 0))},
            subscriptions={subscribed: wanting()},
            extensions={"typing": {"enabled": True, **extension}},
        )
        await client.sync()
        for room_id in (listed, subscribed):
            for typing in (True, False):
                await bob.put(
                    "/v3/rooms/{}/typing/{}", room_id, bob.user_id, json={"typing": typing, "timeout": 9000}
                )
        found: JsonObject = (await client.sync())["extensions"].get("typing", {"rooms": {}})
        return set(found["rooms"])

    assert await typed_in({}) == {listed, subscribed}
    assert await typed_in({"lists": ["*"], "rooms": ["*"]}) == {listed, subscribed}
    assert await typed_in({"rooms": []}) == {listed}
    assert await typed_in({"lists": []}) == {subscribed}
    assert await typed_in({"lists": ["other"], "rooms": [subscribed]}) == {subscribed}
    assert await typed_in({"lists": ["other"], "rooms": [listed]}) == set()


async def test_to_device_messages_come_until_they_are_acknowledged(alice: User, bob: User) -> None:
    client = SlidingClient(alice, lists={}, extensions=enabled("to_device"))
    client.take(await client.ask())

    async def send(body: str) -> None:
        messages = {alice.user_id: {alice.device_id: {"body": body}}}
        await bob.put("/v3/sendToDevice/{}/{}", "m.test", bob.next_txn_id(), json={"messages": messages})

    async def received(since: str | None) -> tuple[list[str], str]:
        config: JsonObject = {"enabled": True} | ({"since": since} if since is not None else {})
        client.extensions = {"to_device": config}
        found = (await client.sync())["extensions"]["to_device"]
        return [event["content"]["body"] for event in found["events"]], found["next_batch"]

    await send("one")
    assert (await received(None))[0] == ["one"]
    await send("two")
    told, first = await received(None)
    assert told == ["one", "two"]
    await send("three")
    assert (await received(first))[0] == ["three"]
    told, second = await received(first)
    assert told == ["three"]
    assert (await received(second))[0] == []
    with refused(400, "M_INVALID_PARAM"):
        await received("nonsense")


async def test_a_device_list_that_changes_and_the_count_of_keys_are_told(alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await alice.set_state(room_id, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    await bob.join(room_id)
    client = SlidingClient(alice, lists={}, extensions=enabled("e2ee"))
    found = (await client.sync())["extensions"]["e2ee"]
    assert found["device_one_time_keys_count"] == {"signed_curve25519": 0}
    assert found["device_unused_fallback_key_types"] == [] and "device_lists" not in found

    await bob.leave(room_id)
    found = (await client.sync())["extensions"]["e2ee"]
    assert found["device_lists"] == {"changed": [], "left": [bob.user_id]}
    assert "device_lists" not in (await client.sync())["extensions"]["e2ee"]


async def test_keys_that_were_claimed_are_news(alice: User, bob: User) -> None:
    device = DeviceCrypto(alice)
    await device.upload(one_time_keys=device.one_time_keys(3))
    client = SlidingClient(alice, lists={}, extensions=enabled("e2ee"))
    await client.sync()
    await claim(bob, alice)
    async with asyncio.timeout(10):
        found = (await client.sync(timeout_ms=30_000))["extensions"]["e2ee"]
        assert found["device_one_time_keys_count"] == {"signed_curve25519": 2}
        waiting = asyncio.create_task(client.sync(timeout_ms=30_000))
        done, _ = await asyncio.wait((waiting,), timeout=0.3)
        assert not done
        await claim(bob, alice)
        found = (await waiting)["extensions"]["e2ee"]
    assert found["device_one_time_keys_count"] == {"signed_curve25519": 1}
