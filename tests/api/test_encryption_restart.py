"""Keys, device lists and messages to devices survive the node's death, and are read from storage then."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import asyncpg
import pytest_asyncio

from homeserver.storage.devices import delete_other_devices
from tests.api.client import Api, JsonObject, User, refused
from tests.api.device_crypto import (
    DeviceCrypto,
    Identity,
    changed_of,
    claim,
    device_keys_of,
    left_of,
    to_device_of,
)
from tests.node import Node


@dataclass
class Met:
    """Alice, Bob and Carol in one room; Dave is not in it yet."""

    alice: User
    bob: User
    carol: User
    dave: User
    room_id: str


@pytest_asyncio.fixture
async def met(api: Api) -> Met:
    alice, bob, carol, dave = [await api.register(name) for name in ("alice", "bob", "carol", "dave")]
    room_id = await alice.create_room()
    await bob.join(room_id)
    await carol.join(room_id)
    return Met(alice, bob, carol, dave, room_id)


async def die_and_return(node: Node) -> None:
    await node.kill()
    await node.start()


async def send(sender: User, device: User, number: int, txn_id: str) -> None:
    messages: JsonObject = {device.user_id: {device.device_id: {"n": number}}}
    await sender.put("/v3/sendToDevice/{}/{}", "m.test", txn_id, json={"messages": messages})


def numbers_of(sync: JsonObject) -> list[int]:
    return [event["content"]["n"] for event in to_device_of(sync)]


async def test_a_device_has_a_bound_of_one_time_keys_also_where_they_were_not_counted_yet(
    node: Node, met: Met
) -> None:
    alice = met.alice
    uploads = [{f"curve25519:{n}": "key" for n in range(at, at + 1000)} for at in range(0, 5000, 1000)]
    for keys in uploads:
        await alice.post("/v3/keys/upload", json={"one_time_keys": keys})
    one_more: JsonObject = {"one_time_keys": {"curve25519:more": "key"}}
    with refused(413, "M_TOO_LARGE"):
        await alice.post("/v3/keys/upload", json=one_more)
    await die_and_return(node)
    with refused(413, "M_TOO_LARGE"):
        await alice.post("/v3/keys/upload", json=one_more)
    counts = (await alice.post("/v3/keys/upload", json={"one_time_keys": uploads[-1]}))["one_time_key_counts"]
    assert counts == {"curve25519": 5000, "signed_curve25519": 0}  # what is there already takes no room
    await claim(met.bob, alice, algorithm="curve25519")
    assert (await alice.post("/v3/keys/upload", json=one_more))["one_time_key_counts"]["curve25519"] == 5000


async def test_device_lists_changed_before_the_node_died(node: Node, met: Met) -> None:
    since = (await met.bob.sync())["next_batch"]
    await DeviceCrypto(met.alice).upload()
    await met.carol.leave(met.room_id)
    await met.dave.join(met.room_id)
    await die_and_return(node)
    answer = await met.bob.sync(since)
    assert changed_of(answer) == {met.alice.user_id, met.dave.user_id}
    assert left_of(answer) == {met.carol.user_id}
    upto = answer["next_batch"]
    changes = await met.bob.get("/v3/keys/changes", query={"from": since, "to": upto})
    assert set(changes["changed"]) == changed_of(answer) and set(changes["left"]) == left_of(answer)
    assert "device_lists" not in await met.bob.sync(upto)


async def test_who_left_a_room_and_whose_room_became_encrypted(node: Node, met: Met) -> None:
    tokens = {user.user_id: (await user.sync())["next_batch"] for user in (met.bob, met.carol)}
    await met.carol.leave(met.room_id)
    await met.alice.set_state(met.room_id, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    await die_and_return(node)
    left = left_of(await met.carol.sync(tokens[met.carol.user_id]))
    assert left == {met.alice.user_id, met.bob.user_id}
    assert changed_of(await met.bob.sync(tokens[met.bob.user_id])) == {met.alice.user_id}


async def test_signatures_on_others_keys_are_news_to_the_signers_devices(node: Node, met: Met) -> None:
    alices, bobs = Identity(met.alice.user_id), Identity(met.bob.user_id)
    await met.alice.post("/v3/keys/device_signing/upload", json=alices.keys())
    await met.bob.post("/v3/keys/device_signing/upload", json=bobs.keys())
    second = await met.alice.on_new_device()
    since = (await second.sync())["next_batch"]
    vouched = alices.by_user_signing(bobs.keys()["master_key"])
    body = {met.bob.user_id: {bobs.master.verify_key.base64: vouched}}
    await met.alice.post("/v3/keys/signatures/upload", json=body)
    await die_and_return(node)
    assert changed_of(await second.sync(since)) == {met.bob.user_id}
    seen = await device_keys_of(met.alice, met.bob.user_id)
    assert seen["master_keys"][met.bob.user_id] == vouched


async def test_messages_wait_in_order_and_come_once(node: Node, met: Met) -> None:
    alice, bob = met.alice, met.bob
    since = (await bob.sync())["next_batch"]
    for number in range(150):
        await send(alice, bob, number, f"t{number}")
    await die_and_return(node)
    await send(alice, bob, 149, "t149")  # the answer may have been lost
    first = await bob.sync(since)
    assert numbers_of(first) == list(range(100))
    await die_and_return(node)
    second = await bob.sync(first["next_batch"])
    assert numbers_of(second) == list(range(100, 150))
    await bob.sync(second["next_batch"])
    await node.stop()  # what was acknowledged is deleted by then
    await node.start()
    assert numbers_of(await bob.sync(since)) == numbers_of(await bob.sync()) == []


async def test_claimed_keys_stay_claimed(node: Node, met: Met) -> None:
    device = DeviceCrypto(met.alice)
    keys, fallback = device.one_time_keys(2), device.fallback_key()
    await device.upload(one_time_keys=keys, fallback_keys=fallback)
    first = (await claim(met.bob, met.alice))[met.alice.user_id][met.alice.device_id]
    await die_and_return(node)
    assert (await met.alice.sync())["device_one_time_keys_count"] == {"signed_curve25519": 1}
    assert await device.upload(one_time_keys=keys) == {"signed_curve25519": 1}
    second = (await claim(met.bob, met.alice))[met.alice.user_id][met.alice.device_id]
    assert {*first, *second} == set(keys)
    assert (await claim(met.bob, met.alice))[met.alice.user_id][met.alice.device_id] == fallback
    await die_and_return(node)
    assert (await met.alice.sync())["device_unused_fallback_key_types"] == []


async def test_devices_that_were_deleted_beside_the_node_are_told_of(
    node: Node, met: Met, database_url: str
) -> None:
    """As by ``veche user reset-password``, or just before the node died."""
    await DeviceCrypto(met.alice).upload()
    since = (await met.bob.sync())["next_batch"]
    await node.kill()
    connection = await asyncpg.connect(database_url)
    user_nid = await connection.fetchval("SELECT nid FROM users WHERE user_id = $1", met.alice.user_id)
    await delete_other_devices(connection, user_nid, 0)
    await connection.close()
    await node.start()
    async with asyncio.timeout(20):
        while not changed_of(answer := await met.bob.sync(since, timeout_ms=10_000)):
            since = answer["next_batch"]
    assert changed_of(answer) == {met.alice.user_id}
    assert (await device_keys_of(met.bob, met.alice.user_id))["device_keys"] == {met.alice.user_id: {}}
