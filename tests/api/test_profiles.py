"""Profiles, the user directory, mutual rooms: Client-Server API, "User Data"."""

from __future__ import annotations

import pytest

from tests.api.client import Api, User, refused, state_of, timeline_of


async def test_fields_are_set_read_and_removed(api: Api, alice: User, bob: User) -> None:
    path = "/v3/profile/{}/{}"
    for name, value in (
        ("displayname", "Alice"),
        ("avatar_url", "mxc://veche.test/abc"),
        ("m.tz", "Europe/Berlin"),
        ("com.example.team", {"name": "Sales", "floors": [1, 2]}),
    ):
        await alice.put(path, alice.user_id, name, json={name: value})
        assert await bob.get(path, alice.user_id, name) == {name: value}
    assert await api.get("/v3/profile/{}", alice.user_id) == {
        "displayname": "Alice",
        "avatar_url": "mxc://veche.test/abc",
        "m.tz": "Europe/Berlin",
        "com.example.team": {"name": "Sales", "floors": [1, 2]},
    }
    await alice.delete(path, alice.user_id, "com.example.team")
    with refused(404, "M_NOT_FOUND"):
        await alice.get(path, alice.user_id, "com.example.team")


async def test_only_ones_own_profile_can_be_changed(alice: User, bob: User) -> None:
    with refused(403, "M_FORBIDDEN"):
        await alice.put("/v3/profile/{}/{}", bob.user_id, "displayname", json={"displayname": "Not me"})
    with refused(404, "M_NOT_FOUND"):
        await alice.get("/v3/profile/{}", f"@nobody-at-all:{alice.server_name}")


async def test_a_profile_is_bounded(alice: User) -> None:
    path = "/v3/profile/{}/{}"
    with refused(400, "M_PROFILE_TOO_LARGE"):
        await alice.put(path, alice.user_id, "com.example.a", json={"com.example.a": "x" * 70_000})
    with refused(400, "M_KEY_TOO_LARGE"):
        await alice.put(path, alice.user_id, "a" * 256, json={"a" * 256: "x"})
    with refused(400, "M_MISSING_PARAM"):
        await alice.put(path, alice.user_id, "displayname", json={})


async def test_a_new_name_reaches_all_rooms(alice: User, bob: User) -> None:
    rooms = [await alice.create_room() for _ in range(2)]
    await bob.join(rooms[0])
    since = (await bob.sync())["next_batch"]
    await alice.put("/v3/profile/{}/{}", alice.user_id, "displayname", json={"displayname": "Alice A."})
    for room in rooms:
        assert (await alice.state(room, "m.room.member", alice.user_id))["displayname"] == "Alice A."
    sync = await bob.sync(since, timeout_ms=2000)
    member = state_of(timeline_of(sync, rooms[0]))["m.room.member", alice.user_id]
    assert member["content"] == {"membership": "join", "displayname": "Alice A."}


async def test_members_carry_the_profile_they_joined_with(alice: User, bob: User) -> None:
    await bob.put("/v3/profile/{}/{}", bob.user_id, "displayname", json={"displayname": "Bob B."})
    room = await alice.create_room()
    await bob.join(room)
    joined = (await alice.get("/v3/rooms/{}/joined_members", room))["joined"]
    assert joined[bob.user_id]["display_name"] == "Bob B."


@pytest.mark.parametrize("term", ["zebedee", "ZEBE", "Unlikely", "lee"])
async def test_people_are_found_by_name_and_id(api: Api, alice: User, term: str) -> None:
    found = await api.register("zebedee")
    name = {"displayname": "Unlikely Lee"}
    await found.put("/v3/profile/{}/{}", found.user_id, "displayname", json=name)
    answer = await alice.post("/v3/user_directory/search", json={"search_term": term, "limit": 50})
    assert {"user_id": found.user_id, "display_name": "Unlikely Lee"}.items() <= {
        key: value
        for result in answer["results"]
        if result["user_id"] == found.user_id
        for key, value in result.items()
    }.items()


async def test_a_search_is_limited_and_says_so(api: Api, alice: User) -> None:
    for _ in range(3):
        await api.register("quentin")
    answer = await alice.post("/v3/user_directory/search", json={"search_term": "quentin", "limit": 2})
    assert (len(answer["results"]), answer["limited"]) == (2, True)
    nobody = await alice.post("/v3/user_directory/search", json={"search_term": "no-such-person"})
    assert nobody == {"results": [], "limited": False}


async def test_mutual_rooms_are_those_of_both(alice: User, bob: User) -> None:
    shared, _ = await alice.create_room(), await alice.create_room()
    await bob.join(shared)
    path = "/v1/mutual_rooms"
    assert (await alice.get(path, query={"user_id": bob.user_id}))["joined"] == [shared]
    await bob.leave(shared)
    assert (await alice.get(path, query={"user_id": bob.user_id}))["joined"] == []
