"""Device keys, one-time keys and fallback keys: Client-Server API, "End-to-End Encryption"."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.api.client import PASSWORD, Api, User, refused
from tests.api.device_crypto import DeviceCrypto, claim, device_keys_of


async def test_device_keys_are_shown_as_they_were_uploaded(alice: User, bob: User) -> None:
    device = DeviceCrypto(alice)
    keys = device.device_keys()
    await alice.post("/v3/keys/upload", json={"device_keys": keys | {"unsigned": {"forged": True}}})
    await alice.put("/v3/devices/{}", alice.device_id, json={"display_name": 'A "phone"'})
    found = (await device_keys_of(bob, alice.user_id))["device_keys"]
    assert found == {
        alice.user_id: {alice.device_id: keys | {"unsigned": {"device_display_name": 'A "phone"'}}}
    }


async def test_a_query_names_devices_and_leaves_out_whom_nobody_knows(alice: User, bob: User) -> None:
    await DeviceCrypto(alice).upload()
    other = await alice.on_new_device()
    await DeviceCrypto(other).upload()
    wanted = {alice.user_id: [other.device_id], bob.user_id: [], f"@nobody:{alice.server_name}": []}
    found = (await bob.post("/v3/keys/query", json={"device_keys": wanted}))["device_keys"]
    assert {user: list(devices) for user, devices in found.items()} == {
        alice.user_id: [other.device_id],
        bob.user_id: [],
    }


async def test_device_keys_of_others_are_refused(alice: User, bob: User) -> None:
    other = await alice.on_new_device()
    for keys in (DeviceCrypto(bob).device_keys(), DeviceCrypto(other).device_keys()):
        with refused(400, "M_INVALID_PARAM"):
            await alice.post("/v3/keys/upload", json={"device_keys": keys})
    assert (await device_keys_of(bob, alice.user_id))["device_keys"] == {alice.user_id: {}}


@pytest.mark.parametrize(
    "body",
    [
        {"device_keys": []},
        {"one_time_keys": []},
        {"one_time_keys": {"signed_curve25519:A": 1}},
        {"one_time_keys": {"signed_curve25519:A": {"nokey": "a"}}},
        {"one_time_keys": {"signed_curve25519:A": {"key": "a", "signatures": {"@a:b": 1}}}},
        {"fallback_keys": 7},
    ],
)
async def test_keys_of_the_wrong_form_are_refused(alice: User, body: dict[str, object]) -> None:
    with refused(400, "M_BAD_JSON"):
        await alice.post("/v3/keys/upload", json=body)


async def test_device_keys_with_wrong_parts_are_refused(alice: User) -> None:
    keys = DeviceCrypto(alice).device_keys()
    for wrong in ({"algorithms": "a"}, {"keys": {"a": 1}}, {"signatures": {"@a:b": "c"}}):
        with refused(400, "M_BAD_JSON"):
            await alice.post("/v3/keys/upload", json={"device_keys": keys | wrong})


@pytest.mark.parametrize("name", ["nocolon", ":A", "signed_curve25519:", "a:\x00", "a" * 250 + ":123456"])
async def test_one_time_keys_with_bad_names_are_refused(alice: User, name: str) -> None:
    with refused(400, "M_INVALID_PARAM"):
        await alice.post("/v3/keys/upload", json={"one_time_keys": {name: "key"}})


async def test_one_time_keys_are_claimed_in_the_order_of_their_upload_each_once(
    alice: User, bob: User
) -> None:
    device = DeviceCrypto(alice)
    uploaded = []
    for _ in range(3):
        keys = device.one_time_keys(1)
        uploaded.append(keys)
        await alice.post("/v3/keys/upload", json={"one_time_keys": keys})
    for keys in uploaded:
        assert await claim(bob, alice) == {alice.user_id: {alice.device_id: keys}}
    assert await claim(bob, alice) == {}


async def test_counts_tell_what_is_left(alice: User, bob: User) -> None:
    device = DeviceCrypto(alice)
    assert await device.upload() == {"signed_curve25519": 0}
    keys = device.one_time_keys(3) | {"curve25519:X": "unsigned"}
    assert await device.upload(one_time_keys=keys) == {"signed_curve25519": 3, "curve25519": 1}
    await claim(bob, alice)
    expected = {"signed_curve25519": 2, "curve25519": 1}
    assert (await alice.post("/v3/keys/upload"))["one_time_key_counts"] == expected
    assert (await alice.sync())["device_one_time_keys_count"] == expected


async def test_a_one_time_key_cannot_be_replaced_and_repeating_an_upload_changes_nothing(
    alice: User, bob: User
) -> None:
    device = DeviceCrypto(alice)
    keys = device.one_time_keys(2)
    await device.upload(one_time_keys=keys)
    assert await device.upload(one_time_keys=keys) == {"signed_curve25519": 2}
    [name, _] = keys
    with refused(400, "M_INVALID_PARAM"):
        await alice.post("/v3/keys/upload", json={"one_time_keys": {name: device.sign({"key": "other"})}})
    claimed = (await claim(bob, alice))[alice.user_id][alice.device_id]
    # the answer to the upload may have been lost: the client sends it again, after the claim
    assert await device.upload(one_time_keys=keys) == {"signed_curve25519": 1}
    with refused(400, "M_INVALID_PARAM"):
        await alice.post("/v3/keys/upload", json={"one_time_keys": {name: device.sign({"key": "other"})}})
    assert claimed != (await claim(bob, alice))[alice.user_id][alice.device_id]
    assert await device.upload(one_time_keys=keys) == {"signed_curve25519": 0}
    assert await claim(bob, alice) == {}


async def test_of_an_upload_with_known_keys_the_new_ones_are_counted(alice: User, bob: User) -> None:
    device = DeviceCrypto(alice)
    first, second, third = [device.one_time_keys(2) for _ in range(3)]
    await device.upload(one_time_keys=first)
    await claim(bob, alice)
    assert await device.upload(one_time_keys=first | second) == {"signed_curve25519": 3}
    fallback = device.fallback_key()
    assert await device.upload(one_time_keys=third, fallback_keys=fallback) == {"signed_curve25519": 5}
    sync = await alice.sync()
    assert sync["device_one_time_keys_count"] == {"signed_curve25519": 5}
    assert sync["device_unused_fallback_key_types"] == ["signed_curve25519"]


async def test_counts_are_right_whatever_uploads_and_claims_come_together(alice: User, bob: User) -> None:
    device, other = DeviceCrypto(alice), DeviceCrypto(bob)
    await device.upload(one_time_keys=device.one_time_keys(3))
    for _ in range(20):  # two keys come, two are claimed
        keys, fallback = device.one_time_keys(2), device.fallback_key()
        _, claimed, *_ = await asyncio.gather(
            other.upload(one_time_keys=other.one_time_keys(1)),
            claim(alice, bob, alice),
            device.upload(one_time_keys=keys, fallback_keys=fallback),
            claim(bob, alice),
        )
        assert claimed[alice.user_id]
        assert (await alice.sync())["device_one_time_keys_count"] == {"signed_curve25519": 3}


async def test_the_fallback_key_is_given_when_all_others_are_gone_and_told_as_used(
    alice: User, bob: User
) -> None:
    device = DeviceCrypto(alice)
    fallback = device.fallback_key()
    keys = device.one_time_keys(1)
    await device.upload(one_time_keys=keys, fallback_keys=fallback)
    assert (await alice.sync())["device_unused_fallback_key_types"] == ["signed_curve25519"]
    assert await claim(bob, alice) == {alice.user_id: {alice.device_id: keys}}
    assert (await alice.sync())["device_unused_fallback_key_types"] == ["signed_curve25519"]
    for _ in range(2):
        assert await claim(bob, alice) == {alice.user_id: {alice.device_id: fallback}}
    assert (await alice.sync())["device_unused_fallback_key_types"] == []
    await alice.post("/v3/keys/upload", json={"fallback_keys": fallback})  # the same is as used as before
    assert (await alice.sync())["device_unused_fallback_key_types"] == []
    newer = device.fallback_key()
    await alice.post("/v3/keys/upload", json={"fallback_keys": newer})
    assert (await alice.sync())["device_unused_fallback_key_types"] == ["signed_curve25519"]
    assert await claim(bob, alice) == {alice.user_id: {alice.device_id: newer}}


async def test_two_fallback_keys_of_one_algorithm_are_refused(alice: User) -> None:
    device = DeviceCrypto(alice)
    with refused(400, "M_INVALID_PARAM"):
        await device.upload(fallback_keys=device.fallback_key() | device.fallback_key())


async def test_a_waiting_sync_is_told_that_keys_were_claimed(alice: User, bob: User) -> None:
    device = DeviceCrypto(alice)
    await device.upload(one_time_keys=device.one_time_keys(2))
    since = (await alice.sync())["next_batch"]
    waiting = asyncio.create_task(alice.sync(since, timeout_ms=30_000))
    await claim(bob, alice)
    assert (await waiting)["device_one_time_keys_count"] == {"signed_curve25519": 1}


async def test_a_sync_after_a_claim_is_answered_at_once_and_the_next_one_waits(
    alice: User, bob: User
) -> None:
    device, other = DeviceCrypto(alice), DeviceCrypto(await alice.on_new_device())
    for each in (device, other):
        await each.upload(one_time_keys=each.one_time_keys(2))
    since, others = (await alice.sync())["next_batch"], (await other.user.sync())["next_batch"]
    assert await claim(bob, alice, algorithm="unknown") == {}
    await claim(bob, alice)
    async with asyncio.timeout(10):
        told = await alice.sync(since, timeout_ms=30_000)
    assert told["device_one_time_keys_count"] == {"signed_curve25519": 1}
    for user, token in ((alice, told["next_batch"]), (other.user, others)):  # the other device lost none
        waiting = asyncio.create_task(user.sync(token, timeout_ms=30_000))
        done, _ = await asyncio.wait((waiting,), timeout=0.3)
        assert not done
        waiting.cancel()


async def test_claims_of_what_is_not_there_are_left_out(alice: User, bob: User) -> None:
    device = DeviceCrypto(alice)
    await device.upload(one_time_keys=device.one_time_keys(1))
    assert await claim(bob, alice, algorithm="unknown") == {}
    wanted = {alice.user_id: {"NODEVICE": "signed_curve25519"}, f"@no:{alice.server_name}": {"A": "b"}}
    answer = await bob.post("/v3/keys/claim", json={"one_time_keys": wanted})
    assert answer == {"one_time_keys": {}, "failures": {}}
    with refused(400, "M_INVALID_PARAM"):
        await claim(bob, alice, algorithm="signed_curve25519\nsigned_curve25519")


async def test_a_thousand_claims_at_once_give_a_hundred_keys_once_and_then_the_fallback(
    alice: User, bob: User
) -> None:
    device = DeviceCrypto(alice)
    keys, fallback = device.one_time_keys(100), device.fallback_key()
    await device.upload(one_time_keys=keys, fallback_keys=fallback)
    answers = await asyncio.gather(*(claim(bob, alice) for _ in range(1000)))
    counts = Counter(name for answer in answers for name in answer[alice.user_id][alice.device_id])
    [fallback_name] = fallback
    assert counts.pop(fallback_name) == 900
    assert set(counts) == set(keys) and set(counts.values()) == {1}


async def test_a_deleted_device_has_no_keys(api: Api, alice: User, bob: User) -> None:
    device = DeviceCrypto(alice)
    await device.upload(one_time_keys=device.one_time_keys(5), fallback_keys=device.fallback_key())
    device_id = alice.device_id
    await alice.post("/v3/logout")
    assert (await device_keys_of(bob, alice.user_id))["device_keys"] == {alice.user_id: {}}
    assert await claim(bob, alice) == {}
    again = await api.login(alice.user_id, PASSWORD, device_id=device_id)
    assert (await again.sync())["device_one_time_keys_count"] == {"signed_curve25519": 0}


async def test_other_identity_keys_replace_those_before(alice: User, bob: User) -> None:
    await DeviceCrypto(alice).upload()
    anew = DeviceCrypto(alice)
    await anew.upload()
    found = (await device_keys_of(bob, alice.user_id))["device_keys"][alice.user_id][alice.device_id]
    assert found["keys"][anew.key_id] == anew.public


@pytest.mark.parametrize("path", ["/v3/keys/query", "/v3/keys/claim"])
async def test_requests_without_what_they_ask_for_are_refused(alice: User, path: str) -> None:
    with refused(400, "M_MISSING_PARAM"):
        await alice.post(path, json={})


@pytest.mark.parametrize("value", [[], {"@a:b": "x"}, {"@a:b": [1]}, {"@a:b": {"D": 1}}])
async def test_queries_and_claims_of_the_wrong_form_are_refused(alice: User, value: object) -> None:
    if not (isinstance(value, dict) and value == {"@a:b": {"D": 1}}):
        with refused(400, "M_BAD_JSON"):
            await alice.post("/v3/keys/query", json={"device_keys": value})
    with refused(400, "M_BAD_JSON"):
        await alice.post("/v3/keys/claim", json={"one_time_keys": value})
    with refused(400, "M_BAD_JSON"):
        await alice.post("/v3/keys/query", json={"device_keys": {}, "timeout": "soon"})


async def test_guests_exchange_keys(api: Api, alice: User) -> None:
    guest = await api.register_guest()
    device = DeviceCrypto(guest)
    await device.upload(one_time_keys=device.one_time_keys(1))
    assert (await device_keys_of(alice, guest.user_id))["device_keys"][guest.user_id]
    assert (await claim(alice, guest))[guest.user_id]
