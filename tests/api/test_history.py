"""History, its visibility, context, single events: Client-Server API, "Getting events for a room"."""

from __future__ import annotations

import pytest

from tests.api.client import Api, JsonObject, User, refused, state_of


def ids(events: list[JsonObject]) -> list[str]:
    return [event["event_id"] for event in events]


async def room_with_messages(user: User, count: int, **options: object) -> tuple[str, list[str]]:
    room = await user.create_room(**options)
    return room, [await user.send(room, f"message {number}") for number in range(count)]


class TestMessages:
    async def test_pages_lead_to_the_beginning_and_back(self, alice: User) -> None:
        room, sent = await room_with_messages(alice, 12)
        backwards = await alice.history(room, limit=5)
        assert ids(backwards)[:12] == sent[::-1]
        assert backwards[-1]["type"] == "m.room.create"
        assert len(set(ids(backwards))) == len(backwards)

        forwards: list[JsonObject] = []
        start = None
        while True:
            page = await alice.messages(room, dir="f", limit=5, **({"from": start} if start else {}))
            forwards += page["chunk"]
            if "end" not in page:
                break
            start = page["end"]
        assert ids(forwards) == ids(backwards)[::-1]

    async def test_they_continue_where_a_sync_began(self, alice: User) -> None:
        room, sent = await room_with_messages(alice, 8)
        sync = await alice.sync(filter={"room": {"timeline": {"limit": 3}}})
        timeline = sync["rooms"]["join"][room]["timeline"]
        assert timeline["limited"] is True
        assert ids(timeline["events"]) == sent[-3:]
        page = await alice.messages(room, limit=5, **{"from": timeline["prev_batch"]})
        assert ids(page["chunk"]) == sent[4::-1]
        newer = await alice.messages(room, dir="f", limit=5, **{"from": timeline["prev_batch"]})
        assert ids(newer["chunk"]) == sent[-3:]

    async def test_a_page_ends_at_to(self, alice: User) -> None:
        room, sent = await room_with_messages(alice, 3)
        position = (await alice.sync())["next_batch"]
        later = [await alice.send(room, f"later {number}") for number in range(3)]
        page = await alice.messages(room, limit=50, to=position)
        assert ids(page["chunk"]) == later[::-1]
        assert sent[0] not in ids(page["chunk"])

    async def test_filters_choose_events(self, alice: User, bob: User) -> None:
        room, _ = await room_with_messages(alice, 3)
        await bob.join(room)
        await bob.send(room, {"msgtype": "m.image", "body": "a.png", "url": "mxc://veche.test/a"})
        for filter, expected in (
            ({"types": ["m.room.message"]}, 4),
            ({"types": ["m.room.*"], "not_types": ["m.room.message"], "senders": [bob.user_id]}, 1),
            ({"senders": [bob.user_id], "types": ["m.room.message"]}, 1),
            ({"not_senders": [alice.user_id], "types": ["m.room.message"]}, 1),
            ({"contains_url": True}, 1),
            ({"not_rooms": [room]}, 0),
        ):
            page = await alice.messages(room, limit=50, filter=filter)
            assert len(page["chunk"]) == expected, filter

    async def test_lazily_loaded_members_come_with_the_page(self, alice: User, bob: User) -> None:
        room, _ = await room_with_messages(alice, 1)
        await bob.join(room)
        await bob.send(room, "hello")
        page = await alice.messages(room, limit=1, filter={"lazy_load_members": True})
        assert set(state_of(page["state"])) == {("m.room.member", bob.user_id)}


