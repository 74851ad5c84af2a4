"""Lists of devices and the keys that vouch for them, followed across servers."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from tests.api.client import User
from tests.api.device_crypto import DeviceCrypto, Identity, changed_of, device_keys_of, devices_of, left_of
from tests.server_server.conftest import ACME, PEER, Network
from tests.server_server.device_peer import DevicePeer
from tests.server_server.room_peer import RoomPeer

JsonObject = dict[str, Any]
LOCK_LIST = """
SELECT 1 FROM remote_device_lists JOIN users ON nid = user_nid WHERE user_id = $1
FOR UPDATE OF remote_device_lists
"""
COUNT_WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


async def until_changed(user: User, since: str, user_id: str) -> str:
    """Sync until a user's device list is told of as changed; the next token."""
    async with asyncio.timeout(20):
        while True:
            answer = await user.sync(since, timeout_ms=5_000)
            since = answer["next_batch"]
            if user_id in changed_of(answer):
                return since


async def until_devices_are(user: User, since: str, user_id: str, device_ids: set[str]) -> str:
    """Sync until a user's device list is told of as changed, and is what it should be; the next token."""
    while True:
        since = await until_changed(user, since, user_id)
        if set(await devices_of(user, user_id)) == device_ids:
            return since


async def updates_sent(
    rooms: RoomPeer, count: int, edu_type: str = "m.device_list_update"
) -> list[JsonObject]:
    """The contents of the first so many EDUs of a kind that the peer was sent."""
    async with asyncio.timeout(20):
        while True:
            edus = [edu for each in rooms.transactions for edu in each.get("edus", ())]
            found = [edu["content"] for edu in edus if edu["edu_type"] == edu_type]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.01)


async def token(user: User) -> str:
    since: str = (await user.sync())["next_batch"]
    return since


# -- between two nodes


async def test_changes_of_devices_reach_the_other_server(alice: User, bob: User, shared: str) -> None:
    since = await token(alice)
    await DeviceCrypto(bob).upload()
    since = await until_changed(alice, since, bob.user_id)
    assert set(await devices_of(alice, bob.user_id)) == {bob.device_id}
    second = await bob.on_new_device()
    await DeviceCrypto(second).upload()
    since = await until_devices_are(alice, since, bob.user_id, {bob.device_id, second.device_id})
    await second.post("/v3/logout")
    await until_devices_are(alice, since, bob.user_id, {bob.device_id})


async def test_cross_signing_reaches_the_other_server_and_is_signed_there(
    alice: User, bob: User, shared: str
) -> None:
    alices, bobs = Identity(alice.user_id), Identity(bob.user_id)
    device = DeviceCrypto(bob)
    keys = device.device_keys()
    await bob.post("/v3/keys/upload", json={"device_keys": keys})
    await alice.post("/v3/keys/device_signing/upload", json=alices.keys())
    assert "master_keys" not in await device_keys_of(alice, bob.user_id)
    since = await token(alice)
    await bob.post("/v3/keys/device_signing/upload", json=bobs.keys())
    since = await until_changed(alice, since, bob.user_id)
    seen = await device_keys_of(alice, bob.user_id)
    assert seen["master_keys"] == {bob.user_id: bobs.keys()["master_key"]}
    assert seen["self_signing_keys"] == {bob.user_id: bobs.keys()["self_signing_key"]}
    assert "user_signing_keys" not in seen
    vouched = bobs.by_self_signing(keys)
    await bob.post("/v3/keys/signatures/upload", json={bob.user_id: {bob.device_id: vouched}})
    await until_changed(alice, since, bob.user_id)
    assert (await devices_of(alice, bob.user_id))[bob.device_id]["signatures"] == vouched["signatures"]
    master = alices.by_user_signing(bobs.keys()["master_key"])
    public = bobs.master.verify_key.base64
    answer = await alice.post("/v3/keys/signatures/upload", json={bob.user_id: {public: master}})
    assert answer == {"failures": {}}
    assert (await device_keys_of(alice, bob.user_id))["master_keys"][bob.user_id] == master
    assert "signatures" not in (await device_keys_of(bob, bob.user_id))["master_keys"][bob.user_id]


