"""Profiles, their way into rooms, and finding users by them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from homeserver.accounts.profiles import Profile, Profiles
from homeserver.config.people import UserDirectoryConfig
from homeserver.errors import (
    BadJson,
    GuestAccessForbidden,
    InvalidParam,
    KeyTooLarge,
    MissingParam,
    NotFound,
    ProfileTooLarge,
)
from homeserver.requester import Requester
from homeserver.rooms.profile_propagation import ProfilePropagation
from homeserver.rooms.user_directory import UserDirectory
from homeserver.storage.profiles import fetch_to_propagate
from tests.engine.conftest import Engine


async def put(engine: Engine, user: Requester, key: str, value: Any) -> None:
    await engine.profiles.put_field(user, key, {key: value})


async def test_fields_are_set_read_and_deleted(engine: Engine) -> None:
    alice = await engine.new_user()
    fields = {
        "displayname": "Alice",
        "avatar_url": "mxc://example.com/abc",
        "m.tz": "Europe/Berlin",
        "com.example.n": None,
    }
    for key, value in fields.items():
        await put(engine, alice, key, value)
    assert await engine.profiles.get(alice.user_id) == fields
    assert await engine.profiles.of(alice.user_id) == Profile("Alice", "mxc://example.com/abc")
    for key in fields:
        assert await engine.profiles.get_field(alice.user_id, key) == {key: fields[key]}
        await engine.profiles.delete_field(alice, key)
        with pytest.raises(NotFound):
            await engine.profiles.get_field(alice.user_id, key)
        await engine.profiles.delete_field(alice, key)
    assert await engine.profiles.get(alice.user_id) == {}


async def test_an_empty_name_or_picture_is_none(engine: Engine) -> None:
    alice = await engine.new_user()
    for key in ("displayname", "avatar_url"):
        await put(engine, alice, key, "mxc://example.com/abc")
        await put(engine, alice, key, "")
    assert await engine.profiles.get(alice.user_id) == {}


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("displayname", 1, BadJson),
        ("displayname", None, BadJson),
        ("displayname", "x" * 257, InvalidParam),
        ("avatar_url", "https://example.com/a.png", InvalidParam),
        ("avatar_url", {}, BadJson),
        ("m.tz", 1, BadJson),
        ("Wrong", "x", InvalidParam),
        ("nonamespace", "x", InvalidParam),
        ("a." + "b" * 254, "x", KeyTooLarge),
        ("com.example.big", "x" * 65_536, ProfileTooLarge),
    ],
)
async def test_what_a_field_may_not_be(engine: Engine, key: str, value: Any, error: type[Exception]) -> None:
    alice = await engine.new_user()
    with pytest.raises(error):
        await put(engine, alice, key, value)
    assert await engine.profiles.get(alice.user_id) == {}


async def test_the_bound_is_on_all_fields_together(engine: Engine) -> None:
    alice = await engine.new_user()
    await put(engine, alice, "com.example.a", "x" * 40_000)
    with pytest.raises(ProfileTooLarge):
        await put(engine, alice, "com.example.b", "x" * 30_000)


async def test_the_body_must_name_the_field(engine: Engine) -> None:
    with pytest.raises(MissingParam):
        await engine.profiles.put_field(await engine.new_user(), "displayname", {"avatar_url": ""})


async def test_guests_may_change_their_name_only(engine: Engine) -> None:
    guest = await engine.new_user("guest", is_guest=True)
    await put(engine, guest, "displayname", "A guest")
    with pytest.raises(GuestAccessForbidden):
        await put(engine, guest, "avatar_url", "mxc://example.com/abc")


async def test_unknown_users_have_no_profile(engine: Engine) -> None:
    with pytest.raises(NotFound):
        await engine.profiles.get("@nobody:veche.test")


@asynccontextmanager
async def propagating(engine: Engine) -> AsyncIterator[Profiles]:
    """Profiles whose changes go on to the rooms."""
    profiles = Profiles(engine.database.pool)
    propagation = ProfilePropagation(engine.database.pool, profiles, engine.rooms, engine.user_rooms)
    running = asyncio.create_task(propagation.run())
    try:
        yield profiles
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def to_propagate(engine: Engine, user: Requester) -> bool:
    pending = await fetch_to_propagate(engine.database.pool, user.user_nid - 1, 1)
    return any(each.user_id == user.user_id for each in pending)


async def test_rooms_are_told_of_name_and_picture_and_of_nothing_else(engine: Engine) -> None:
    alice, bob = await engine.new_user(), await engine.new_user("bob")
    rooms = [await engine.new_room(alice, bob) for _ in range(6)]
    async with propagating(engine) as profiles:
        position = engine.log.position
        await profiles.put_field(bob, "m.tz", {"m.tz": "Europe/Berlin"})
        assert not await to_propagate(engine, bob)
        assert engine.log.position == position
        await profiles.put_field(bob, "displayname", {"displayname": "Bob"})
        await profiles.put_field(bob, "avatar_url", {"avatar_url": "mxc://example.com/abc"})
        assert engine.log.position == position + 2 * len(rooms)
        for room in rooms:
            member = (await engine.rooms.get(room.room_id)).member(bob.user_id)
            assert member is not None
            assert member.content == {
                "membership": "join",
                "displayname": "Bob",
                "avatar_url": "mxc://example.com/abc",
            }
        assert not await to_propagate(engine, bob)


async def test_of_changes_in_a_row_the_last_is_what_rooms_know(engine: Engine) -> None:
    alice = await engine.new_user()
    rooms = [await engine.new_room(alice) for _ in range(3)]
    async with propagating(engine) as profiles:
        await asyncio.gather(
            *(profiles.put_field(alice, "displayname", {"displayname": f"Alice {n}"}) for n in range(20))
        )
        name = (await profiles.of(alice.user_id)).displayname
        while await to_propagate(engine, alice):
            await asyncio.sleep(0.01)
    for room in rooms:
        assert (await engine.rooms.get(room.room_id)).content_of("m.room.member", alice.user_id) == {
            "membership": "join",
            "displayname": name,
        }


async def test_rooms_are_told_what_changed_before_the_node_started(engine: Engine) -> None:
    alice = await engine.new_user()
    room = await engine.new_room(alice)
    await put(engine, alice, "displayname", "Alice")
    assert await to_propagate(engine, alice)
    async with propagating(engine):
        while await to_propagate(engine, alice):
            await asyncio.sleep(0.01)
    content = (await engine.rooms.get(room.room_id)).content_of("m.room.member", alice.user_id)
    assert content["displayname"] == "Alice"


async def search(
    engine: Engine, user: Requester, term: str, *, everyone: bool = True, limit: int = 10
) -> list[str]:
    directory = UserDirectory(engine.database.pool, UserDirectoryConfig(search_all_users=everyone))
    users, _ = await directory.search(user, term, limit)
    return [found.user_id for found in users]


async def test_users_are_found_by_the_beginning_of_words_and_of_the_user_id(engine: Engine) -> None:
    alice, bob = await engine.new_user("zenobia"), await engine.new_user("yorick")
    await put(engine, alice, "displayname", "Zoë O_Hara (Sales)")
    for term in ("zenob", "@ZENOBIA", alice.user_id, "zoe", "ZOË", "sales zo", "o_h", "(sal"):
        assert await search(engine, bob, term) == [alice.user_id], term
    for term in ("enob", "ara", "zoe marketing", "oxh", "%", "_", "", "@"):
        assert alice.user_id not in await search(engine, bob, term) or term == "@", term


async def test_a_new_name_replaces_the_old_in_the_directory(engine: Engine) -> None:
    alice = await engine.new_user("xaver")
    await put(engine, alice, "displayname", "Oldname")
    await put(engine, alice, "displayname", "Newname")
    assert await search(engine, alice, "oldname") == []
    assert await search(engine, alice, "newname") == [alice.user_id]


async def test_without_search_of_all_users_a_common_or_public_room_is_needed(engine: Engine) -> None:
    alice, bob, seeker = [await engine.new_user(f"wanda{n}") for n in "abc"]
    assert set(await search(engine, seeker, "wanda")) == {alice.user_id, bob.user_id, seeker.user_id}
    assert await search(engine, seeker, "wanda", everyone=False) == []
    await engine.new_room(alice, seeker)
    assert await search(engine, seeker, "wanda", everyone=False) == [alice.user_id]
    await engine.new_room(bob, join_rule="public")
    found = await search(engine, seeker, "wanda", everyone=False)
    assert set(found) == {alice.user_id, bob.user_id}


async def test_results_are_cut_at_the_limit_and_say_so(engine: Engine) -> None:
    users = [await engine.new_user("victor") for _ in range(3)]
    directory = UserDirectory(engine.database.pool, UserDirectoryConfig())
    found, limited = await directory.search(users[0], "victor", 2)
    assert (len(found), limited) == (2, True)
    found, limited = await directory.search(users[0], "victor", 3)
    assert (len(found), limited) == (3, False)


async def test_mutual_rooms_are_those_that_both_have_joined(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = await engine.new_user(), await engine.new_user("bob")
    shared = [(await engine.new_room(alice, bob)).room_id for _ in range(3)]
    await engine.new_room(alice)
    await engine.new_room(bob)
    directory = UserDirectory(engine.database.pool, UserDirectoryConfig())
    page = await directory.mutual_rooms(alice, bob.user_id, None)
    assert (sorted(page.room_ids), page.count, page.next_batch) == (sorted(shared), 3, None)
    assert (await directory.mutual_rooms(alice, "@nobody:veche.test", None)).room_ids == []
    for wrong in (alice.user_id, "bob", "@bob"):
        with pytest.raises(InvalidParam):
            await directory.mutual_rooms(alice, wrong, None)
    with pytest.raises(InvalidParam):
        await directory.mutual_rooms(alice, bob.user_id, "nonsense")

    monkeypatch.setattr("homeserver.rooms.user_directory.MUTUAL_ROOMS_PAGE", 2)
    first = await directory.mutual_rooms(alice, bob.user_id, None)
    assert first.next_batch is not None
    second = await directory.mutual_rooms(alice, bob.user_id, first.next_batch)
    assert first.room_ids + second.room_ids == page.room_ids
    assert (first.count, second.count, second.next_batch) == (3, 3, None)
