"""Keys of devices, asked for and claimed between two servers."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from tests.api.client import User
from tests.api.device_crypto import DeviceCrypto, Identity, claim, devices_of
from tests.server_server.conftest import ACME, PEER, Network
from tests.server_server.device_peer import DevicePeer
from tests.server_server.room_peer import RoomPeer

JsonObject = dict[str, Any]
V1 = "/_matrix/federation/v1"


async def test_keys_are_queried_and_claimed_across_servers(alice: User, bob: User, shared: str) -> None:
    device = DeviceCrypto(bob)
    keys, one_time, fallback = device.device_keys(), device.one_time_keys(1), device.fallback_key()
    body = {"device_keys": keys, "one_time_keys": one_time, "fallback_keys": fallback}
    await bob.post("/v3/keys/upload", json=body)
    await bob.put("/v3/devices/{}", bob.device_id, json={"display_name": "Phone"})
    named = keys | {"unsigned": {"device_display_name": "Phone"}}
    since = (await alice.sync())["next_batch"]
    async with asyncio.timeout(20):  # what it is called comes by an update, maybe after the keys
        while await devices_of(alice, bob.user_id) != {bob.device_id: named}:
            since = (await alice.sync(since, timeout_ms=1_000))["next_batch"]
    assert await claim(alice, bob) == {bob.user_id: {bob.device_id: one_time}}
    assert await claim(alice, bob) == {bob.user_id: {bob.device_id: fallback}}


async def test_keys_of_somebody_without_a_common_room_are_asked_for_each_time(alice: User, bob: User) -> None:
    assert await devices_of(alice, bob.user_id) == {}
    device = DeviceCrypto(bob)
    await device.upload()
    assert set(await devices_of(alice, bob.user_id)) == {bob.device_id}


async def test_a_server_asks_for_devices_keys_and_claims(alice: User, network: Network) -> None:
    device, identity = DeviceCrypto(alice), Identity(alice.user_id)
    keys, one_time = device.device_keys(), device.one_time_keys(1)
    await alice.post("/v3/keys/upload", json={"device_keys": keys, "one_time_keys": one_time})
    await alice.post("/v3/keys/device_signing/upload", json=identity.keys())
    await alice.on_new_device()  # without keys
    peer, port = network.peer, network.ports[ACME]

    async def ask(method: str, path: str, content: JsonObject | None = None) -> Any:
        answer = await peer.send(ACME, port, method, f"{V1}/user/{path}", content)
        return answer.json if answer.status == 200 else answer

    answer = await ask("GET", f"devices/{quote(alice.user_id, safe='')}")
    assert [one["device_id"] for one in answer["devices"]] == [alice.device_id]
    assert answer["devices"][0]["keys"] == keys and answer["user_id"] == alice.user_id
    assert answer["master_key"] == identity.keys()["master_key"]
    wanted = {alice.user_id: [], f"@carol:{PEER}": [], f"@nobody:{ACME}": []}
    answer = await ask("POST", "keys/query", {"device_keys": wanted})
    assert answer["device_keys"] == {alice.user_id: {alice.device_id: keys | {"unsigned": {}}}}
    assert set(answer["self_signing_keys"]) == {alice.user_id}
    assert "user_signing_keys" not in answer
    wanted = {alice.user_id: {alice.device_id: "signed_curve25519"}, f"@c:{PEER}": {"D": "x"}}
    answer = await ask("POST", "keys/claim", {"one_time_keys": wanted})
    assert answer == {"one_time_keys": {alice.user_id: {alice.device_id: one_time}}}
    refusal = await ask("GET", f"devices/{quote('@nobody:' + ACME, safe='')}")
    assert (refusal.status, refusal.errcode) == (404, "M_NOT_FOUND")
    for path, content in (("keys/query", {"device_keys": []}), ("keys/claim", {})):
        refusal = await ask("POST", path, content)
        assert (refusal.status, refusal.errcode) == (400, "M_BAD_JSON")


async def test_answers_without_the_right_form_are_failures_or_left_out(
    alice: User, carol: DevicePeer, rooms: RoomPeer
) -> None:
    carol.devices["PHONE"]["device_id"] = "OTHER"
    carol.add_device("LAPTOP")
    assert set(await devices_of(alice, carol.user_id)) == {"LAPTOP"}


async def test_one_time_keys_of_the_peer_are_claimed(alice: User, carol: DevicePeer) -> None:
    key = carol.add_one_time_key("PHONE")
    wanted = {carol.user_id: {"PHONE": "signed_curve25519", "NODEVICE": "signed_curve25519"}}
    answer = await alice.post("/v3/keys/claim", json={"one_time_keys": wanted})
    assert answer == {"one_time_keys": {carol.user_id: {"PHONE": key}}, "failures": {}}
    carol.fails = True
    answer = await alice.post("/v3/keys/claim", json={"one_time_keys": wanted})
    assert answer["one_time_keys"] == {} and set(answer["failures"]) == {PEER}


@pytest.mark.parametrize("path", ["query", "claim"])
async def test_servers_that_may_not_be_asked_are_failures(alice: User, path: str) -> None:
    asked = {"device_keys": {"@a:evil.test": []}, "one_time_keys": {"@a:evil.test": {"D": "a"}}}
    answer = await alice.post(f"/v3/keys/{path}", json=asked)
    assert set(answer["failures"]) == {"evil.test"}