async def test_who_stops_sharing_rooms_across_servers_has_left(alice: User, bob: User, shared: str) -> None:
    since = await token(alice)
    await bob.leave(shared)
    async with asyncio.timeout(20):
        while bob.user_id not in left_of(answer := await alice.sync(since, timeout_ms=5_000)):
            since = answer["next_batch"]


# -- as the peer sees a node


async def test_updates_name_the_one_before_and_deletions(
    alice: User, carol: DevicePeer, rooms: RoomPeer
) -> None:
    second = await alice.on_new_device()
    keys = DeviceCrypto(second).device_keys()
    await second.post("/v3/keys/upload", json={"device_keys": keys})
    await alice.put("/v3/devices/{}", second.device_id, json={"display_name": "Laptop"})
    await second.post("/v3/logout")
    sent = [one for one in await updates_sent(rooms, 4) if one["user_id"] == alice.user_id]
    new, uploaded, renamed, deleted = sent
    assert {one["device_id"] for one in sent} == {second.device_id}
    assert new["prev_id"] == [] and "keys" not in new and "deleted" not in new
    assert uploaded["keys"] == keys and uploaded["prev_id"] == [new["stream_id"]]
    assert renamed["device_display_name"] == "Laptop" and renamed["prev_id"] == [uploaded["stream_id"]]
    assert deleted["deleted"] is True and deleted["prev_id"] == [renamed["stream_id"]]
    assert "keys" not in deleted


async def test_servers_in_a_room_are_told_of_the_devices_of_who_comes_in(
    alice: User, rooms: RoomPeer, network: Network
) -> None:
    await DeviceCrypto(alice).upload()
    await alice.post("/v3/keys/device_signing/upload", json=Identity(alice.user_id).keys())
    host = await network.acme_api.register("host")
    room_id = await host.create_room()
    await rooms.join(ACME, room_id, rooms.user("dave"))
    await alice.join(room_id)
    [update] = await updates_sent(rooms, 1)
    assert (update["user_id"], update["device_id"]) == (alice.user_id, alice.device_id)
    [identity] = await updates_sent(rooms, 1, "m.signing_key_update")
    assert identity["user_id"] == alice.user_id and "master_key" in identity


# -- lists of the peer's users


async def test_a_known_list_is_not_asked_for_again_and_follows_updates(
    alice: User, carol: DevicePeer, rooms: RoomPeer
) -> None:
    assert set(await devices_of(alice, carol.user_id)) == {"PHONE"}
    assert carol.asked == ["devices"]
    since = await token(alice)
    carol.add_device("LAPTOP")
    await rooms.transmit(ACME, edus=[carol.update("LAPTOP")])
    since = await until_changed(alice, since, carol.user_id)
    found = await devices_of(alice, carol.user_id)
    assert set(found) == {"PHONE", "LAPTOP"}
    assert found["LAPTOP"]["unsigned"] == {"device_display_name": "LAPTOP of the peer"}
    await rooms.transmit(ACME, edus=[carol.update("PHONE", deleted=True)])
    await until_changed(alice, since, carol.user_id)
    assert set(await devices_of(alice, carol.user_id)) == {"LAPTOP"}
    assert carol.asked == ["devices"]


async def test_after_a_missed_update_the_list_is_asked_for_anew(
    alice: User, carol: DevicePeer, rooms: RoomPeer
) -> None:
    await devices_of(alice, carol.user_id)
    since = await token(alice)
    carol.add_device("MISSED")
    carol.add_device("LAPTOP")
    await rooms.transmit(ACME, edus=[carol.update("LAPTOP", skipped=1)])
    await until_changed(alice, since, carol.user_id)
    assert set(await devices_of(alice, carol.user_id)) == {"PHONE", "MISSED", "LAPTOP"}
    asked = len(carol.asked)
    assert asked >= 2
    await devices_of(alice, carol.user_id)
    assert len(carol.asked) == asked


