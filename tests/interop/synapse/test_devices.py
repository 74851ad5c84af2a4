"""Devices and their keys are known on the other server, and messages reach each device once."""

from __future__ import annotations

import asyncio

import pytest

from tests.api.client import JsonObject, User
from tests.interop.synapse.conftest import Pair
from tests.interop.synapse.follower import DEADLINE_S, Follower

pytestmark = pytest.mark.slow

ALGORITHMS = ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"]


def device_keys(user: User) -> JsonObject:
    """Keys of a device as clients upload them. Servers look at their shape; who reads them, at the rest."""
    identity = f"of {user.device_id} ".ljust(43, "A").replace(" ", "+")
    return {
        "user_id": user.user_id,
        "device_id": user.device_id,
        "algorithms": ALGORITHMS,
        "keys": {f"curve25519:{user.device_id}": identity, f"ed25519:{user.device_id}": identity},
        "signatures": {user.user_id: {f"ed25519:{user.device_id}": identity * 2}},
    }


async def upload(user: User, one_time_keys: int = 0) -> JsonObject:
    """Upload the device's keys; returns them."""
    keys = device_keys(user)
    one_time = {
        f"signed_curve25519:{number}": {"key": f"{number}".ljust(43, "A"), "signatures": keys["signatures"]}
        for number in range(one_time_keys)
    }
    await user.post("/v3/keys/upload", json={"device_keys": keys, "one_time_keys": one_time})
    return keys


async def told_of(asking: Follower, owner: Follower, *expected: User) -> JsonObject:
    """The keys of the owner's devices as the other server has them, once it says which these are.

    Each is told in the client's sync, which is why it asks again.
    """
    question = {"device_keys": {owner.user_id: []}, "timeout": 10_000}
    wanted = {user.device_id for user in expected}
    async with asyncio.timeout(DEADLINE_S):
        while True:
            await asking.until(lambda: owner.user_id in asking.devices_changed, "a change of devices")
            asking.devices_changed.clear()
            answer = await asking.user.post("/v3/keys/query", json=question)
            devices: JsonObject = answer["device_keys"].get(owner.user_id, {})
            if set(devices) == wanted:
                return devices


async def send_to_device(
    sender: Follower, event_type: str, receiver: Follower, device_id: str, number: int
) -> None:
    messages = {receiver.user_id: {device_id: {"number": number}}}
    path, txn_id = "/v3/sendToDevice/{}/{}", sender.user.next_txn_id()
    await sender.user.put(path, event_type, txn_id, json={"messages": messages})


@pytest.fixture
def version() -> str:
    """Devices do not depend on the room's version."""
    return "12"


async def test_new_and_changed_devices_are_told_to_who_shares_a_room(
    alice: Follower, bob: Follower, room: str
) -> None:
    for owner, other in ((alice, bob), (bob, alice)):
        await other.sync()
        other.devices_changed.clear()
        keys = await upload(owner.user)
        devices = await told_of(other, owner, owner.user)
        assert devices[owner.user.device_id]["keys"] == keys["keys"]
        assert devices[owner.user.device_id]["algorithms"] == ALGORITHMS

        second = await owner.user.on_new_device()
        await upload(second)
        await told_of(other, owner, owner.user, second)

        await second.post("/v3/logout")
        await told_of(other, owner, owner.user)


async def test_one_time_keys_are_claimed_once(alice: Follower, bob: Follower, room: str) -> None:
    for owner, other in ((alice, bob), (bob, alice)):
        await upload(owner.user, one_time_keys=3)
        wanted = {owner.user_id: {owner.user.device_id: "signed_curve25519"}}
        body = {"one_time_keys": wanted, "timeout": 10_000}
        claimed: list[str] = []
        for _ in range(3):
            answer = await other.user.post("/v3/keys/claim", json=body)
            claimed += answer["one_time_keys"][owner.user_id][owner.user.device_id]
        assert len(set(claimed)) == 3
        answer = await other.user.post("/v3/keys/claim", json=body)
        assert not answer["one_time_keys"].get(owner.user_id)


async def test_messages_to_devices_arrive_once_and_in_order(
    alice: Follower, bob: Follower, room: str
) -> None:
    for sender, receiver in ((alice, bob), (bob, alice)):
        for number in range(20):
            target = receiver.user.device_id if number % 2 else "*"
            await send_to_device(sender, "test.numbered", receiver, target, number)
        await receiver.until(lambda r=receiver: len(r.to_device) >= 20, "20 messages")
        await receiver.sync()
        assert [event["content"]["number"] for event in receiver.to_device] == list(range(20))
        assert {event["sender"] for event in receiver.to_device} == {sender.user_id}
        assert {event["type"] for event in receiver.to_device} == {"test.numbered"}


async def test_messages_to_devices_wait_for_a_server_that_is_away(
    alice: Follower, bob: Follower, room: str, pair: Pair
) -> None:
    for sender, receiver in ((alice, bob), (bob, alice)):
        async with pair.parted():
            for number in range(3):
                await send_to_device(sender, "test.waiting", receiver, receiver.user.device_id, number)
        # whoever is heard from is tried again
        await sender.event(await receiver.user.send(room, "I am back"))
        await receiver.until(lambda r=receiver: len(r.to_device) >= 3, "what waited")
        assert [event["content"]["number"] for event in receiver.to_device] == [0, 1, 2]
