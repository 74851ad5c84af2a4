"""What a device must be told although nothing of it is in the timeline: Client-Server API, "Syncing"."""

from __future__ import annotations

from tests.api.client import Api, JsonObject, User, state_of, timeline_of


def joined(sync: JsonObject, room: str) -> JsonObject:
    found: JsonObject = sync["rooms"]["join"][room]
    return found


def lazy(limit: int) -> JsonObject:
    return {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": limit}}}


def members(events: list[JsonObject]) -> dict[str, JsonObject]:
    return {
        key: event["content"] for (kind, key), event in state_of(events).items() if kind == "m.room.member"
    }


class TestState:
    async def test_state_that_changed_in_the_gap_and_again_in_the_timeline_is_told_twice(
        self, alice: User
    ) -> None:
        room = await alice.create_room(name="First")
        since = (await alice.sync())["next_batch"]
        within = await alice.set_state(room, "m.room.name", {"name": "Within the gap"})
        await alice.send(room, "hello")
        after = await alice.set_state(room, "m.room.name", {"name": "In the timeline"})
        section = joined(await alice.sync(since, filter={"room": {"timeline": {"limit": 2}}}), room)
        assert [event["event_id"] for event in section["state"]["events"]] == [within]
        assert section["timeline"]["events"][-1]["event_id"] == after

    async def test_who_left_before_a_later_invite_sees_the_state_of_that_time(
        self, alice: User, bob: User
    ) -> None:
        room = await alice.create_room(name="While bob was here")
        await bob.join(room)
        await bob.leave(room)
        await alice.set_state(room, "m.room.name", {"name": "Afterwards"})
        await alice.invite(room, bob.user_id)
        await bob.leave(room)
        filter = {"room": {"include_leave": True, "timeline": {"limit": 1}}}
        for name, query in (("state", {}), ("state_after", {"use_state_after": True})):
            section = (await bob.sync(filter=filter, **query))["rooms"]["leave"][room]
            state = state_of(section[name]["events"])
            assert state["m.room.name", ""]["content"] == {"name": "While bob was here"}
        assert state["m.room.member", bob.user_id]["event_id"] == timeline_of_left(section)[-1]["event_id"]

    async def test_the_older_sync_shows_no_state_to_who_never_came(self, alice: User, bob: User) -> None:
        room = await alice.create_room(preset="private_chat", name="Closed", invite=[bob.user_id])
        await bob.leave(room)
        answer = await bob.get("/v3/initialSync", query={"archived": True})
        (entry,) = [entry for entry in answer["rooms"] if entry["room_id"] == room]
        assert entry["state"] == []


class TestComingBack:
    """Bob was away from a room whose history is only for those inside."""

    async def leave_and_come_back(self, alice: User, bob: User, carol: User) -> tuple[str, str, list[str]]:
        """The room, the token of bob's sync before that, and what he may not see of the time between."""
        room = await alice.create_room(preset="public_chat")
        await alice.set_state(room, "m.room.history_visibility", {"history_visibility": "joined"})
        await bob.join(room)
        await alice.invite(room, carol.user_id)
        since: str = (await bob.sync())["next_batch"]
        await bob.leave(room)
        unseen = [await alice.set_state(room, "m.room.topic", {"topic": "For a moment"})]
        await carol.join(room)
        unseen.append(await carol.send(room, "bob is away"))
        await alice.set_state(room, "m.room.topic", {"topic": "To stay"})
        await bob.join(room)
        return room, since, unseen

    async def state_by(self, bob: User, room: str) -> dict[tuple[str, str], JsonObject]:
        return state_of(await bob.get("/v3/rooms/{}/state", room))

    def seen_in(self, section: JsonObject) -> list[JsonObject]:
        return [*section["state"]["events"], *section["timeline"]["events"]]

    async def test_the_state_that_holds_is_in_the_timeline_and_the_rest_stays_hidden(
        self, alice: User, bob: User, api: Api
    ) -> None:
        room, since, unseen = await self.leave_and_come_back(alice, bob, await api.register("carol"))
        for limit in (3, 100):
            section = joined(await bob.sync(since, filter={"room": {"timeline": {"limit": limit}}}), room)
            found = self.seen_in(section)
            assert {key: event["event_id"] for key, event in state_of(found).items()} == {
                key: event["event_id"] for key, event in (await self.state_by(bob, room)).items()
            }
            assert not {event["event_id"] for event in found}.intersection(unseen)

    async def test_a_client_that_reads_no_state_from_the_timeline_is_shown_what_bob_may_see(
        self, alice: User, bob: User, api: Api
    ) -> None:
        carol = await api.register("carol")
        room, since, unseen = await self.leave_and_come_back(alice, bob, carol)
        section = joined(await bob.sync(since, use_state_after=True), room)
        shown = state_of(section["timeline"]["events"])
        assert shown["m.room.member", carol.user_id]["content"]["membership"] == "invite"
        assert ("m.room.topic", "") not in shown
        assert state_of(section["state_after"]["events"]) == await self.without_age(bob, room)
        assert not {event["event_id"] for event in section["timeline"]["events"]}.intersection(unseen)

    async def without_age(self, bob: User, room: str) -> dict[tuple[str, str], JsonObject]:
        return {
            key: {name: value for name, value in event.items() if name != "room_id"}
            for key, event in (await self.state_by(bob, room)).items()
        }

    async def test_who_left_again_knows_the_state_of_that_time(
        self, alice: User, bob: User, api: Api
    ) -> None:
        room, since, unseen = await self.leave_and_come_back(alice, bob, await api.register("carol"))
        await bob.leave(room)
        await alice.set_state(room, "m.room.topic", {"topic": "Without bob"})
        answer = await bob.sync(since, filter={"room": {"timeline": {"limit": 100}}})
        found = self.seen_in(answer["rooms"]["leave"][room])
        assert state_of(found)["m.room.topic", ""]["content"] == {"topic": "To stay"}
        assert not {event["event_id"] for event in found}.intersection(unseen)

    async def test_a_timeline_is_as_long_as_what_may_be_seen(self, alice: User, bob: User, api: Api) -> None:
        carol = await api.register("carol")
        room = await alice.create_room(preset="public_chat")
        await alice.set_state(room, "m.room.history_visibility", {"history_visibility": "joined"})
        await bob.join(room)
        before = await alice.send(room, "bob is here")
        since = (await bob.sync())["next_batch"]
        await bob.leave(room)
        await carol.join(room)
        for number in range(30):
            await alice.send(room, f"bob is away {number}")
        await bob.join(room)
        section = joined(await bob.sync(since, filter={"room": {"timeline": {"limit": 4}}}), room)
        shown = section["timeline"]["events"]
        assert shown[0]["event_id"] == before and section["timeline"]["limited"] is True
        assert [event.get("state_key") for event in shown[1:]] == [bob.user_id, carol.user_id, bob.user_id]
        earlier = await bob.messages(room, dir="b", limit=1, **{"from": section["timeline"]["prev_batch"]})
        assert [event.get("state_key") for event in earlier["chunk"]] == [bob.user_id]

    async def test_the_timeline_does_not_go_on_with_what_the_client_has(self, alice: User, bob: User) -> None:
        room = await alice.create_room(preset="public_chat")
        await bob.join(room)
        since = (await bob.sync())["next_batch"]
        await bob.leave(room)
        await alice.send(room, "bob is away")
        await bob.join(room)
        messages = {"room": {"timeline": {"types": ["m.room.message"]}}}
        assert joined(await bob.sync(since, filter=messages), room)["timeline"]["limited"] is True
        whole = {"room": {"timeline": {"limit": 100}}}
        assert joined(await bob.sync(since, filter=whole), room)["timeline"]["limited"] is False


def timeline_of_left(section: JsonObject) -> list[JsonObject]:
    events: list[JsonObject] = section["timeline"]["events"]
    return events


class TestLazyMembers:
    async def test_a_sender_comes_as_they_were_before_the_timeline(self, alice: User, bob: User) -> None:
        room = await alice.create_room(name="Plans")
        await bob.join(room)
        await alice.send(room, "hello")
        since = (await alice.sync(filter=lazy(1)))["next_batch"]
        await bob.send(room, "still under my old name")
        await bob.set_state(room, "m.room.member", {"membership": "join", "displayname": "New"}, bob.user_id)
        section = joined(await alice.sync(since, filter=lazy(10)), room)
        assert members(section["state"]["events"]) == {bob.user_id: {"membership": "join"}}
        assert members(section["timeline"]["events"])[bob.user_id]["displayname"] == "New"

    async def test_who_is_kicked_is_in_the_state_after_the_timeline(self, alice: User, bob: User) -> None:
        room = await alice.create_room(name="Plans")
        await bob.join(room)
        await alice.post("/v3/rooms/{}/kick", room, json={"user_id": bob.user_id})
        for since in (None, (await alice.sync(filter=lazy(1)))["next_batch"]):
            if since is not None:
                await alice.invite(room, bob.user_id)
            section = joined(await alice.sync(since, filter=lazy(1), use_state_after=True), room)
            expected = "leave" if since is None else "invite"
            assert members(section["state_after"]["events"])[bob.user_id]["membership"] == expected

    async def test_new_heroes_come_with_their_member_events(self, alice: User, bob: User, api: Api) -> None:
        room = await alice.create_room()
        others = [await api.register("bob") for _ in range(5)]
        for user in (*others, bob):
            await user.join(room)
        first = await alice.sync(filter=lazy(1))
        assert bob.user_id not in joined(first, room)["summary"]["m.heroes"]
        await others[0].leave(room)
        await alice.send(room, "hello")
        await alice.send(room, "hello again")
        section = joined(await alice.sync(first["next_batch"], filter=lazy(1)), room)
        heroes = section["summary"]["m.heroes"]
        assert others[0].user_id not in heroes and len(heroes) == 5
        known = {
            **members(joined(first, room)["state"]["events"]),
            **members(joined(first, room)["timeline"]["events"]),
            **members(section["state"]["events"]),
        }
        assert set(heroes) <= set(known)


class TestMembership:
    async def test_an_invite_is_not_lost_to_a_sync_with_full_state(self, alice: User, bob: User) -> None:
        since = (await bob.sync())["next_batch"]
        room = await alice.create_room(preset="private_chat", invite=[bob.user_id])
        assert room in (await bob.sync(since, full_state=True))["rooms"]["invite"]

    async def test_a_room_forgotten_at_once_is_still_told_to_have_been_left(
        self, alice: User, bob: User
    ) -> None:
        room = await alice.create_room()
        await bob.join(room)
        other_device = await bob.on_new_device()
        since = (await other_device.sync())["next_batch"]
        await bob.leave(room)
        await bob.post("/v3/rooms/{}/forget", room)
        assert room in (await other_device.sync(since))["rooms"]["leave"]
        filter = {"room": {"include_leave": True}}
        assert room not in (await other_device.sync(filter=filter)).get("rooms", {}).get("leave", {})


class TestAccountData:
    async def test_what_was_set_before_joining_comes_with_the_room(self, alice: User, bob: User) -> None:
        room = await alice.create_room(preset="private_chat", invite=[bob.user_id])
        await bob.put("/v3/user/{}/rooms/{}/tags/{}", bob.user_id, room, "m.favourite", json={"order": 0.5})
        since = (await bob.sync())["next_batch"]
        await bob.join(room)
        (event,) = joined(await bob.sync(since), room)["account_data"]["events"]
        assert event == {"type": "m.tag", "content": {"tags": {"m.favourite": {"order": 0.5}}}}

    async def test_a_filter_can_leave_out_rooms(self, alice: User) -> None:
        rooms = [await alice.create_room(), await alice.create_room()]
        for room in rooms:
            await alice.put("/v3/user/{}/rooms/{}/account_data/{}", alice.user_id, room, "test", json={})
        sync = await alice.sync(filter={"room": {"account_data": {"not_rooms": rooms[:1]}}})
        assert [len(joined(sync, room)["account_data"]["events"]) for room in rooms] == [0, 1]


class TestIgnoredUsers:
    async def ignore(self, user: User, ignored: User | None) -> None:
        users = {ignored.user_id: {}} if ignored is not None else {}
        content = {"ignored_users": users}
        await user.put("/v3/user/{}/account_data/{}", user.user_id, "m.ignored_user_list", json=content)

    async def test_their_messages_do_not_count(self, alice: User, bob: User, api: Api) -> None:
        room = await alice.create_room()
        other = await api.register("bob")
        for user in (bob, other):
            await user.join(room)
        await bob.send(room, "one")
        await other.send(room, "two")
        for ignored, expected in ((None, 2), (bob, 1), (None, 2)):
            await self.ignore(alice, ignored)
            counts = joined(await alice.sync(), room)["unread_notifications"]
            assert counts["notification_count"] == expected

    async def test_news_of_theirs_are_not_shown_or_counted(self, alice: User, bob: User) -> None:
        room = await alice.create_room()
        await bob.join(room)
        await self.ignore(alice, bob)
        since = (await alice.sync())["next_batch"]
        await bob.send(room, "hello?")
        content = {"membership": "join", "displayname": "Still here"}
        named = await bob.set_state(room, "m.room.member", content, bob.user_id)
        mine = await alice.send(room, "a monologue")
        sync = await alice.sync(since)
        assert [event["event_id"] for event in timeline_of(sync, room)] == [named, mine]
        assert joined(sync, room)["unread_notifications"]["notification_count"] == 0


async def test_a_redacted_message_does_not_count_any_more(alice: User, bob: User) -> None:
    room = await alice.create_room()
    await bob.join(room)
    message = await bob.send(room, "oops")
    sync = await alice.sync()
    assert joined(sync, room)["unread_notifications"]["notification_count"] == 1
    await bob.redact(room, message)
    sync = await alice.sync(sync["next_batch"])
    assert joined(sync, room)["unread_notifications"]["notification_count"] == 0
