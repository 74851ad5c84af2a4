"""Simplified sliding sync (MSC4186), as current clients speak it: lists, subscriptions, rooms."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.api.client import JsonObject, User, refused
from tests.api.sliding import SlidingClient, listing, wanting


def bodies(room: JsonObject) -> list[str]:
    """What was written in a room's timeline."""
    return [event["content"].get("body") for event in room["timeline"] if event["type"] == "m.room.message"]


async def test_a_list_shows_the_most_recent_rooms_and_how_many_there_are(alice: User) -> None:
    rooms = [await alice.create_room(name=f"Room {number}") for number in range(4)]
    await alice.send(rooms[0], "the newest")

    client = SlidingClient(alice, lists={"all": listing((0, 1), timeline_limit=1)})
    answer = await client.sync()

    assert answer["lists"] == {"all": {"count": 4}}
    assert set(answer["rooms"]) == {rooms[0], rooms[3]}
    room = answer["rooms"][rooms[0]]
    assert room["initial"] and room["limited"] and room["num_live"] == 0
    assert room["name"] == "Room 0" and room["joined_count"] == 1
    assert room["membership"] == "join" and room["lists"] == ["all"]
    assert bodies(room) == ["the newest"]
    assert room["bump_stamp"] > answer["rooms"][rooms[3]]["bump_stamp"]


async def test_a_growing_window_brings_only_the_rooms_that_were_not_sent(alice: User) -> None:
    rooms = [await alice.create_room() for _ in range(4)]
    client = SlidingClient(alice, lists={"all": listing((0, 1))})
    await client.sync()

    client.lists = {"all": listing((0, 9))}
    answer = await client.sync()

    assert set(answer["rooms"]) == set(rooms[:2])


