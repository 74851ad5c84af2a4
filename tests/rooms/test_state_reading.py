"""State and members: for those inside, for those who left, and as of earlier points."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from homeserver.errors import Forbidden, InvalidParam, NotFound
from homeserver.requester import Requester
from homeserver.rooms.draft import Draft
from homeserver.rooms.room import Room
from homeserver.rooms.snapshot_reader import durable_state
from homeserver.rooms.state_reading import MembersQuery
from tests.rooms.conftest import Engine
from tests.rooms.past import Past


async def topic(past: Past, user: Requester, room: Room) -> Any:
    content = await past.state.state_event(user, room.room_id, "m.room.topic", "", whole=False)
    return orjson.loads(content)["topic"]


async def members(past: Past, user: Requester, room: Room, **query: Any) -> dict[str, str]:
    body = orjson.loads(await past.state.members(user, room.room_id, MembersQuery(**query)))
    assert all(event["room_id"] == room.room_id for event in body["chunk"])
    return {event["state_key"]: event["content"]["membership"] for event in body["chunk"]}


async def test_who_left_sees_the_state_then(engine: Engine, alice: Requester, bob: Requester) -> None:
    past = Past.over(engine)
    room = await past.room(alice, bob)
    await past.put(room, alice, "m.room.topic", {"topic": "then"})
    leaving = await past.member(room, bob, "leave")
    await past.put(room, alice, "m.room.topic", {"topic": "now"})
    await past.member(room, bob, "ban", by=alice)
    assert await topic(past, alice, room) == "now"
    assert await topic(past, bob, room) == "then"
    state = orjson.loads(await past.state.state(bob, room.room_id))
    by_key = {(event["type"], event["state_key"]): event for event in state}
    assert by_key["m.room.topic", ""]["content"] == {"topic": "then"}
    assert by_key["m.room.member", bob.user_id]["event_id"] == leaving.event_id
    assert await members(past, bob, room) == {alice.user_id: "join", bob.user_id: "leave"}
    assert await members(past, alice, room) == {alice.user_id: "join", bob.user_id: "ban"}


async def test_a_piece_of_state(engine: Engine, alice: Requester, bob: Requester) -> None:
    past = Past.over(engine)
    room = await past.room(alice)
    event = await past.put(room, alice, "org.example", {"a": [1, None]}, "key")
    read = past.state.state_event
    assert orjson.loads(await read(alice, room.room_id, "org.example", "key", whole=False)) == event.content
    whole = orjson.loads(await read(alice, room.room_id, "org.example", "key", whole=True))
    assert (whole["event_id"], whole["room_id"]) == (event.event_id, room.room_id)
    with pytest.raises(NotFound):
        await read(alice, room.room_id, "org.example", "", whole=False)
    with pytest.raises(Forbidden):
        await read(bob, room.room_id, "org.example", "key", whole=False)


async def test_what_is_not_durable_yet_is_not_shown(engine: Engine, alice: Requester) -> None:
    past = Past.over(engine)
    room = await past.room(alice)
    await past.put(room, alice, "m.room.topic", {"topic": "stored"})
    draft = Draft(sender=alice.user_id, type="m.room.topic", content={"topic": "underway"}, state_key="")
    changes = engine.rooms.append(room, [draft], {})
    sending = asyncio.ensure_future(engine.rooms.commit(room, changes))
    await asyncio.sleep(0)
    assert room.content_of("m.room.topic") == {"topic": "underway"}
    assert durable_state(room, engine.rooms.position)["m.room.topic", ""].content == {"topic": "stored"}
    await sending
    assert await topic(past, alice, room) == "underway"


async def test_members_by_membership(engine: Engine, alice: Requester, bob: Requester) -> None:
    past = Past.over(engine)
    carol = await engine.user("carol")
    room = await past.room(alice, bob)
    await past.member(room, bob, "leave")
    await past.member(room, carol, "invite", by=alice)
    everyone = {alice.user_id: "join", bob.user_id: "leave", carol.user_id: "invite"}
    for query, expected in (
        ({}, {"join", "leave", "invite"}),
        ({"membership": "join"}, {"join"}),
        ({"not_membership": "leave"}, {"join", "invite"}),
        ({"membership": "leave", "not_membership": "join"}, {"leave", "invite"}),
    ):
        shown = {user: value for user, value in everyone.items() if value in expected}
        assert await members(past, alice, room, **query) == shown


async def test_members_at_a_point(engine: Engine, alice: Requester, bob: Requester) -> None:
    past = Past.over(engine)
    room = await past.room(alice)
    said = await past.say(room, alice)
    joined = await past.member(room, bob, "join")
    await past.say(room, alice)
    alone, both = {alice.user_id: "join"}, {alice.user_id: "join", bob.user_id: "join"}
    for token, expected in (
        (f"s{said.nid}_0", alone),
        (f"s{joined.nid - 1}_0", alone),
        (f"s{joined.nid}_0", both),
        (f"t{joined.depth}_{joined.nid - 1}", alone),
        (f"t{joined.depth}_{joined.nid}", both),
        (f"s{engine.log.position}_0", both),
        ("s0_0", {}),
    ):
        assert await members(past, alice, room, at=token) == expected, token
    await past.member(room, bob, "leave")
    await past.member(room, await engine.user("carol"), "join")
    left = {alice.user_id: "join", bob.user_id: "leave"}
    assert await members(past, bob, room, at=f"s{engine.log.position}") == left
    with pytest.raises(InvalidParam):
        await members(past, alice, room, at="now")


async def test_joined_members_are_named_as_in_the_room(
    engine: Engine, alice: Requester, bob: Requester
) -> None:
    past = Past.over(engine)
    room = await past.room(alice)
    await past.member(room, alice, "join", displayname="Alice here", avatar_url="mxc://veche.test/a")
    await past.member(room, bob, "join", displayname=["no", "name"], avatar_url="https://veche.test/b")
    read = past.state.joined_members
    assert orjson.loads(await read(alice, room.room_id)) == {
        "joined": {
            alice.user_id: {"display_name": "Alice here", "avatar_url": "mxc://veche.test/a"},
            bob.user_id: {},
        }
    }
    await past.member(room, bob, "leave")
    assert list(orjson.loads(await read(alice, room.room_id))["joined"]) == [alice.user_id]
    for room_id in (room.room_id, "!unknown"):
        with pytest.raises(Forbidden):
            await read(bob, room_id)


async def test_the_initial_sync_of_a_room(engine: Engine, alice: Requester, bob: Requester) -> None:
    past = Past.over(engine)
    room = await past.room(alice, bob)
    await engine.account_data.put(bob, "org.example", {"a": 1}, room_id=room.room_id)
    said = [await past.say(room, alice) for _ in range(4)]

    async def read(user: Requester) -> Any:
        return orjson.loads(await past.initial.read(user, room.room_id, 3))

    body = await read(bob)
    assert body["membership"] == "join"
    assert body["visibility"] == "private"
    assert body["account_data"] == [{"type": "org.example", "content": {"a": 1}}]
    assert [event["event_id"] for event in body["messages"]["chunk"]] == [e.event_id for e in said[1:]]
    assert len(body["state"]) == len(room.state)
    older = await past.messages(bob, room, start=body["messages"]["start"], limit=1)
    assert older["chunk"][0]["event_id"] == said[0].event_id
    leaving = await past.member(room, bob, "leave")
    later = await past.say(room, alice)
    body = await read(bob)
    assert body["messages"]["chunk"][-1]["event_id"] == leaving.event_id
    stranger = await engine.user("stranger")
    with pytest.raises(Forbidden):
        await read(stranger)
    await past.put(room, alice, "m.room.history_visibility", {"history_visibility": "world_readable"})
    public = await past.say(room, alice)
    shown = [event["event_id"] for event in (await read(stranger))["messages"]["chunk"]]
    assert public.event_id in shown
    assert later.event_id not in shown
    newer = await past.messages(alice, room, start=body["messages"]["end"], backwards=False, limit=1)
    assert newer["chunk"][0]["event_id"] == later.event_id
