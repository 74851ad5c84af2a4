"""The forms that requests for a room's past may take: slashes, formats, parameters, guests."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from tests.api.client import Api, JsonObject, User, refused
from tests.node import Node


async def test_the_trailing_slash_of_an_empty_state_key_is_optional(alice: User) -> None:
    room = await alice.create_room(topic="words")
    for template in ("/v3/rooms/{}/state/{}", "/v3/rooms/{}/state/{}/"):
        assert (await alice.get(template, room, "m.room.topic"))["topic"] == "words"
    await alice.set_state(room, "org.example", {"a": 1}, "key")
    assert await alice.state(room, "org.example", "key") == {"a": 1}
    with refused(404, "M_NOT_FOUND"):
        await alice.state(room, "org.example")


async def test_a_piece_of_state_as_content_or_event(alice: User) -> None:
    room = await alice.create_room(name="Room")
    path = "/v3/rooms/{}/state/{}/"
    content = await alice.get(path, room, "m.room.name", query={"format": "content"})
    event = await alice.get(path, room, "m.room.name", query={"format": "event"})
    assert content == event["content"] == {"name": "Room"}
    assert (event["sender"], event["room_id"], event["state_key"]) == (alice.user_id, room, "")
    with refused(400, "M_INVALID_PARAM"):
        await alice.get(path, room, "m.room.name", query={"format": "other"})


async def test_an_event_is_found_without_its_room(alice: User, bob: User) -> None:
    room = await alice.create_room(preset="private_chat")
    event_id = await alice.send(room, "hello")
    found = await alice.get("/v3/events/{}", event_id)
    assert found["content"]["body"] == "hello"
    assert found["unsigned"]["transaction_id"]
    with refused(404, "M_NOT_FOUND"):
        await bob.get("/v3/events/{}", event_id)
    with refused(404, "M_NOT_FOUND"):
        await bob.get("/v3/rooms/{}/event/{}", room, event_id)


async def test_members_in_both_forms(alice: User, bob: User) -> None:
    room = await alice.create_room()
    await bob.join(room)
    joined = (await alice.get("/v3/rooms/{}/joined_members", room))["joined"]
    assert set(joined) == {alice.user_id, bob.user_id}
    await bob.leave(room)
    chunk = (await alice.get("/v3/rooms/{}/members", room, query={"not_membership": "leave"}))["chunk"]
    assert [event["state_key"] for event in chunk] == [alice.user_id]
    with refused(403, "M_FORBIDDEN"):
        await bob.get("/v3/rooms/{}/joined_members", room)
    with refused(400, "M_INVALID_PARAM"):
        await alice.get("/v3/rooms/{}/members", room, query={"membership": "friend"})


@pytest.mark.parametrize(
    ("query", "errcode"),
    [
        ({}, "M_MISSING_PARAM"),
        ({"dir": "x"}, "M_INVALID_PARAM"),
        ({"dir": "b", "from": "x"}, "M_INVALID_PARAM"),
        ({"dir": "b", "to": "t9"}, "M_INVALID_PARAM"),
        ({"dir": "b", "limit": -1}, "M_INVALID_PARAM"),
        ({"dir": "b", "limit": "ten"}, "M_INVALID_PARAM"),
        ({"dir": "b", "filter": "{"}, "M_NOT_JSON"),
        ({"dir": "b", "filter": "[]"}, "M_BAD_JSON"),
        ({"dir": "b", "filter": {"types": "m.room.message"}}, "M_BAD_JSON"),
    ],
)
async def test_wrong_parameters_of_messages(alice: User, query: dict[str, object], errcode: str) -> None:
    room = await alice.create_room()
    with refused(400, errcode):
        await alice.get("/v3/rooms/{}/messages", room, query=query)


async def test_guests_look_into_world_readable_rooms_only(api: Api, alice: User) -> None:
    readable = {
        "type": "m.room.history_visibility",
        "state_key": "",
        "content": {"history_visibility": "world_readable"},
    }
    room, other = await alice.create_room(initial_state=[readable]), await alice.create_room()
    event_id = await alice.send(room, "hello")
    guest = await api.register_guest()
    assert (await guest.messages(room, limit=1))["chunk"][0]["event_id"] == event_id
    assert await guest.get("/v3/rooms/{}/state", room)
    assert (await guest.get("/v3/rooms/{}/members", room))["chunk"]
    assert (await guest.event(room, event_id))["content"]["body"] == "hello"
    assert (await guest.get("/v3/rooms/{}/context/{}", room, event_id))["event"]["event_id"] == event_id
    assert (await guest.get("/v3/rooms/{}/initialSync", room))["messages"]["chunk"]
    with refused(403, "M_FORBIDDEN"):
        await guest.messages(other)
    with refused(403, "M_FORBIDDEN"):
        await guest.get("/v3/rooms/{}/state", other)
    with refused(403, "M_GUEST_ACCESS_FORBIDDEN"):
        await guest.get("/v1/rooms/{}/threads", room)


async def test_old_clients_follow_a_room_that_they_look_into(alice: User, bob: User) -> None:
    state = [{"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}]
    room_id = await alice.create_room(initial_state=state)
    seen = await bob.get("/v3/rooms/{}/initialSync", room_id)
    for event in (*seen["state"], *seen["messages"]["chunk"]):
        assert event["user_id"] == event["sender"] == alice.user_id
    query: dict[str, Any] = {"room_id": room_id, "timeout": 5_000}
    query["from"] = (await bob.get("/v3/events", query={**query, "timeout": 0}))["end"]

    async def next_event() -> JsonObject:
        answer = await bob.get("/v3/events", query=query)
        query["from"] = answer["end"]
        [event] = answer["chunk"]
        assert event["room_id"] == room_id
        return dict(event)

    event_id = await alice.send(room_id, "Look")
    message = await next_event()
    assert (message["event_id"], message["user_id"]) == (event_id, alice.user_id)
    await alice.post("/v3/rooms/{}/receipt/m.read/{}", room_id, event_id, json={})
    assert alice.user_id in (await next_event())["content"][event_id]["m.read"]
    await alice.put("/v3/rooms/{}/typing/{}", room_id, alice.user_id, json={"typing": True})
    assert (await next_event())["content"] == {"user_ids": [alice.user_id]}
    await alice.post(
        "/v3/rooms/{}/receipt/m.read.private/{}", room_id, await alice.send(room_id, "Ah"), json={}
    )
    assert (await next_event())["type"] == "m.room.message"
    assert (await bob.get("/v3/events", query={**query, "timeout": 0}))["chunk"] == []


async def test_until_a_ban_is_written_its_user_reads_the_room(alice: User, bob: User, node: Node) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    database = await asyncpg.connect(node.database_url)
    async with database.transaction():
        await database.execute("SELECT FROM stream FOR UPDATE")  # so that the node writes nothing meanwhile
        ban = asyncio.create_task(alice.post("/v3/rooms/{}/ban", room_id, json={"user_id": bob.user_id}))
        async with asyncio.timeout(20):
            while not await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
        assert (await bob.state(room_id, "m.room.member", bob.user_id))["membership"] == "join"
        assert (await bob.messages(room_id, dir="b"))["chunk"]
    await database.close()
    await ban
    assert (await bob.state(room_id, "m.room.member", bob.user_id))["membership"] == "ban"


async def test_who_looks_into_a_room_sees_whether_its_members_are_there(
    alice: User, bob: User, api: Api
) -> None:
    state = [{"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}]
    room_id = await alice.create_room(initial_state=state)
    query: dict[str, Any] = {"room_id": room_id, "timeout": 5_000}
    query["from"] = (await bob.get("/v3/events", query={"room_id": room_id, "timeout": 0}))["end"]
    elsewhere = await api.register("carol")
    for user in (elsewhere, alice):
        await user.put(
            "/v3/presence/{}/status", user.user_id, json={"presence": "online", "status_msg": "Here"}
        )
    [event] = (await bob.get("/v3/events", query=query))["chunk"]
    assert (event["type"], event["content"]["user_id"]) == ("m.presence", alice.user_id)
    assert event["content"]["status_msg"] == "Here"


async def test_reports_need_a_reason(alice: User, bob: User) -> None:
    room = await alice.create_room()
    event_id = await alice.send(room, "hello")
    await bob.join(room)
    for template, segments in (
        ("/v3/rooms/{}/report", [room]),
        ("/v3/rooms/{}/report/{}", [room, event_id]),
        ("/v3/users/{}/report", [alice.user_id]),
    ):
        assert await bob.post(template, *segments, json={"reason": ""}) == {}
        with refused(400, "M_MISSING_PARAM"):
            await bob.post(template, *segments, json={})
        with refused(400, "M_BAD_JSON"):
            await bob.post(template, *segments, json={"reason": 5})
        with refused(400, "M_INVALID_PARAM"):
            await bob.post(template, *segments, json={"reason": "x" * 10_001})


async def test_threads_are_listed(alice: User) -> None:
    room = await alice.create_room()
    root = await alice.send(room, "root")
    relates_to = {"rel_type": "m.thread", "event_id": root}
    await alice.send(room, {"msgtype": "m.text", "body": "answer", "m.relates_to": relates_to})
    for include in ("all", "participated"):
        page = await alice.get("/v1/rooms/{}/threads", room, query={"include": include, "limit": 5})
        assert [event["event_id"] for event in page["chunk"]] == [root]
    with refused(400, "M_INVALID_PARAM"):
        await alice.get("/v1/rooms/{}/threads", room, query={"from": "somewhere"})
    with refused(400, "M_INVALID_PARAM"):
        await alice.get("/v1/rooms/{}/threads", room, query={"limit": 0})


async def test_what_an_event_replaced_is_named_and_shown_to_who_may_see_it(alice: User, bob: User) -> None:
    room = await alice.create_room(
        preset="public_chat",
        initial_state=[
            {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}},
        ],
    )
    first = await alice.set_state(room, "m.room.topic", {"topic": "before Bob"})
    await bob.join(room)
    second = await alice.set_state(room, "m.room.topic", {"topic": "for all"})
    seen = await alice.get("/v3/rooms/{}/event/{}", room, second)
    assert seen["unsigned"]["replaces_state"] == first
    assert seen["unsigned"]["prev_content"] == {"topic": "before Bob"}
    sync = await bob.sync()
    timeline = sync["rooms"]["join"][room]["timeline"]["events"]
    for event in (await bob.get("/v3/rooms/{}/event/{}", room, second), timeline[-1]):
        assert event["event_id"] == second
        assert event["unsigned"]["replaces_state"] == first
        assert "prev_content" not in event["unsigned"]
