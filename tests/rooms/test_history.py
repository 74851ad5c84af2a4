"""Paging through rooms without HTTP: who may, from where to where, and what is left out."""

from __future__ import annotations

import orjson
import pytest

from homeserver.errors import Forbidden, InvalidParam, NotFound
from homeserver.filters import compile_room_event_filter
from homeserver.requester import Requester
from homeserver.rooms.event import Event
from homeserver.rooms.room import Room
from tests.rooms.conftest import Engine
from tests.rooms.past import Past, logged, watched


def ids(events: list[Event]) -> list[str]:
    return [event.event_id for event in events]


async def talk(past: Past, room: Room, sender: Requester, count: int) -> list[Event]:
    return [await past.say(room, sender, f"message {number}") for number in range(count)]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000, 10**9])
async def test_paging_shows_every_event_once(engine: Engine, alice: Requester, limit: int) -> None:
    past = Past.over(engine)
    room = await past.room(alice)
    await talk(past, room, alice, 6)
    everything = ids(await past.events(room))
    assert await past.seen(alice, room, backwards=False, limit=limit) == everything
    assert await past.seen(alice, room, backwards=True, limit=limit) == everything[::-1]


async def test_tokens_are_points_between_events(engine: Engine, alice: Requester) -> None:
    past = Past.over(engine)
    room = await past.room(alice)
    events = await talk(past, room, alice, 6)
    page = await past.messages(alice, room, limit=2)
    assert [event["event_id"] for event in page["chunk"]] == ids(events[:3:-1])
    # the same token leads on in one direction, and back in the other
    back = await past.messages(alice, room, start=page["end"], backwards=False)
    assert [event["event_id"] for event in back["chunk"]] == ids(events[4:])
    position = events[2].nid
    for token in (f"s{position}", f"s{position}_17"):
        older = await past.messages(alice, room, start=token, limit=1)
        newer = await past.messages(alice, room, start=token, backwards=False, limit=1)
        assert [older["chunk"][0]["event_id"], newer["chunk"][0]["event_id"]] == ids(events[2:4])
        assert older["start"] == newer["start"] == token
    between = await past.messages(alice, room, start=f"s{events[4].nid}", to=f"s{events[1].nid}")
    assert [event["event_id"] for event in between["chunk"]] == ids(events[4:1:-1])
    assert "end" not in between


async def test_a_sync_token_of_before_the_room_is_its_start(engine: Engine, alice: Requester) -> None:
    past = Past.over(engine)
    room = await past.room(alice)
    everything = ids(await past.events(room))
    assert await past.seen(alice, room, start="s0_0", backwards=False) == everything
    assert await past.seen(alice, room, start="s0_0") == []


@pytest.mark.parametrize(
    "token", ["", "x", "t1", "t1_", "t-1_2", "s", "s1_", "t1_2_3", "t1_" + "9" * 19, "s" + "9" * 19]
)
async def test_other_tokens_are_refused(engine: Engine, alice: Requester, token: str) -> None:
    past = Past.over(engine)
    room = await past.room(alice)
    with pytest.raises(InvalidParam):
        await past.pages.point(room, token)


async def test_no_events_are_returned_where_none_are_wanted(engine: Engine, alice: Requester) -> None:
    past = Past.over(engine)
    room = await past.room(alice)
    page = await past.messages(alice, room, limit=0)
    assert page["chunk"] == []
    assert await past.seen(alice, room, start=page["end"]) == ids((await past.events(room))[::-1])


async def test_a_filter_that_few_pass_leads_on(engine: Engine, alice: Requester, bob: Requester) -> None:
    past = Past.over(engine)
    room = await past.room(alice, bob)
    first = await past.say(room, bob)
    await talk(past, room, alice, 40)
    of_bob = compile_room_event_filter({"senders": [bob.user_id], "types": ["m.room.message"]})
    page = await past.messages(alice, room, limit=1, filter=of_bob)
    assert page["chunk"] == []  # a request reads so far and no further
    assert await past.seen(alice, room, limit=1, filter=of_bob) == [first.event_id]


async def test_a_page_never_holds_more_than_wanted(engine: Engine, alice: Requester, bob: Requester) -> None:
    past = Past.over(engine)
    room = await past.room(alice, bob)
    said = await talk(past, room, bob, 4)
    await talk(past, room, alice, 3)
    of_bob = compile_room_event_filter({"senders": [bob.user_id], "types": ["m.room.message"]})
    page = await past.messages(alice, room, limit=2, filter=of_bob)
    assert [event["event_id"] for event in page["chunk"]] == ids(said[:1:-1])
    assert await past.seen(alice, room, limit=2, filter=of_bob) == ids(said[::-1])


async def test_a_filter_by_relations(engine: Engine, alice: Requester, bob: Requester) -> None:
    past = Past.over(engine)
    room = await past.room(alice, bob)
    root, other = await past.say(room, alice), await past.say(room, alice)
    await past.relate(room, bob, "m.thread", root)
    await past.relate(room, alice, "m.reference", other)
    threads_of_bob = compile_room_event_filter(
        {"related_by_rel_types": ["m.thread"], "related_by_senders": [bob.user_id]}
    )
    assert await past.seen(alice, room, filter=threads_of_bob) == [root.event_id]


