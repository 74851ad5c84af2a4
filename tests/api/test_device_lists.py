"""Whose devices are news: Client-Server API, "Tracking the device list for a user"."""

from __future__ import annotations

import asyncio

from tests.api.client import PASSWORD, Api, User, refused
from tests.api.device_crypto import DeviceCrypto, Identity, changed_of, left_of

ENCRYPTION = {"algorithm": "m.megolm.v1.aes-sha2"}


async def shared_room(*users: User) -> str:
    room_id = await users[0].create_room()
    for user in users[1:]:
        await user.join(room_id)
    return room_id


async def token(user: User) -> str:
    since: str = (await user.sync())["next_batch"]
    return since


async def test_new_keys_are_news_to_whoever_shares_a_room_and_to_the_users_own_devices(
    api: Api, alice: User, bob: User
) -> None:
    stranger = await api.register("stranger")
    await shared_room(alice, bob)
    other = await alice.on_new_device()
    tokens = {user.device_id: await token(user) for user in (alice, bob, other, stranger)}
    waiting = asyncio.create_task(bob.sync(tokens[bob.device_id], timeout_ms=30_000))
    await DeviceCrypto(alice).upload()
    first = await waiting
    assert changed_of(first) == {alice.user_id} and left_of(first) == set()
    assert changed_of(await other.sync(tokens[other.device_id])) == {alice.user_id}
    assert "device_lists" not in await stranger.sync(tokens[stranger.device_id])
    assert "device_lists" not in await bob.sync(first["next_batch"])
    assert "device_lists" not in await bob.sync()


async def test_the_same_keys_again_are_no_news_nor_are_one_time_keys(alice: User, bob: User) -> None:
    await shared_room(alice, bob)
    device = DeviceCrypto(alice)
    keys = device.device_keys()
    await alice.post("/v3/keys/upload", json={"device_keys": keys})
    since = await token(bob)
    await alice.post("/v3/keys/upload", json={"device_keys": keys, "one_time_keys": device.one_time_keys(3)})
    assert "device_lists" not in await bob.sync(since)


async def test_new_deleted_and_renamed_devices_are_news_with_keys_and_without(alice: User, bob: User) -> None:
    await shared_room(alice, bob)
    for with_keys in (False, True):
        alices, bobs = await token(alice), await token(bob)
        second = await alice.on_new_device()
        assert changed_of(await alice.sync(alices)) == {alice.user_id}
        assert changed_of(await bob.sync(bobs)) == {alice.user_id}
        if with_keys:
            await DeviceCrypto(second).upload()
        bobs = await token(bob)
        await alice.put("/v3/devices/{}", second.device_id, json={"display_name": "Laptop"})
        news = await bob.sync(bobs)
        assert changed_of(news) == {alice.user_id}
        await second.post("/v3/logout")
        assert changed_of(await bob.sync(news["next_batch"])) == {alice.user_id}


async def test_a_device_that_logs_in_again_is_no_news(alice: User, bob: User) -> None:
    await shared_room(alice, bob)
    since = await token(bob)
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": alice.user_id},
        "password": PASSWORD,
        "device_id": alice.device_id,
    }
    await alice.post("/v3/login", json=body)
    assert "device_lists" not in await bob.sync(since)


async def test_ending_all_other_sessions_with_the_password_is_news(alice: User, bob: User) -> None:
    await shared_room(alice, bob)
    second = await alice.on_new_device()
    await DeviceCrypto(second).upload()
    since = await token(bob)
    auth = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": alice.user_id},
        "password": PASSWORD,
    }
    await alice.post("/v3/account/password", json={"new_password": "another password", "auth": auth})
    assert changed_of(await bob.sync(since)) == {alice.user_id}


async def test_joins_begin_and_leaves_end_the_sharing(api: Api, alice: User, bob: User) -> None:
    carol = await api.register("carol")
    room_id = await shared_room(alice, bob)
    since = await token(alice)
    carols = await token(carol)
    await carol.join(room_id)
    joined = await alice.sync(since)
    assert changed_of(joined) == {carol.user_id}
    assert {alice.user_id, bob.user_id} <= changed_of(await carol.sync(carols))
    carols = await token(carol)
    await carol.leave(room_id)
    assert left_of(await alice.sync(joined["next_batch"])) == {carol.user_id}
    assert left_of(await carol.sync(carols)) == {alice.user_id, bob.user_id}


async def test_who_is_invited_is_news_to_the_members(api: Api, alice: User, bob: User) -> None:
    carol = await api.register("carol")
    room_id = await shared_room(alice, bob)
    since = await token(bob)
    await alice.invite(room_id, carol.user_id)
    assert changed_of(await bob.sync(since)) == {carol.user_id}


async def test_who_leaves_one_of_two_shared_rooms_has_not_left(alice: User, bob: User) -> None:
    first, second = await shared_room(alice, bob), await shared_room(alice, bob)
    since = await token(alice)
    await bob.leave(first)
    news = await alice.sync(since)
    assert left_of(news) == set()
    await bob.leave(second)
    assert left_of(await alice.sync(news["next_batch"])) == {bob.user_id}


async def test_changes_while_no_room_was_shared_show_when_one_is_again(alice: User, bob: User) -> None:
    room_id = await shared_room(alice, bob)
    await alice.leave(room_id)
    since = await token(bob)
    await DeviceCrypto(alice).upload()
    assert "device_lists" not in await bob.sync(since)
    await alice.join(room_id)
    assert changed_of(await bob.sync(since)) == {alice.user_id}


async def test_members_of_a_room_that_becomes_encrypted_are_news(alice: User, bob: User) -> None:
    room_id = await shared_room(alice, bob)
    since = await token(bob)
    await alice.set_state(room_id, "m.room.encryption", ENCRYPTION)
    assert changed_of(await bob.sync(since)) >= {alice.user_id}


async def test_key_changes_are_told_between_two_tokens(api: Api, alice: User, bob: User) -> None:
    carol = await api.register("carol")
    room_id = await shared_room(alice, bob, carol)
    since = await token(bob)
    await DeviceCrypto(alice).upload()
    await carol.leave(room_id)
    upto = await token(bob)
    changes = await bob.get("/v3/keys/changes", query={"from": since, "to": upto})
    assert changes == {"changed": [alice.user_id], "left": [carol.user_id]}
    assert await bob.get("/v3/keys/changes", query={"from": upto, "to": upto}) == {"changed": [], "left": []}
    with refused(400, "M_INVALID_PARAM"):
        await bob.get("/v3/keys/changes", query={"from": "nonsense", "to": upto})
    with refused(400, "M_MISSING_PARAM"):
        await bob.get("/v3/keys/changes", query={"from": upto})


async def test_cross_signing_keys_are_news(alice: User, bob: User) -> None:
    await shared_room(alice, bob)
    since = await token(bob)
    await alice.post("/v3/keys/device_signing/upload", json=Identity(alice.user_id).keys())
    assert changed_of(await bob.sync(since)) == {alice.user_id}
