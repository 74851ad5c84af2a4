"""Sending events and state, redacting: Client-Server API, "Sending events to a room"."""

from __future__ import annotations

import asyncio

import pytest

from tests.api.client import Api, User, refused, timeline_of

SEND = "/v3/rooms/{}/send/{}/{}"


async def test_a_message_is_sent_once_per_transaction(alice: User) -> None:
    room = await alice.create_room()
    first = await alice.send(room, "hello", txn_id="one")
    assert await alice.send(room, "changed", txn_id="one") == first
    assert await alice.send(room, "hello", txn_id="two") != first
    bodies = [event["content"].get("body") for event in (await alice.messages(room, limit=2))["chunk"]]
    assert bodies == ["hello", "hello"]


async def test_transactions_belong_to_the_device_and_the_path(alice: User) -> None:
    one, two = await alice.create_room(), await alice.create_room()
    phone = await alice.on_new_device()
    sent = [
        await alice.send(one, "hello", txn_id="same"),
        await alice.send(two, "hello", txn_id="same"),
        await alice.send(one, {"value": 1}, type="com.example.other", txn_id="same"),
        await phone.send(one, "hello", txn_id="same"),
    ]
    assert len(set(sent)) == 4


async def test_the_same_transaction_at_the_same_time(alice: User) -> None:
    room = await alice.create_room()
    sent = await asyncio.gather(*(alice.send(room, "hello", txn_id="at-once") for _ in range(8)))
    assert len(set(sent)) == 1
    bodies = [event for event in await alice.history(room) if event["type"] == "m.room.message"]
    assert len(bodies) == 1


async def test_the_sending_device_alone_sees_its_transaction(alice: User, bob: User) -> None:
    room = await alice.create_room()
    await bob.join(room)
    phone = await alice.on_new_device()
    positions = [(await user.sync())["next_batch"] for user in (alice, phone, bob)]
    await alice.send(room, "hello", txn_id="mine")
    seen = []
    for user, since in zip((alice, phone, bob), positions, strict=True):
        event = timeline_of(await user.sync(since, timeout_ms=2000), room)[-1]
        seen.append(event.get("unsigned", {}).get("transaction_id"))
    assert seen == ["mine", None, None]


async def test_older_clients_send_and_redact_without_a_transaction(alice: User) -> None:
    room_id = await alice.create_room()
    path, content = "/v3/rooms/{}/send/{}", {"msgtype": "m.text", "body": "Hi"}
    first = (await alice.post(path, room_id, "m.room.message", json=content))["event_id"]
    second = (await alice.post(path, room_id, "m.room.message", json=content))["event_id"]
    assert first != second
    redaction = (await alice.post("/v3/rooms/{}/redact/{}", room_id, first, json={}))["event_id"]
    event = await alice.get("/v3/rooms/{}/event/{}", room_id, first)
    assert event["content"] == {} and event["unsigned"]["redacted_because"]["event_id"] == redaction
    assert (await alice.get("/v3/rooms/{}/event/{}", room_id, second))["content"] == content


async def test_only_members_send(alice: User, bob: User) -> None:
    room = await alice.create_room()
    with refused(403, "M_FORBIDDEN"):
        await bob.send(room, "hello")
    with refused(403, "M_FORBIDDEN"):
        await bob.set_state(room, "m.room.topic", {"topic": "mine"})
    with refused(403, "M_FORBIDDEN"):
        await bob.get("/v3/rooms/{}/state", room)


async def test_power_decides_who_may_send_what(alice: User, bob: User) -> None:
    room = await alice.create_room()
    await bob.join(room)
    with refused(403, "M_FORBIDDEN"):
        await bob.set_state(room, "m.room.name", {"name": "Bob's"})
    levels = await alice.state(room, "m.room.power_levels")
    users = {**levels.get("users", {}), bob.user_id: 50}
    await alice.set_state(room, "m.room.power_levels", {**levels, "users": users, "events_default": 40})
    await bob.set_state(room, "m.room.name", {"name": "Bob's"})
    with refused(403, "M_FORBIDDEN"):  # nobody raises themselves
        users = {**users, bob.user_id: 60}
        await bob.set_state(room, "m.room.power_levels", {**levels, "users": users})


@pytest.mark.parametrize(
    "body",
    [b'{"value": 1.5}', b'{"value": 9007199254740992}', b'{"value": -9007199254740992}', b'{"a": [1e3]}'],
)
async def test_numbers_that_are_not_canonical_are_refused(alice: User, body: bytes) -> None:
    room = await alice.create_room()
    path = f"/_matrix/client/v3/rooms/{room.replace(':', '%3A').replace('!', '%21')}/send/com.example.n/n1"
    answer = await alice.exchange("PUT", path, body=body)
    assert (answer.status, answer.json["errcode"]) == (400, "M_BAD_JSON")


async def test_an_event_has_a_size(alice: User) -> None:
    room = await alice.create_room()
    await alice.send(room, "x" * 60_000)
    with refused(413, "M_TOO_LARGE"):
        await alice.send(room, "x" * 66_000)
    with refused(413, "M_TOO_LARGE"):
        await alice.send(room, {}, type="x" * 256)