async def test_a_filter_of_other_rooms_passes_nothing(engine: Engine, alice: Requester) -> None:
    past = Past.over(engine)
    room = await past.room(alice)
    page = await past.messages(alice, room, filter=compile_room_event_filter({"not_rooms": [room.room_id]}))
    assert page["chunk"] == []
    assert "end" not in page


async def test_members_are_those_of_the_page(engine: Engine, alice: Requester, bob: Requester) -> None:
    past = Past.over(engine)
    room = await past.room(alice)
    old_name = await past.member(room, bob, "join", displayname="Old")
    said = await past.say(room, bob)
    await past.member(room, bob, "join", displayname="New")
    lazy = compile_room_event_filter({"lazy_load_members": True, "types": ["m.room.message"]})
    page = await past.messages(alice, room, filter=lazy)
    assert [event["event_id"] for event in page["chunk"]] == [said.event_id]
    assert [event["event_id"] for event in page["state"]] == [old_name.event_id]
    assert page["state"][0]["room_id"] == room.room_id


async def test_a_page_costs_two_queries(engine: Engine, alice: Requester, bob: Requester) -> None:
    past = Past.over(engine)
    room = await past.room(alice, bob)
    await talk(past, room, bob, 30)
    await engine.account_data.ignored(alice.user_id)
    async with watched(engine) as (watching, queries):
        page = await watching.messages(alice, room, limit=30)
        await logged()
        assert len(page["chunk"]) == 30
        assert len(queries) == 2, queries


class TestWhoMayRead:
    async def test_who_was_never_inside_may_not(
        self, engine: Engine, alice: Requester, bob: Requester
    ) -> None:
        past = Past.over(engine)
        room = await past.room(alice)
        with pytest.raises(Forbidden):
            await past.messages(bob, room)
        await past.member(room, bob, "invite", by=alice)
        with pytest.raises(Forbidden):
            await past.messages(bob, room)
        await past.member(room, bob, "leave")
        with pytest.raises(Forbidden):
            await past.messages(bob, room)
        with pytest.raises(Forbidden):
            await past.readers.open("!unknown", bob.user_id)

    @pytest.mark.parametrize("end", ["leave", "ban", "leave, then ban", "leave, then invite"])
    async def test_who_left_may_up_to_then(
        self, engine: Engine, alice: Requester, bob: Requester, end: str
    ) -> None:
        past = Past.over(engine)
        room = await past.room(alice, bob)
        before = await past.say(room, alice)
        leaving = await past.member(room, bob, end.split(",")[0], by=alice)
        await past.say(room, alice)
        if "then" in end:
            await past.member(room, bob, end.split()[-1], by=alice)
            await past.say(room, alice)
        everything = ids(await past.events(room))
        known = everything[: everything.index(leaving.event_id) + 1]
        assert before.event_id in known
        assert await past.seen(bob, room) == known[::-1]
        assert await past.seen(bob, room, backwards=False, limit=3) == known
        assert await past.seen(bob, room, start=f"s{engine.log.position}") == known[::-1]

    async def test_who_forgot_the_room_may_not(
        self, engine: Engine, alice: Requester, bob: Requester
    ) -> None:
        past = Past.over(engine)
        room = await past.room(alice, bob)
        await past.member(room, bob, "leave")
        await past.messages(bob, room)
        await engine.user_rooms.get(bob.user_id)
        await engine.user_rooms.forget(bob.user_id, room.nid)
        with pytest.raises(Forbidden):
            await past.messages(bob, room)

    async def test_strangers_see_what_was_world_readable(
        self, engine: Engine, alice: Requester, bob: Requester
    ) -> None:
        past = Past.over(engine)
        room = await past.room(alice, visibility="shared")
        await past.say(room, alice, "private")
        opened = await past.put(
            room, alice, "m.room.history_visibility", {"history_visibility": "world_readable"}
        )
        public = await past.say(room, alice, "public")
        assert await past.seen(bob, room) == [public.event_id, opened.event_id]
        page = await past.messages(bob, room)
        assert page["chunk"][0]["unsigned"]["membership"] == "leave"


