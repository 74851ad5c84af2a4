"""Sync in all its sections: Client-Server API, "Syncing"."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.api.client import Api, JsonObject, Refused, User, refused, state_of, timeline_of


def ids(events: list[JsonObject]) -> list[str]:
    return [event["event_id"] for event in events]


def joined(sync: JsonObject, room: str) -> JsonObject:
    found: JsonObject = sync["rooms"]["join"][room]
    return found


def timeline(limit: int, **more: object) -> JsonObject:
    """A filter with a timeline of this length."""
    return {"room": {"timeline": {"limit": limit, **more}}}


class TestFirstSync:
    async def test_it_has_all_rooms_with_state_and_timeline(self, alice: User, bob: User) -> None:
        rooms = [await alice.create_room(name=f"Room {number}") for number in range(3)]
        await bob.join(rooms[0])
        message = await bob.send(rooms[0], "hello")
        sync = await alice.sync()
        assert set(sync["rooms"]["join"]) == set(rooms)
        events = timeline_of(sync, rooms[0])
        assert ids(events)[-1] == message
        state = joined(sync, rooms[0])["state"]["events"]
        assert not set(ids(state)) & set(ids(events))
        whole = {**state_of(state), **state_of(events)}
        assert ("m.room.create", "") in whole
        assert whole["m.room.member", bob.user_id]["content"]["membership"] == "join"

    async def test_a_short_timeline_leaves_the_rest_to_the_state(self, alice: User) -> None:
        room = await alice.create_room(name="Plans")
        sent = [await alice.send(room, f"message {number}") for number in range(5)]
        sync = await alice.sync(filter=timeline(2))
        assert joined(sync, room)["timeline"]["limited"] is True
        assert ids(timeline_of(sync, room)) == sent[-2:]
        expected = {
            (event["type"], event["state_key"]) for event in await alice.get("/v3/rooms/{}/state", room)
        }
        assert set(state_of(joined(sync, room)["state"]["events"])) == expected

    async def test_a_summary_names_the_heroes(self, alice: User, bob: User) -> None:
        room = await alice.create_room()
        await bob.join(room)
        filter = {"room": {"state": {"lazy_load_members": True}}}
        summary = joined(await alice.sync(filter=filter), room)["summary"]
        assert summary["m.heroes"] == [bob.user_id]
        assert (summary["m.joined_member_count"], summary["m.invited_member_count"]) == (2, 0)


class TestNews:
    async def test_nothing_happened(self, alice: User) -> None:
        await alice.create_room()
        since = (await alice.sync())["next_batch"]
        sync = await alice.sync(since)
        assert not sync.get("rooms", {}).get("join")
        assert await alice.sync(sync["next_batch"], timeout_ms=50)

    async def test_a_waiting_sync_is_woken(self, alice: User, bob: User) -> None:
        room = await alice.create_room()
        await bob.join(room)
        since = (await bob.sync())["next_batch"]
        started = time.monotonic()
        waiting = asyncio.create_task(bob.sync(since, timeout_ms=20_000))
        await asyncio.sleep(0)
        message = await alice.send(room, "wake up")
        assert ids(timeline_of(await waiting, room)) == [message]
        assert time.monotonic() - started < 10

    async def test_a_sync_that_waits_for_others_ends_in_time(self, alice: User, bob: User) -> None:
        room = await bob.create_room()
        since = (await alice.sync())["next_batch"]
        waiting = asyncio.create_task(alice.sync(since, timeout_ms=300))
        await bob.send(room, "not for alice")
        assert not (await waiting).get("rooms", {}).get("join")

    async def test_the_same_position_gives_the_same_news(self, alice: User) -> None:
        room = await alice.create_room()
        since = (await alice.sync())["next_batch"]
        message = await alice.send(room, "hello")
        for _ in range(2):
            assert ids(timeline_of(await alice.sync(since), room)) == [message]

    async def test_every_message_arrives_once(self, alice: User, bob: User) -> None:
        room = await alice.create_room()
        await bob.join(room)
        since = (await bob.sync())["next_batch"]
        sending = asyncio.create_task(asyncio.wait_for(self._send_many(alice, room, 60), 30))
        seen: list[str] = []
        while not sending.done() or len(seen) < 60:
            sync = await bob.sync(since, timeout_ms=1000, filter=timeline(100))
            since = sync["next_batch"]
            seen += ids(timeline_of(sync, room))
        assert seen == await sending

    async def _send_many(self, user: User, room: str, count: int) -> list[str]:
        return [await user.send(room, f"message {number}") for number in range(count)]

    async def test_a_gap_is_told_and_can_be_filled(self, alice: User) -> None:
        room = await alice.create_room()
        since = (await alice.sync())["next_batch"]
        named = await alice.set_state(room, "m.room.name", {"name": "Within the gap"})
        sent = [await alice.send(room, f"message {number}") for number in range(8)]
        sync = await alice.sync(since, filter=timeline(3))
        section = joined(sync, room)
        assert section["timeline"]["limited"] is True
        assert ids(section["timeline"]["events"]) == sent[-3:]
        assert ids(section["state"]["events"]) == [named]
        page = await alice.messages(room, limit=6, **{"from": section["timeline"]["prev_batch"]})
        assert ids(page["chunk"]) == [*sent[4::-1], named]

    async def test_full_state_comes_when_asked_for(self, alice: User) -> None:
        room = await alice.create_room()
        since = (await alice.sync())["next_batch"]
        sync = await alice.sync(since, full_state=True)
        assert ("m.room.create", "") in state_of(joined(sync, room)["state"]["events"])

    async def test_full_state_tells_of_rooms_left_too(self, alice: User) -> None:
        room, other = await alice.create_room(), await alice.create_room()
        since = (await alice.sync())["next_batch"]
        await alice.leave(room)
        sections = (await alice.sync(since, full_state=True))["rooms"]
        assert (set(sections["join"]), set(sections["leave"])) == ({other}, {room})

    async def test_state_after_the_timeline(self, alice: User) -> None:
        room = await alice.create_room()
        since = (await alice.sync())["next_batch"]
        named = await alice.set_state(room, "m.room.name", {"name": "Plans"})
        sync = await alice.sync(since, use_state_after=True)
        section = joined(sync, room)
        assert "state" not in section
        assert ids(section["state_after"]["events"]) == [named]
        assert ids(section["timeline"]["events"]) == [named]


class TestMembership:
    async def test_a_join_brings_the_whole_room(self, alice: User, bob: User) -> None:
        room = await alice.create_room(name="Plans")
        await alice.send(room, "hello")
        since = (await bob.sync())["next_batch"]
        await bob.join(room)
        section = joined(await bob.sync(since), room)
        whole = {**state_of(section["state"]["events"]), **state_of(section["timeline"]["events"])}
        assert {("m.room.create", ""), ("m.room.name", ""), ("m.room.member", alice.user_id)} <= set(whole)

    async def test_leaving_shows_the_end_and_nothing_after(self, alice: User, bob: User) -> None:
        room = await alice.create_room()
        await bob.join(room)
        since = (await bob.sync())["next_batch"]
        last = await alice.send(room, "the last that bob sees")
        await alice.post("/v3/rooms/{}/kick", room, json={"user_id": bob.user_id})
        hidden = await alice.send(room, "bob is gone")
        sync = await bob.sync(since)
        events = ids(sync["rooms"]["leave"][room]["timeline"]["events"])
        assert last in events
        assert hidden not in events
        assert room not in sync["rooms"].get("join", {})
        assert room not in (await bob.sync()).get("rooms", {}).get("leave", {})
        assert room not in (await bob.sync(sync["next_batch"])).get("rooms", {}).get("leave", {})

    async def test_who_came_and_left_since_is_told_of_the_whole_room(self, alice: User, bob: User) -> None:
        room = await alice.create_room(name="Plans")
        await alice.send(room, "hello")
        since = (await bob.sync())["next_batch"]
        await bob.join(room)
        await bob.leave(room)
        section = (await bob.sync(since, filter=timeline(1)))["rooms"]["leave"][room]
        state = state_of(section["state"]["events"])
        assert state["m.room.name", ""]["content"] == {"name": "Plans"}
        assert ("m.room.create", "") in state

    async def test_who_never_came_learns_nothing_of_the_state(self, alice: User, bob: User) -> None:
        room = await alice.create_room(preset="private_chat", invite=[bob.user_id])
        filter = {"room": {"include_leave": True, "timeline": {"limit": 1, "types": ["m.room.member"]}}}
        since = (await bob.sync(filter=filter))["next_batch"]
        await alice.set_state(room, "m.room.topic", {"topic": "Behind closed doors"})
        await bob.leave(room)
        for sync in (await bob.sync(since, filter=filter), await bob.sync(filter=filter)):
            section = sync["rooms"]["leave"][room]
            assert [event["state_key"] for event in section["timeline"]["events"]] == [bob.user_id]
            assert section["state"]["events"] == []

    async def test_invitations_come_with_stripped_state(self, alice: User, bob: User) -> None:
        since = (await bob.sync())["next_batch"]
        room = await alice.create_room(preset="private_chat", name="Plans", invite=[bob.user_id])
        sync = await bob.sync(since, timeout_ms=2000)
        events = sync["rooms"]["invite"][room]["invite_state"]["events"]
        names = [event["content"]["name"] for event in events if event["type"] == "m.room.name"]
        assert names == ["Plans"]
        assert not (await bob.sync(sync["next_batch"])).get("rooms", {}).get("invite")


class TestFilters:
    async def test_types_senders_and_rooms(self, alice: User, bob: User) -> None:
        room, other = await alice.create_room(), await alice.create_room()
        await bob.join(room)
        mine, theirs = await alice.send(room, "from alice"), await bob.send(room, "from bob")
        for filter, expected in (
            ({"room": {"timeline": {"types": ["m.room.message"]}}}, [mine, theirs]),
            ({"room": {"timeline": {"types": ["m.room.mess*"], "senders": [bob.user_id]}}}, [theirs]),
            ({"room": {"timeline": {"types": ["m.room.message"], "not_senders": [bob.user_id]}}}, [mine]),
            ({"room": {"timeline": {"not_types": ["m.*"]}}}, []),
            ({"room": {"rooms": [other]}}, []),
        ):
            assert ids(timeline_of(await alice.sync(filter=filter), room)) == expected, filter
        sync = await alice.sync(filter={"room": {"not_rooms": [room]}})
        assert set(sync["rooms"]["join"]) == {other}

    async def test_a_timeline_of_no_length_leaves_all_to_the_state(self, alice: User) -> None:
        room = await alice.create_room(name="Plans")
        sync = await alice.sync(filter=timeline(0))
        assert joined(sync, room)["timeline"]["events"] == []
        assert ("m.room.name", "") in state_of(joined(sync, room)["state"]["events"])
        sent = await alice.send(room, "hello")
        news = joined(await alice.sync(sync["next_batch"], filter=timeline(0)), room)["timeline"]
        assert (news["events"], news["limited"]) == ([], True)
        page = await alice.messages(room, limit=1, **{"from": news["prev_batch"]})
        assert ids(page["chunk"]) == [sent]

    async def test_fields_are_chosen(self, alice: User) -> None:
        room = await alice.create_room()
        await alice.send(room, "hello")
        kept = ["event_id", "sender", "origin_server_ts", "type", "state_key", "content.body"]
        filter = {"event_fields": kept, **timeline(1, types=["m.room.message"])}
        filter["room"]["state"] = {"types": []}
        (event,) = timeline_of(await alice.sync(filter=filter), room)
        assert event["content"] == {"body": "hello"}
        assert set(event) == {"event_id", "sender", "origin_server_ts", "type", "content"}

    async def test_account_data_and_presence_can_be_left_out(self, alice: User) -> None:
        sync = await alice.sync(filter={"account_data": {"types": []}, "presence": {"types": []}})
        assert not sync.get("account_data", {}).get("events")
        assert not sync.get("presence", {}).get("events")

    async def test_members_are_loaded_lazily(self, alice: User, bob: User, api: Api) -> None:
        room = await alice.create_room(name="Without heroes")
        await bob.join(room)
        silent = await api.register("bob")
        await silent.join(room)
        await bob.send(room, "hello")
        filter = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 1}}}
        sync = await alice.sync(filter=filter)
        members = {
            key for kind, key in state_of(joined(sync, room)["state"]["events"]) if kind == "m.room.member"
        }
        assert bob.user_id in members
        assert silent.user_id not in members
        await bob.send(room, "again")
        news = await alice.sync(sync["next_batch"], filter=filter)
        assert not joined(news, room).get("state", {}).get("events")
        await silent.send(room, "now I speak")
        news = await alice.sync(news["next_batch"], filter=filter)
        assert set(state_of(joined(news, room)["state"]["events"])) == {("m.room.member", silent.user_id)}
        filter["room"]["state"]["include_redundant_members"] = True  # type: ignore[index]
        await bob.send(room, "and again")
        news = await alice.sync(news["next_batch"], filter=filter)
        assert ("m.room.member", bob.user_id) in state_of(joined(news, room)["state"]["events"])

    async def test_members_of_a_lost_answer_are_sent_again(self, alice: User, bob: User) -> None:
        room = await alice.create_room(name="Without heroes")
        filter = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 1}}}
        await bob.join(room)
        await alice.send(room, "hello")
        since = (await alice.sync(filter=filter))["next_batch"]
        await bob.send(room, "hello too")
        for _ in range(2):  # the client has not received the first answer, and asks again
            news = await alice.sync(since, filter=filter)
            assert ("m.room.member", bob.user_id) in state_of(joined(news, room)["state"]["events"])
        await bob.send(room, "still there?")
        news = await alice.sync(news["next_batch"], filter=filter)
        assert not joined(news, room).get("state", {}).get("events")

    async def test_members_who_changed_in_a_gap_are_in_the_state(
        self, alice: User, bob: User, api: Api
    ) -> None:
        room = await alice.create_room()
        filter = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 1}}}
        sync = await alice.sync(filter=filter)
        await bob.join(room)
        await alice.send(room, "one")
        sync = await alice.sync(sync["next_batch"], filter=filter)
        assert ("m.room.member", bob.user_id) in state_of(joined(sync, room)["state"]["events"])
        await bob.leave(room)
        await alice.send(room, "two")
        sync = await alice.sync(sync["next_batch"], filter=filter)
        left = state_of(joined(sync, room)["state"]["events"])["m.room.member", bob.user_id]
        assert left["content"]["membership"] == "leave"

    async def test_a_wrong_filter_is_refused(self, alice: User) -> None:
        for filter in ("{", '{"room": 5}', "no-such-filter"):
            with pytest.raises(Refused) as caught:
                await alice.get("/v3/sync", query={"filter": filter})
            assert caught.value.status == 400


class TestUnread:
    async def test_messages_count_until_they_are_read(self, alice: User, bob: User) -> None:
        room = await alice.create_room()
        await bob.join(room)
        await alice.sync()
        for number in range(2):
            await bob.send(room, f"message {number}")
        mention = {"msgtype": "m.text", "body": "hey", "m.mentions": {"user_ids": [alice.user_id]}}
        last = await bob.send(room, mention)
        counts = joined(await alice.sync(), room)["unread_notifications"]
        assert (counts["notification_count"], counts["highlight_count"]) == (3, 1)
        since = (await alice.sync())["next_batch"]
        await alice.post("/v3/rooms/{}/receipt/m.read/{}", room, last)
        section = joined(await alice.sync(since), room)
        assert section["unread_notifications"] == {"notification_count": 0, "highlight_count": 0}
        counts = joined(await alice.sync(), room)["unread_notifications"]
        assert counts == {"notification_count": 0, "highlight_count": 0}

    async def test_ones_own_messages_are_read(self, alice: User, bob: User) -> None:
        room = await alice.create_room()
        await bob.join(room)
        await bob.send(room, "hello")
        await alice.send(room, "I have seen it")
        assert joined(await alice.sync(), room)["unread_notifications"]["notification_count"] == 0

    async def test_threads_count_apart(self, alice: User, bob: User) -> None:
        room = await alice.create_room()
        await bob.join(room)
        root = await bob.send(room, "topic")
        relation = {"m.relates_to": {"rel_type": "m.thread", "event_id": root}}
        for number in range(2):
            await bob.send(room, {"msgtype": "m.text", "body": f"reply {number}", **relation})
        filter = {"room": {"timeline": {"unread_thread_notifications": True}}}
        section = joined(await alice.sync(filter=filter), room)
        assert section["unread_notifications"]["notification_count"] == 1
        assert section["unread_thread_notifications"][root]["notification_count"] == 2
        together = joined(await alice.sync(), room)["unread_notifications"]
        assert together["notification_count"] == 3


class TestEphemeral:
    async def test_typing_starts_and_stops(self, alice: User, bob: User) -> None:
        room = await alice.create_room()
        await bob.join(room)
        since = (await bob.sync())["next_batch"]
        path = "/v3/rooms/{}/typing/{}"
        await alice.put(path, room, alice.user_id, json={"typing": True, "timeout": 30_000})
        sync = await bob.sync(since, timeout_ms=2000)
        (event,) = joined(sync, room)["ephemeral"]["events"]
        assert event == {"type": "m.typing", "content": {"user_ids": [alice.user_id]}}
        await alice.put(path, room, alice.user_id, json={"typing": False})
        sync = await bob.sync(sync["next_batch"], timeout_ms=2000)
        (event,) = joined(sync, room)["ephemeral"]["events"]
        assert event["content"] == {"user_ids": []}
        with refused(403, "M_FORBIDDEN"):
            await bob.put(path, room, alice.user_id, json={"typing": True, "timeout": 1000})

    @pytest.mark.parametrize("kind", ["m.read", "m.read.private"])
    async def test_receipts_reach_whom_they_may(self, alice: User, bob: User, kind: str) -> None:
        room = await alice.create_room()
        await bob.join(room)
        message = await alice.send(room, "hello")
        mine, theirs = [(await user.sync())["next_batch"] for user in (bob, alice)]
        await bob.post("/v3/rooms/{}/receipt/{}/{}", room, kind, message)
        (event,) = joined(await bob.sync(mine), room)["ephemeral"]["events"]
        assert bob.user_id in event["content"][message][kind]
        seen = (await alice.sync(theirs)).get("rooms", {}).get("join", {}).get(room, {})
        shown = [event["content"] for event in seen.get("ephemeral", {}).get("events", [])]
        assert bool(shown) is (kind == "m.read")

    async def test_threaded_receipts_name_their_thread(self, alice: User, bob: User) -> None:
        room = await alice.create_room()
        await bob.join(room)
        message = await alice.send(room, "hello")
        since = (await alice.sync())["next_batch"]
        path = "/v3/rooms/{}/receipt/m.read/{}"
        await bob.post(path, room, message, json={"thread_id": "main"})
        (event,) = joined(await alice.sync(since), room)["ephemeral"]["events"]
        assert event["content"][message]["m.read"][bob.user_id]["thread_id"] == "main"

    async def test_read_markers_are_private(self, alice: User, bob: User) -> None:
        room = await alice.create_room()
        await bob.join(room)
        message = await alice.send(room, "hello")
        since = (await bob.sync())["next_batch"]
        json = {"m.fully_read": message, "m.read": message}
        await bob.post("/v3/rooms/{}/read_markers", room, json=json)
        section = joined(await bob.sync(since), room)
        (marker,) = section["account_data"]["events"]
        assert marker == {"type": "m.fully_read", "content": {"event_id": message}}
        assert section["ephemeral"]["events"]

    async def test_presence_is_shown_to_who_shares_a_room(self, alice: User, bob: User, api: Api) -> None:
        room = await alice.create_room()
        await bob.join(room)
        path = "/v3/presence/{}/status"
        since = (await bob.sync())["next_batch"]
        await alice.put(path, alice.user_id, json={"presence": "unavailable", "status_msg": "Lunch"})
        status = await bob.get(path, alice.user_id)
        assert (status["presence"], status["status_msg"]) == ("unavailable", "Lunch")
        sync = await bob.sync(since, timeout_ms=2000)
        shown = {event["sender"]: event["content"] for event in sync["presence"]["events"]}
        assert shown[alice.user_id]["status_msg"] == "Lunch"
        stranger = await api.register("bob")
        with refused(403, "M_FORBIDDEN"):
            await stranger.get(path, alice.user_id)
        with refused(403, "M_FORBIDDEN"):
            await bob.put(path, alice.user_id, json={"presence": "online"})

    async def test_presence_comes_with_whoever_is_met(self, alice: User, bob: User) -> None:
        room = await alice.create_room()
        for user in (alice, bob):
            await user.put("/v3/presence/{}/status", user.user_id, json={"presence": "online"})
        positions = [(user, (await user.sync(set_presence="offline"))["next_batch"]) for user in (alice, bob)]
        await bob.join(room)
        for (user, since), other in zip(positions, (bob, alice), strict=True):
            sync = await user.sync(since, set_presence="offline")
            assert [event["sender"] for event in sync["presence"]["events"]] == [other.user_id]
            again = await user.sync(sync["next_batch"], set_presence="offline")
            assert "presence" not in again


async def test_keys_of_devices_are_counted(alice: User) -> None:
    sync = await alice.sync()
    assert "device_one_time_keys_count" in sync
    assert isinstance(sync["device_one_time_keys_count"], dict)