@pytest.mark.parametrize("unreadable", [[], {"device_keys": {}}])
async def test_an_update_that_cannot_be_read_has_the_list_asked_for(
    alice: User, carol: DevicePeer, rooms: RoomPeer, unreadable: object
) -> None:
    await devices_of(alice, carol.user_id)
    since = await token(alice)
    carol.add_device("LAPTOP")
    update = carol.update("LAPTOP")
    update["content"]["keys"] = unreadable
    await rooms.transmit(ACME, edus=[update])
    await until_changed(alice, since, carol.user_id)
    assert set(await devices_of(alice, carol.user_id)) == {"PHONE", "LAPTOP"}


async def test_an_update_of_a_list_that_nobody_asked_for_has_it_asked_for(
    alice: User, carol: DevicePeer, rooms: RoomPeer
) -> None:
    since = await token(alice)
    carol.add_device("LAPTOP")
    await rooms.transmit(ACME, edus=[carol.update("LAPTOP")])
    await until_changed(alice, since, carol.user_id)
    async with asyncio.timeout(20):
        while not carol.asked:
            await asyncio.sleep(0.01)
    assert set(await devices_of(alice, carol.user_id)) == {"PHONE", "LAPTOP"}
    assert set(carol.asked) == {"devices"}


async def test_a_list_that_came_for_one_is_told_of_to_all(alice: User, carol: DevicePeer) -> None:
    since = await token(alice)
    await devices_of(alice, carol.user_id)
    await until_changed(alice, since, carol.user_id)


async def test_while_its_server_is_broken_a_stale_list_is_a_failure_not_an_old_answer(
    alice: User, carol: DevicePeer, rooms: RoomPeer, network: Network
) -> None:
    await devices_of(alice, carol.user_id)
    since = await token(alice)
    carol.fails = True
    carol.add_device("LAPTOP")
    await rooms.transmit(ACME, edus=[carol.update("LAPTOP", skipped=1)])
    since = await until_changed(alice, since, carol.user_id)
    answer = await device_keys_of(alice, carol.user_id)
    assert answer["device_keys"] == {} and set(answer["failures"]) == {PEER}
    carol.fails = False
    await rooms.transmit(ACME)  # a server that is heard from is asked again
    async with asyncio.timeout(30):
        while set(await devices_of(alice, carol.user_id)) != {"PHONE", "LAPTOP"}:
            await rooms.transmit(ACME)
    await until_changed(alice, since, carol.user_id)  # for who asked in vain


async def test_a_missed_update_is_told_of_once_when_the_list_is_here(
    alice: User, carol: DevicePeer, rooms: RoomPeer
) -> None:
    await devices_of(alice, carol.user_id)
    since = await token(alice)
    carol.lists_go_out.clear()
    carol.add_device("LAPTOP")
    await rooms.transmit(ACME, edus=[carol.update("LAPTOP", skipped=1)])
    assert changed_of(await alice.sync(since)) == set()
    carol.lists_go_out.set()
    since = await until_changed(alice, since, carol.user_id)
    assert set(await devices_of(alice, carol.user_id)) == {"PHONE", "LAPTOP"}
    assert changed_of(await alice.sync(since)) == set()


async def test_an_update_that_the_list_held_already_is_not_told_of_again(
    alice: User, carol: DevicePeer, rooms: RoomPeer
) -> None:
    await devices_of(alice, carol.user_id)
    since = await token(alice)
    carol.add_device("LAPTOP")
    missed = carol.update("LAPTOP", skipped=1)
    carol.add_device("TABLET")
    later = carol.update("TABLET")
    await rooms.transmit(ACME, edus=[missed])
    since = await until_changed(alice, since, carol.user_id)
    assert set(await devices_of(alice, carol.user_id)) == {"PHONE", "LAPTOP", "TABLET"}
    await rooms.transmit(ACME, edus=[later])
    assert changed_of(await alice.sync(since)) == set()
    assert set(await devices_of(alice, carol.user_id)) == {"PHONE", "LAPTOP", "TABLET"}


async def test_an_update_that_came_twice_changes_nothing(
    alice: User, carol: DevicePeer, rooms: RoomPeer
) -> None:
    await devices_of(alice, carol.user_id)
    carol.add_device("LAPTOP")
    update = carol.update("LAPTOP")
    await rooms.transmit(ACME, edus=[update])
    since = await token(alice)
    await rooms.transmit(ACME, edus=[update])
    assert changed_of(await alice.sync(since)) == set()
    assert set(await devices_of(alice, carol.user_id)) == {"PHONE", "LAPTOP"}
    assert carol.asked == ["devices"]