class TestSingleEvents:
    async def test_only_where_they_may_be_seen(
        self, engine: Engine, alice: Requester, bob: Requester
    ) -> None:
        past = Past.over(engine)
        room, other = await past.room(alice, bob), await past.room(alice)
        event = await past.say(room, alice)
        found = orjson.loads(await past.history.event(bob, room.room_id, event.event_id))
        assert found["content"]["body"] == "hello"
        assert found == orjson.loads(await past.history.event_anywhere(bob, event.event_id))
        for room_id, event_id in (
            (other.room_id, event.event_id),
            (room.room_id, "$unknown"),
            ("!unknown", event.event_id),
        ):
            with pytest.raises(NotFound):
                await past.history.event(bob, room_id, event_id)
        await past.member(room, bob, "leave")
        later = await past.say(room, alice)
        await past.history.event(bob, room.room_id, event.event_id)
        for read in (
            past.history.event(bob, room.room_id, later.event_id),
            past.history.event_anywhere(bob, later.event_id),
            past.history.event_anywhere(bob, "$unknown"),
        ):
            with pytest.raises(NotFound):
                await read

    async def test_what_redacted_them_is_told(self, engine: Engine, alice: Requester) -> None:
        past = Past.over(engine)
        room = await past.room(alice)
        event = await past.say(room, alice)
        redaction = await past.redact(room, alice, event)
        found = orjson.loads(await past.history.event(alice, room.room_id, event.event_id))
        assert found["content"] == {}
        assert found["unsigned"]["redacted_because"]["event_id"] == redaction.event_id

    async def test_ignored_users_say_nothing_but_state(
        self, engine: Engine, alice: Requester, bob: Requester
    ) -> None:
        past = Past.over(engine)
        room = await past.room(alice, bob)
        said = await past.say(room, bob)
        joined = room.member(bob.user_id)
        assert joined is not None
        ignored = {"ignored_users": {bob.user_id: {}}}
        await engine.account_data.put(alice, "m.ignored_user_list", ignored)
        seen = await past.seen(alice, room)
        assert said.event_id not in seen
        assert joined.event_id in seen
        with pytest.raises(NotFound):
            await past.history.event(alice, room.room_id, said.event_id)
        await past.history.event(alice, room.room_id, joined.event_id)


class TestByTime:
    async def test_the_nearest_in_each_direction(
        self, engine: Engine, alice: Requester, bob: Requester
    ) -> None:
        past = Past.over(engine)
        room = await past.room(alice, visibility="joined")
        base = 2_000_000_000_000
        hidden = [
            await past.send(room, alice, "m.room.message", {"body": "x"}, origin_server_ts=base + number)
            for number in range(30)
        ]
        await past.member(room, bob, "join")
        seen = await past.send(room, alice, "m.room.message", {"body": "x"}, origin_server_ts=base + 100)
        same = await past.send(room, alice, "m.room.message", {"body": "x"}, origin_server_ts=base + 100)
        nearest = past.history.nearest
        for user, ts, forwards, expected in (
            (alice, base + 5, True, hidden[5]),
            (alice, base + 5, False, hidden[5]),
            (alice, base + 30, False, hidden[29]),
            (alice, base + 30, True, seen),
            (alice, base + 100, True, seen),
            (alice, base + 100, False, same),
            (bob, base, True, seen),
        ):
            event = await nearest(user, room.room_id, ts, forwards=forwards)
            assert event.event_id == expected.event_id
        with pytest.raises(NotFound):
            await nearest(alice, room.room_id, base + 101, forwards=True)
        with pytest.raises(NotFound):
            await nearest(alice, room.room_id, 0, forwards=False)
        with pytest.raises(NotFound):  # who joined later sees their joining only, which was before that
            await nearest(bob, room.room_id, 0, forwards=False)


class TestContext:
    async def test_limits_order_and_tokens(self, engine: Engine, alice: Requester) -> None:
        past = Past.over(engine)
        room = await past.room(alice)
        events = await talk(past, room, alice, 11)
        for limit, before, after in ((0, 0, 0), (1, 0, 1), (4, 2, 2), (5, 2, 3), (8, 4, 4)):
            body = orjson.loads(
                await past.history.context(
                    alice, room.room_id, events[5].event_id, limit, compile_room_event_filter({})
                )
            )
            assert body["event"]["event_id"] == events[5].event_id
            shown = [event["event_id"] for event in body["events_before"]]
            assert shown == ids(events[5 - before : 5][::-1])
            assert [event["event_id"] for event in body["events_after"]] == ids(events[6 : 6 + after])
            older = await past.messages(alice, room, start=body["start"], limit=1)
            assert older["chunk"][0]["event_id"] == events[5 - before - 1].event_id
            newer = await past.messages(alice, room, start=body["end"], limit=1, backwards=False)
            assert newer["chunk"][0]["event_id"] == events[6 + after].event_id

    async def test_the_state_is_that_at_the_last_event(
        self, engine: Engine, alice: Requester, bob: Requester
    ) -> None:
        past = Past.over(engine)
        room = await past.room(alice, bob)
        asked = await past.say(room, alice)
        topic = await past.put(room, alice, "m.room.topic", {"topic": "then"})
        await past.put(room, alice, "m.room.topic", {"topic": "now"})
        lazy = compile_room_event_filter({"lazy_load_members": True})
        for limit, expected in ((0, None), (2, topic.event_id)):
            body = orjson.loads(await past.history.context(alice, room.room_id, asked.event_id, limit, lazy))
            topics = [event["event_id"] for event in body["state"] if event["type"] == "m.room.topic"]
            assert topics == ([expected] if expected else [])
            members = [event["state_key"] for event in body["state"] if event["type"] == "m.room.member"]
            assert members == [alice.user_id] or limit == 2
        only_topics = compile_room_event_filter({"types": ["m.room.topic"]})
        body = orjson.loads(await past.history.context(alice, room.room_id, asked.event_id, 4, only_topics))
        assert {event["type"] for event in body["state"]} == {"m.room.topic"}