class TestVisibility:
    @pytest.mark.parametrize(
        ("visibility", "before_invite", "before_join"),
        [
            ("world_readable", True, True),
            ("shared", True, True),
            ("invited", False, True),
            ("joined", False, False),
        ],
    )
    async def test_newcomers_see_what_they_may(
        self, alice: User, bob: User, visibility: str, before_invite: bool, before_join: bool
    ) -> None:
        rule = {"type": "m.room.history_visibility", "content": {"history_visibility": visibility}}
        room = await alice.create_room(preset="private_chat", initial_state=[rule])
        first = await alice.send(room, "before the invitation")
        await alice.invite(room, bob.user_id)
        second = await alice.send(room, "before the join")
        await bob.join(room)
        third = await alice.send(room, "afterwards")
        seen = set(ids(await bob.history(room)))
        assert (first in seen, second in seen, third in seen) == (before_invite, before_join, True)
        timeline = (await bob.sync())["rooms"]["join"][room]["timeline"]["events"]
        assert (first in ids(timeline), third in ids(timeline)) == (before_invite, True)
        if not before_invite:
            with refused(404, "M_NOT_FOUND"):
                await bob.event(room, first)

    async def test_who_left_sees_nothing_newer(self, alice: User, bob: User) -> None:
        room, sent = await room_with_messages(alice, 2)
        await bob.join(room)
        await bob.leave(room)
        later = await alice.send(room, "now that we are alone")
        seen = ids(await bob.history(room))
        assert sent[-1] in seen
        assert later not in seen
        with refused(404, "M_NOT_FOUND"):
            await bob.event(room, later)

    async def test_strangers_see_what_is_world_readable(self, api: Api, alice: User, bob: User) -> None:
        rule = {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}
        opened, sent = await room_with_messages(alice, 1, initial_state=[rule])
        closed, hidden = await room_with_messages(alice, 1)
        assert sent[0] in ids(await bob.history(opened))
        assert (await bob.get("/v3/rooms/{}/state", opened))[0]["type"]
        with refused(403, "M_FORBIDDEN"):
            await bob.messages(closed)
        with refused(404, "M_NOT_FOUND"):
            await bob.event(closed, hidden[0])

    async def test_ignored_users_are_not_heard(self, alice: User, bob: User) -> None:
        room, _ = await room_with_messages(alice, 1)
        await bob.join(room)
        ignored = await bob.send(room, "buy this")
        path = "/v3/user/{}/account_data/{}"
        await alice.put(path, alice.user_id, "m.ignored_user_list", json={"ignored_users": {bob.user_id: {}}})
        timeline = (await alice.sync())["rooms"]["join"][room]["timeline"]["events"]
        assert ignored not in ids(timeline)
        assert ignored not in ids((await alice.messages(room))["chunk"])


class TestSingleEvents:
    async def test_context_surrounds_an_event(self, alice: User) -> None:
        room, sent = await room_with_messages(alice, 9)
        context = await alice.get("/v3/rooms/{}/context/{}", room, sent[4], query={"limit": 4})
        assert context["event"]["event_id"] == sent[4]
        assert ids(context["events_before"]) == [sent[3], sent[2]]
        assert ids(context["events_after"]) == [sent[5], sent[6]]
        assert ("m.room.create", "") in state_of(context["state"])
        page = await alice.messages(room, limit=2, **{"from": context["start"]})
        assert ids(page["chunk"]) == [sent[1], sent[0]]
        page = await alice.messages(room, dir="f", limit=2, **{"from": context["end"]})
        assert ids(page["chunk"]) == [sent[7], sent[8]]

    async def test_an_unknown_event_has_none(self, alice: User, bob: User) -> None:
        room, sent = await room_with_messages(alice, 1)
        with refused(404, "M_NOT_FOUND"):
            await alice.get("/v3/rooms/{}/context/{}", room, "$unknown")
        with refused(404, "M_NOT_FOUND"):
            await alice.event(room, "$unknown")
        other, _ = await room_with_messages(alice, 1)
        with refused(404, "M_NOT_FOUND"):
            await alice.event(other, sent[0])

    async def test_an_event_is_found_by_time(self, alice: User) -> None:
        room, sent = await room_with_messages(alice, 3)
        events = [await alice.event(room, event_id) for event_id in sent]
        path = "/v1/rooms/{}/timestamp_to_event"
        first = events[0]["origin_server_ts"]
        answer = await alice.get(path, room, query={"ts": events[-1]["origin_server_ts"] + 1000, "dir": "b"})
        assert answer["event_id"] == sent[-1]
        answer = await alice.get(path, room, query={"ts": first, "dir": "f"})
        assert answer["origin_server_ts"] == first
        with refused(404, "M_NOT_FOUND"):
            await alice.get(path, room, query={"ts": events[-1]["origin_server_ts"] + 1000, "dir": "f"})

    async def test_members_at_an_earlier_point(self, alice: User, bob: User) -> None:
        room, _ = await room_with_messages(alice, 1)
        at = (await alice.sync())["next_batch"]
        await bob.join(room)
        answer = await alice.get("/v3/rooms/{}/members", room, query={"at": at})
        assert [event["state_key"] for event in answer["chunk"]] == [alice.user_id]