async def test_news_is_waited_for_and_brought_by_itself(alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    client = SlidingClient(alice, lists={"all": listing((0, 19), timeline_limit=5)})
    await client.sync()
    assert (await client.sync())["rooms"] == {}

    waiting = asyncio.ensure_future(client.sync(timeout_ms=20_000))
    await asyncio.sleep(0)
    await bob.send(room_id, "hello")
    room = (await waiting)["rooms"][room_id]

    assert "initial" not in room and "name" not in room and "joined_count" not in room
    assert bodies(room) == ["hello"] and room["num_live"] == 1
    assert room["notification_count"] == 1 and room["highlight_count"] == 0
    assert (await client.sync())["rooms"] == {}


async def test_a_lost_answer_is_given_again(alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    client = SlidingClient(alice, lists={"all": listing((0, 19), timeline_limit=5)})
    await client.sync()
    other = await bob.create_room(invite=[alice.user_id])
    await bob.send(room_id, "hello")

    lost = await client.ask()
    again = await client.ask()

    assert set(lost["rooms"]) == set(again["rooms"]) == {room_id, other}
    assert bodies(again["rooms"][room_id]) == ["hello"]
    client.take(again)
    assert (await client.sync())["rooms"] == {}


async def test_an_unknown_pos_is_refused(alice: User, bob: User) -> None:
    client = SlidingClient(alice, lists={"all": listing((0, 19))})
    await client.sync()
    theirs = SlidingClient(bob, lists={"all": listing((0, 19))})
    other_device = SlidingClient(await alice.on_new_device(), lists={"all": listing((0, 19))})
    for stranger in (theirs, other_device):
        await stranger.sync()
        stranger.pos = client.pos
        with refused(400, "M_UNKNOWN_POS"):
            await stranger.sync()
    client.pos = "nonsense"
    with refused(400, "M_UNKNOWN_POS"):
        await client.sync()


async def test_connections_of_a_device_do_not_disturb_each_other(alice: User) -> None:
    room_id = await alice.create_room()
    first = SlidingClient(alice, conn_id="one", lists={"all": listing((0, 19))})
    second = SlidingClient(alice, conn_id="two", lists={"all": listing((0, 19))})
    assert set((await first.sync())["rooms"]) == set((await second.sync())["rooms"]) == {room_id}
    await alice.send(room_id, "news")
    assert set((await first.sync())["rooms"]) == {room_id}
    assert set((await second.sync())["rooms"]) == {room_id}
    first.pos, second.pos = second.pos, first.pos
    with refused(400, "M_UNKNOWN_POS"):
        await first.sync()


async def test_a_subscription_is_sent_wherever_the_room_stands_in_the_lists(alice: User, bob: User) -> None:
    room_id = await alice.create_room(name="Old")
    await alice.create_room(name="New")
    hidden = await bob.create_room(name="Not hers")
    client = SlidingClient(alice, lists={"all": listing((0, 0))})
    assert room_id not in (await client.sync())["rooms"]

    client.subscriptions = {room_id: wanting(timeline_limit=3), hidden: wanting(), "!no:such": wanting()}
    answer = await client.sync()

    assert set(answer["rooms"]) == {room_id}
    assert answer["rooms"][room_id]["initial"] and "lists" not in answer["rooms"][room_id]


async def test_required_state_knows_me_lazy_members_and_wildcards(alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="public_chat", name="State", topic="Things")
    await bob.join(room_id)
    await alice.set_state(room_id, "org.example.one", {"n": 1}, "a")
    await alice.set_state(room_id, "org.example.one", {"n": 2}, "b")

    def keys(answer: JsonObject) -> set[tuple[str, str]]:
        return {(event["type"], event["state_key"]) for event in answer["rooms"][room_id]["required_state"]}

    async def state(*pairs: tuple[str, str], limit: int = 0) -> set[tuple[str, str]]:
        config = wanting(*pairs, timeline_limit=limit)
        return keys(await SlidingClient(alice, subscriptions={room_id: config}).sync())

    assert await state(("m.room.name", ""), ("org.example.one", "*")) == {
        ("m.room.name", ""),
        ("org.example.one", "a"),
        ("org.example.one", "b"),
    }
    assert await state(("m.room.member", "$ME")) == {("m.room.member", alice.user_id)}
    assert await state(("m.room.member", "$LAZY"), limit=1) == {("m.room.member", alice.user_id)}
    everything = await state(("*", "*"))
    assert {("m.room.member", bob.user_id), ("m.room.create", ""), ("m.room.topic", "")} <= everything
    assert await state(("*", "a")) == {("org.example.one", "a")}


async def test_state_that_is_asked_for_later_is_sent_at_once(alice: User) -> None:
    room_id = await alice.create_room(name="State", topic="Things")
    client = SlidingClient(alice, lists={"all": listing((0, 19), ("m.room.name", ""))})
    await client.sync()

    client.lists = {"all": listing((0, 19), ("m.room.name", ""), ("m.room.topic", ""))}
    room = (await client.sync())["rooms"][room_id]

    assert [event["type"] for event in room["required_state"]] == ["m.room.topic"]
    assert "initial" not in room
    assert (await client.sync())["rooms"] == {}


async def test_lazily_loaded_members_come_once_with_who_wrote(alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await alice.send(room_id, "one")
    client = SlidingClient(alice, lists={"all": listing((0, 19), ("m.room.member", "$LAZY"))})
    await client.sync()

    async def members() -> list[str]:
        room = (await client.sync())["rooms"][room_id]
        return [event["state_key"] for event in room.get("required_state", [])]

    await bob.send(room_id, "two")
    assert await members() == [bob.user_id]
    await bob.send(room_id, "three")
    assert await members() == []


async def test_a_growing_timeline_limit_brings_older_events(alice: User) -> None:
    room_id = await alice.create_room()
    for number in range(5):
        await alice.send(room_id, str(number))
    client = SlidingClient(alice, lists={"all": listing((0, 19), timeline_limit=1)})
    assert bodies((await client.sync())["rooms"][room_id]) == ["4"]
    await alice.send(room_id, "5")
    assert bodies((await client.sync())["rooms"][room_id]) == ["5"]

    client.lists = {"all": listing((0, 19), timeline_limit=2)}
    assert (await client.sync())["rooms"] == {}  # it has the last two
    client.lists = {"all": listing((0, 19), timeline_limit=4)}
    room = (await client.sync())["rooms"][room_id]

    assert bodies(room) == ["2", "3", "4", "5"]
    assert room["unstable_expanded_timeline"] and room["num_live"] == 0
    assert (await client.sync())["rooms"] == {}


async def test_what_is_missed_beyond_the_limit_leaves_a_gap_that_can_be_filled(alice: User) -> None:
    room_id = await alice.create_room()
    client = SlidingClient(alice, lists={"all": listing((0, 19), timeline_limit=2)})
    await client.sync()
    for number in range(4):
        await alice.send(room_id, str(number))

    room = (await client.sync())["rooms"][room_id]

    assert bodies(room) == ["2", "3"] and room["limited"] and room["num_live"] == 2
    page = await alice.messages(room_id, **{"from": room["prev_batch"], "limit": 2})
    assert [event["content"]["body"] for event in page["chunk"]] == ["1", "0"]
    since = await alice.messages(room_id, **{"from": client.pos, "limit": 1})
    assert since["chunk"][0]["content"]["body"] == "3"


async def test_an_invite_comes_stripped_and_a_join_from_the_start(alice: User, bob: User) -> None:
    client = SlidingClient(bob, lists={"all": listing((0, 19), timeline_limit=5)})
    await client.sync()
    room_id = await alice.create_room(name="Club", invite=[bob.user_id])

    invited = (await client.sync())["rooms"][room_id]
    assert invited["membership"] == "invite" and "timeline" not in invited
    names = {event["type"]: event["content"] for event in invited["invite_state"]}
    assert names["m.room.name"] == {"name": "Club"} and names["m.room.member"]["membership"] == "invite"
    assert (await client.sync())["rooms"] == {}

    await bob.join(room_id)
    joined = (await client.sync())["rooms"][room_id]
    assert joined["initial"] and joined["membership"] == "join" and joined["name"] == "Club"


async def test_a_rejected_invite_is_told_of_and_then_gone(alice: User, bob: User) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    client = SlidingClient(bob, lists={"all": listing((0, 19))})
    await client.sync()

    await bob.leave(room_id)
    answer = await client.sync()

    assert answer["rooms"][room_id]["membership"] == "leave"
    assert answer["lists"]["all"]["count"] == 0
    assert (await client.sync())["rooms"] == {}


async def test_leaving_is_told_up_to_the_leaving_and_nothing_after(alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    client = SlidingClient(bob, lists={"all": listing((0, 19), timeline_limit=5)})
    await client.sync()
    await alice.send(room_id, "before")
    await bob.leave(room_id)
    await alice.send(room_id, "after")

    room = (await client.sync())["rooms"][room_id]

    assert room["membership"] == "leave" and bodies(room) == ["before"]
    await alice.send(room_id, "later")
    assert (await client.sync())["rooms"] == {}
    fresh = SlidingClient(bob, conn_id="fresh", lists={"all": listing((0, 19))})
    assert (await fresh.sync())["rooms"] == {}


async def test_who_was_kicked_still_sees_the_room_who_was_banned_outside_does_not(
    alice: User, bob: User
) -> None:
    kicked = await alice.create_room(preset="public_chat", name="Kicked")
    await bob.join(kicked)
    await alice.post("/v3/rooms/{}/kick", kicked, json={"user_id": bob.user_id})
    banned = await alice.create_room()
    await alice.post("/v3/rooms/{}/ban", banned, json={"user_id": bob.user_id})

    answer = await SlidingClient(bob, lists={"all": listing((0, 19), timeline_limit=5)}).sync()

    assert set(answer["rooms"]) == {kicked}
    assert answer["rooms"][kicked]["membership"] == "leave"
    assert answer["lists"]["all"]["count"] == 1


async def test_rooms_are_filtered_by_what_the_client_asks_for(alice: User, bob: User) -> None:
    plain = await alice.create_room(name="Weather report")
    direct = await alice.create_room(name="Bob")
    await alice.put("/v3/user/{}/account_data/{}", alice.user_id, "m.direct", json={bob.user_id: [direct]})
    secret = await alice.create_room(
        initial_state=[
            {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}, "state_key": ""}
        ]
    )
    space = await alice.create_room(creation_content={"type": "m.space"})
    await alice.set_state(space, "m.space.child", {"via": [alice.server_name]}, plain)
    invited = await bob.create_room(invite=[alice.user_id])
    await alice.put("/v3/user/{}/rooms/{}/tags/{}", alice.user_id, plain, "m.favourite", json={})

    async def shown(**filters: Any) -> set[str]:
        client = SlidingClient(alice, lists={"list": listing((0, 19), filters=filters)})
        answer = await client.sync()
        assert answer["lists"]["list"]["count"] == len(answer["rooms"])
        return set(answer["rooms"])

    everything = {plain, direct, secret, space, invited}
    assert await shown() == everything
    assert await shown(is_dm=True) == {direct}
    assert await shown(is_dm=False) == everything - {direct}
    assert await shown(is_encrypted=True) == {secret}
    assert await shown(is_invite=True) == {invited}
    assert await shown(room_types=["m.space"]) == {space}
    assert await shown(room_types=[None], is_invite=False) == {plain, direct, secret}
    assert await shown(not_room_types=["m.space"]) == everything - {space}
    assert await shown(room_name_like="weather") == {plain}
    assert await shown(tags=["m.favourite"]) == {plain}
    assert await shown(not_tags=["m.favourite"]) == everything - {plain}
    assert await shown(spaces=[space]) == {plain}
    assert await shown(spaces=["!no:such"]) == set()


async def test_filters_follow_what_happens(alice: User, bob: User) -> None:
    room_id = await alice.create_room(name="One")
    other = await alice.create_room(name="Two")
    space = await alice.create_room(creation_content={"type": "m.space"})
    client = SlidingClient(
        alice,
        lists={
            "dms": listing((0, 19), filters={"is_dm": True}),
            "tagged": listing((0, 19), filters={"tags": ["u.work"]}),
            "named": listing((0, 19), filters={"room_name_like": "three"}),
            "space": listing((0, 19), filters={"spaces": [space]}),
        },
    )

    async def counts() -> list[int]:
        return [each["count"] for each in (await client.sync())["lists"].values()]

    assert await counts() == [0, 0, 0, 0]
    direct = {bob.user_id: [room_id]}
    await alice.put("/v3/user/{}/account_data/{}", alice.user_id, "m.direct", json=direct)
    assert await counts() == [1, 0, 0, 0]
    await alice.put("/v3/user/{}/rooms/{}/tags/{}", alice.user_id, room_id, "u.work", json={})
    assert await counts() == [1, 1, 0, 0]
    await alice.set_state(other, "m.room.name", {"name": "Three"})
    assert await counts() == [1, 1, 1, 0]
    await alice.set_state(space, "m.space.child", {"via": [alice.server_name]}, room_id)
    assert await counts() == [1, 1, 1, 1]
    await alice.set_state(space, "m.space.child", {}, room_id)
    assert await counts() == [1, 1, 1, 0]


async def test_becoming_a_direct_chat_is_told(alice: User, bob: User) -> None:
    room_id = await alice.create_room()
    client = SlidingClient(alice, lists={"all": listing((0, 19))})
    assert "is_dm" not in (await client.sync())["rooms"][room_id]
    for direct, told in (({bob.user_id: [room_id]}, True), ({}, False)):
        await alice.put("/v3/user/{}/account_data/{}", alice.user_id, "m.direct", json=direct)
        assert (await client.sync())["rooms"][room_id]["is_dm"] is told


async def test_name_and_picture_follow_the_room_and_heroes_stand_in_for_a_name(
    alice: User, bob: User
) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    client = SlidingClient(alice, lists={"all": listing((0, 19))})
    room = (await client.sync())["rooms"][room_id]
    assert "name" not in room and [hero["user_id"] for hero in room["heroes"]] == [bob.user_id]

    await alice.set_state(room_id, "m.room.name", {"name": "Named"})
    await alice.set_state(room_id, "m.room.avatar", {"url": "mxc://example.org/a"})
    room = (await client.sync())["rooms"][room_id]
    assert (room["name"], room["avatar"]) == ("Named", "mxc://example.org/a") and "heroes" not in room

    named = await alice.get("/v3/rooms/{}/state", room_id)
    event_id = next(event["event_id"] for event in named if event["type"] == "m.room.name")
    await alice.redact(room_id, event_id)
    room = (await client.sync())["rooms"][room_id]
    assert room["name"] is None and [hero["user_id"] for hero in room["heroes"]] == [bob.user_id]


async def test_a_room_that_fell_behind_is_caught_up_when_it_is_asked_for_again(alice: User) -> None:
    first, second = await alice.create_room(), await alice.create_room()
    client = SlidingClient(alice, lists={"all": listing((0, 19), timeline_limit=5)})
    await client.sync()
    client.lists = {"all": listing((0, 0), timeline_limit=5)}
    await alice.send(first, "missed")
    await alice.send(second, "seen")
    assert set((await client.sync())["rooms"]) == {second}
    await alice.send(second, "seen too")
    await client.sync()

    client.lists = {"all": listing((0, 19), timeline_limit=5)}
    answer = await client.sync()

    assert set(answer["rooms"]) == {first}
    assert bodies(answer["rooms"][first]) == ["missed"] and "initial" not in answer["rooms"][first]


async def test_a_newer_request_of_a_connection_ends_the_one_that_waits(alice: User) -> None:
    await alice.create_room()
    client = SlidingClient(alice, lists={"all": listing((0, 19))})
    await client.sync()
    waiting = asyncio.ensure_future(client.ask(timeout_ms=50_000))
    while not waiting.done():
        await client.ask()  # until the one that waits has begun to
    assert (await waiting)["pos"] == client.pos


async def test_malformed_requests_are_refused(alice: User) -> None:
    good = listing((0, 19))
    for body, errcode in (
        ({"lists": []}, "M_BAD_JSON"),
        ({"lists": {"a": {"ranges": [[0, 1]], "required_state": []}}}, "M_MISSING_PARAM"),
        ({"lists": {"a": good | {"ranges": [[5, 1]]}}}, "M_INVALID_PARAM"),
        ({"lists": {"a": good | {"ranges": [[-1, 1]]}}}, "M_BAD_JSON"),
        ({"lists": {"a": good | {"timeline_limit": "all"}}}, "M_BAD_JSON"),
        ({"lists": {"a": good | {"required_state": [["m.room.name"]]}}}, "M_BAD_JSON"),
        ({"lists": {"a": good | {"filters": {"is_dm": 1}}}}, "M_BAD_JSON"),
        ({"lists": {str(number): good for number in range(101)}}, "M_INVALID_PARAM"),
        ({"room_subscriptions": {f"!{n}:a": wanting() for n in range(101)}}, "M_INVALID_PARAM"),
        ({"extensions": {"receipts": {"enabled": True, "rooms": "all"}}}, "M_BAD_JSON"),
        ({"conn_id": 5}, "M_BAD_JSON"),
    ):
        with refused(400, errcode):
            await alice.post("/unstable/org.matrix.simplified_msc3575/sync", json=body)


async def test_versions_tell_of_it(alice: User) -> None:
    assert (await alice.get("/versions"))["unstable_features"]["org.matrix.simplified_msc3575"] is True