async def test_content_is_an_object(alice: User) -> None:
    room = await alice.create_room()
    for body, errcode in ((b"[]", "M_BAD_JSON"), (b"{", "M_NOT_JSON"), (b'"text"', "M_BAD_JSON")):
        path = (
            f"/_matrix/client/v3/rooms/{room.replace(':', '%3A').replace('!', '%21')}/send/m.room.message/b"
        )
        answer = await alice.exchange("PUT", path, body=body)
        assert (answer.status, answer.json["errcode"]) == (400, errcode)


class TestState:
    async def test_it_is_set_read_and_replaced(self, alice: User, bob: User) -> None:
        room = await alice.create_room()
        await bob.join(room)
        await alice.set_state(room, "com.example.state", {"version": 1}, "key")
        replacing = await alice.set_state(room, "com.example.state", {"version": 2}, "key")
        assert await bob.state(room, "com.example.state", "key") == {"version": 2}
        event = await bob.event(room, replacing)
        assert event["unsigned"]["prev_content"] == {"version": 1}
        whole = await bob.get(
            "/v3/rooms/{}/state/{}/{}", room, "com.example.state", "key", query={"format": "event"}
        )
        assert whole["event_id"] == replacing
        with refused(404, "M_NOT_FOUND"):
            await bob.state(room, "com.example.state", "other")

    async def test_the_same_again_changes_nothing(self, alice: User) -> None:
        room = await alice.create_room()
        first = await alice.set_state(room, "m.room.name", {"name": "Plans"})
        assert await alice.set_state(room, "m.room.name", {"name": "Plans"}) == first

    async def test_an_empty_key_may_lose_its_slash(self, alice: User) -> None:
        room = await alice.create_room()
        await alice.put("/v3/rooms/{}/state/{}", room, "m.room.topic", json={"topic": "short"})
        assert (await alice.get("/v3/rooms/{}/state/{}", room, "m.room.topic"))["topic"] == "short"

    async def test_ones_own_id_is_reserved_as_a_key(self, alice: User, bob: User) -> None:
        room = await alice.create_room(power_level_content_override={"state_default": 0})
        await bob.join(room)
        await bob.set_state(room, "com.example.own", {"mine": True}, bob.user_id)
        with refused(403, "M_FORBIDDEN"):
            await bob.set_state(room, "com.example.own", {"mine": True}, alice.user_id)

    async def test_an_alias_has_to_lead_to_the_room(self, alice: User) -> None:
        room = await alice.create_room()
        with refused(400, "M_BAD_ALIAS"):
            alias = f"#no-such-alias:{alice.server_name}"
            await alice.set_state(room, "m.room.canonical_alias", {"alias": alias})


class TestRedaction:
    async def test_it_takes_the_content_away(self, alice: User, bob: User) -> None:
        room = await alice.create_room()
        await bob.join(room)
        message = await bob.send(room, "oops")
        redaction = await bob.redact(room, message, "wrong room")
        event = await alice.event(room, message)
        assert event["content"] == {}
        because = event["unsigned"]["redacted_because"]
        assert (because["event_id"], because["content"]["reason"]) == (redaction, "wrong room")
        assert (await alice.messages(room, limit=2))["chunk"][1]["content"] == {}

    async def test_others_messages_need_power(self, alice: User, bob: User) -> None:
        room = await alice.create_room()
        await bob.join(room)
        message = await alice.send(room, "hello")
        with refused(403, "M_FORBIDDEN"):
            await bob.redact(room, message)
        answer = await bob.send(room, "hello")
        await alice.redact(room, answer)
        assert (await bob.event(room, answer))["content"] == {}

    async def test_it_takes_events_of_its_own_room_alone(self, alice: User) -> None:
        room, other = await alice.create_room(), await alice.create_room()
        message = await alice.send(other, "hello")
        with refused(400, "M_INVALID_PARAM"):
            await alice.redact(room, message)
        with refused(404, "M_NOT_FOUND"):
            await alice.redact(room, "$none")

    async def test_it_is_done_once_per_transaction(self, alice: User) -> None:
        room = await alice.create_room()
        message = await alice.send(room, "oops")
        path = "/v3/rooms/{}/redact/{}/{}"
        first = await alice.put(path, room, message, "r1", json={})
        assert await alice.put(path, room, message, "r1", json={}) == first

    async def test_a_redacted_state_event_stays_in_force_without_content(self, alice: User) -> None:
        room = await alice.create_room()
        topic = await alice.set_state(room, "m.room.topic", {"topic": "secret"})
        await alice.redact(room, topic)
        assert await alice.state(room, "m.room.topic") == {}


class TestReports:
    async def test_what_one_sees_can_be_reported(self, alice: User, bob: User, api: Api) -> None:
        room = await alice.create_room()
        await bob.join(room)
        message = await alice.send(room, "rude")
        json = {"reason": "rude", "score": -100}
        assert await bob.post("/v3/rooms/{}/report/{}", room, message, json=json) == {}
        assert await bob.post("/v3/rooms/{}/report", room, json={"reason": "rude"}) == {}
        assert await bob.post("/v3/users/{}/report", alice.user_id, json={"reason": "rude"}) == {}
        stranger = await api.register("bob")
        with refused(404, "M_NOT_FOUND"):
            await stranger.post("/v3/rooms/{}/report/{}", room, message, json={"reason": "rude"})