async def test_reading_forwards_can_go_on_from_where_the_room_ends_now(alice: User) -> None:
    room, _ = await room_with_messages(alice, 1)
    since = (await alice.sync())["next_batch"]
    first = await alice.send(room, "one")
    page = await alice.messages(room, dir="f", **{"from": since})
    assert ids(page["chunk"]) == [first]
    assert "end" not in await alice.messages(room, dir="f", **{"from": page["end"]})
    second = await alice.send(room, "two")
    assert ids((await alice.messages(room, dir="f", **{"from": page["end"]}))["chunk"]) == [second]


class TestOldEndpoints:
    async def test_initial_sync_of_a_room(self, alice: User) -> None:
        room, sent = await room_with_messages(alice, 2)
        answer = await alice.get("/v3/rooms/{}/initialSync", room)
        assert answer["membership"] == "join"
        assert ids(answer["messages"]["chunk"])[-2:] == sent
        earlier = await alice.messages(room, **{"from": answer["messages"]["start"]})
        assert not set(ids(earlier["chunk"])) & set(ids(answer["messages"]["chunk"]))
        assert ("m.room.create", "") in state_of(answer["state"])
        assert [event["content"]["user_id"] for event in answer["presence"]] == [alice.user_id]
        assert answer["receipts"] == []

    async def test_initial_sync_has_presence_and_receipts(self, alice: User, bob: User) -> None:
        room, sent = await room_with_messages(alice, 1)
        await bob.join(room)
        await bob.post("/v3/rooms/{}/receipt/m.read/{}", room, sent[0])
        answer = await bob.get("/v3/initialSync")
        assert {event["content"]["user_id"] for event in answer["presence"]} == {alice.user_id, bob.user_id}
        (receipt,) = answer["receipts"]
        assert (receipt["room_id"], list(receipt["content"])) == (room, sent)
        assert list((await alice.get("/v3/rooms/{}/initialSync", room))["receipts"][0]["content"]) == sent
        await bob.leave(room)
        left = await bob.get("/v3/rooms/{}/initialSync", room)
        assert (left["presence"], left["receipts"]) == ([], [])

    async def test_events_tell_of_account_data_and_receipts(self, alice: User, bob: User) -> None:
        room, (message,) = await room_with_messages(alice, 1)
        await bob.join(room)
        since = (await alice.get("/v3/initialSync"))["end"]
        await bob.post("/v3/rooms/{}/receipt/m.read/{}", room, message)
        await alice.put("/v3/user/{}/rooms/{}/tags/{}", alice.user_id, room, "u.work", json={"order": 1})
        await alice.put("/v3/user/{}/account_data/{}", alice.user_id, "org.example", json={"a": 1})
        events = (await alice.get("/v3/events", query={"from": since, "timeout": 2000}))["chunk"]
        found = {event["type"]: event for event in events}
        assert found["m.receipt"]["room_id"] == found["m.tag"]["room_id"] == room
        assert list(found["m.receipt"]["content"]) == [message]
        assert found["org.example"]["content"] == {"a": 1}

    async def test_who_uses_the_old_stream_is_online(self, alice: User) -> None:
        await alice.put("/v3/user/{}/account_data/{}", alice.user_id, "org.example", json={"a": 1})
        answer = await alice.get("/v3/initialSync")
        (presence,) = answer["presence"]
        assert (presence["content"]["user_id"], presence["content"]["presence"]) == (alice.user_id, "online")
        # push rules are not "created by this user", and asked for by themselves
        assert [event["type"] for event in answer["account_data"]] == ["org.example"]

    async def test_initial_sync_and_events(self, alice: User) -> None:
        room, sent = await room_with_messages(alice, 1)
        initial = await alice.get("/v3/initialSync", query={"limit": 2})
        assert [each["room_id"] for each in initial["rooms"]] == [room]
        later = await alice.send(room, "news")
        events = await alice.get("/v3/events", query={"from": initial["end"], "timeout": 2000})
        assert later in [event.get("event_id") for event in events["chunk"]]
        assert (await alice.get("/v3/events/{}", sent[0]))["event_id"] == sent[0]