async def test_after_parting_and_meeting_again_the_list_is_asked_for_anew(
    alice: User, rooms: RoomPeer, carol: DevicePeer
) -> None:
    await devices_of(alice, carol.user_id)
    [room_id] = (await alice.get("/v3/joined_rooms"))["joined_rooms"]
    await alice.leave(room_id)
    carol.add_device("LAPTOP")
    carol.stream_id += 1  # nobody here is told
    await rooms.join(ACME, await alice.create_room(), carol.user_id)
    assert set(await devices_of(alice, carol.user_id)) == {"PHONE", "LAPTOP"}


async def test_signing_keys_of_the_peer_are_taken_in(alice: User, carol: DevicePeer, rooms: RoomPeer) -> None:
    await devices_of(alice, carol.user_id)
    since = await token(alice)
    keys = Identity(carol.user_id).keys()
    content = {"user_id": carol.user_id, **keys}
    del content["user_signing_key"]
    await rooms.transmit(ACME, edus=[{"edu_type": "m.signing_key_update", "content": content}])
    await until_changed(alice, since, carol.user_id)
    seen = await device_keys_of(alice, carol.user_id)
    assert seen["master_keys"] == {carol.user_id: keys["master_key"]}
    assert carol.asked == ["devices"]


async def test_signing_keys_that_come_while_an_older_list_is_being_written_are_not_lost(
    alice: User, carol: DevicePeer, rooms: RoomPeer, network: Network
) -> None:
    await devices_of(alice, carol.user_id)
    asked = len(carol.asked)
    carol.lists_go_out.clear()
    carol.add_device("LAPTOP")
    await rooms.transmit(ACME, edus=[carol.update("LAPTOP", skipped=1)])
    async with asyncio.timeout(20):
        while len(carol.asked) == asked:
            await asyncio.sleep(0.01)
    keys = Identity(carol.user_id).keys()
    content = {"user_id": carol.user_id, "master_key": keys["master_key"]}
    database = await asyncpg.connect(network.acme.database_url)
    async with database.transaction():  # in which nobody else writes the list
        await database.execute(LOCK_LIST, carol.user_id)
        carol.lists_go_out.set()
        async with asyncio.timeout(20):
            while not await database.fetchval(COUNT_WAITING):
                await asyncio.sleep(0.01)
        sent = asyncio.create_task(
            rooms.transmit(ACME, edus=[{"edu_type": "m.signing_key_update", "content": content}])
        )
        for _ in range(50):
            await alice.get("/v3/devices")  # meanwhile the node reads which list the keys are for
    await database.close()
    carol.master_key = keys["master_key"]
    await sent
    seen = await device_keys_of(alice, carol.user_id)
    assert seen["master_keys"] == {carol.user_id: keys["master_key"]}


async def test_nonsense_and_lies_about_devices_change_nothing(
    alice: User, carol: DevicePeer, rooms: RoomPeer
) -> None:
    known = await devices_of(alice, carol.user_id)
    carol.add_device("LAPTOP")
    good = carol.update("LAPTOP")["content"]
    wrong: list[JsonObject] = [
        {"user_id": alice.user_id},  # not of the peer
        {"user_id": 7},
        {"device_id": ""},
        {"device_id": "x" * 300},
        {"device_id": "NUL\x00"},
        {"stream_id": "11"},
        {"stream_id": -1},
        {"stream_id": 2**60},
        {"prev_id": 10},
        {"prev_id": ["a"]},
        {"prev_id": list(range(1000))},
    ]
    edus = [{"edu_type": "m.device_list_update", "content": good | one} for one in wrong]
    identity = Identity(alice.user_id).keys()
    for content in ({"user_id": alice.user_id, **identity}, {"user_id": carol.user_id, "master_key": []}, {}):
        edus.append({"edu_type": "m.signing_key_update", "content": content})
    since = await token(alice)
    answer = await rooms.transmit(ACME, edus=edus)
    assert answer.status == 200
    assert changed_of(await alice.sync(since)) == set()
    assert await devices_of(alice, carol.user_id) == known
    assert carol.asked == ["devices"]
