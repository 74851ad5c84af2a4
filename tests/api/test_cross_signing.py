"""Cross-signing keys and signatures: Client-Server API, "Cross-signing"."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from federation.keys import SigningKey
from tests.api.client import PASSWORD, Api, User, refused
from tests.api.device_crypto import DeviceCrypto, Identity, changed_of, device_keys_of, signed

UPLOAD = "/v3/keys/device_signing/upload"
SIGNATURES = "/v3/keys/signatures/upload"
JsonObject = dict[str, Any]


def by_password(user: User) -> JsonObject:
    identifier = {"type": "m.id.user", "user": user.user_id}
    return {"type": "m.login.password", "identifier": identifier, "password": PASSWORD}


def public(key: SigningKey) -> str:
    return key.verify_key.base64


async def test_the_first_keys_need_no_password_and_others_see_all_but_the_user_signing_key(
    alice: User, bob: User
) -> None:
    keys = Identity(alice.user_id).keys()
    await alice.post(UPLOAD, json=keys)
    seen = await device_keys_of(bob, alice.user_id)
    assert seen["master_keys"] == {alice.user_id: keys["master_key"]}
    assert seen["self_signing_keys"] == {alice.user_id: keys["self_signing_key"]}
    assert "user_signing_keys" not in seen
    own = await device_keys_of(alice, alice.user_id)
    assert own["user_signing_keys"] == {alice.user_id: keys["user_signing_key"]}


async def test_the_same_keys_again_need_no_password_and_others_do(alice: User, bob: User) -> None:
    identity = Identity(alice.user_id)
    await alice.post(UPLOAD, json=identity.keys())
    await alice.post(UPLOAD, json=identity.keys())
    await alice.post(UPLOAD, json={"master_key": identity.keys()["master_key"]})
    other = Identity(alice.user_id)
    with refused(401, ""):
        await alice.post(UPLOAD, json=other.keys())
    partly = Identity(alice.user_id, identity.master)
    with refused(401, ""):
        await alice.post(UPLOAD, json=partly.keys())
    assert public(identity.master) in str((await device_keys_of(bob, alice.user_id))["master_keys"])
    await alice.post(UPLOAD, json=other.keys() | {"auth": by_password(alice)})
    seen = await device_keys_of(bob, alice.user_id)
    assert seen["master_keys"] == {alice.user_id: other.keys()["master_key"]}
    assert seen["self_signing_keys"] == {alice.user_id: other.keys()["self_signing_key"]}


async def test_a_new_master_key_ends_the_keys_that_the_old_one_signed(alice: User) -> None:
    await alice.post(UPLOAD, json=Identity(alice.user_id).keys())
    other = Identity(alice.user_id)
    body = {"master_key": other.keys()["master_key"], "auth": by_password(alice)}
    await alice.post(UPLOAD, json=body)
    seen = await device_keys_of(alice, alice.user_id)
    assert seen["master_keys"] == {alice.user_id: other.keys()["master_key"]}
    assert "self_signing_keys" not in seen and "user_signing_keys" not in seen


async def test_keys_that_the_master_key_did_not_sign_are_refused(alice: User) -> None:
    identity, other = Identity(alice.user_id), Identity(alice.user_id)
    keys = identity.keys()
    with refused(400, "M_INVALID_SIGNATURE"):
        await alice.post(UPLOAD, json=keys | {"self_signing_key": other.keys()["self_signing_key"]})
    with refused(400, "M_MISSING_PARAM"):
        await alice.post(UPLOAD, json={"self_signing_key": keys["self_signing_key"]})
    assert "master_keys" not in await device_keys_of(alice, alice.user_id)


async def test_keys_of_the_wrong_form_are_refused(alice: User, bob: User) -> None:
    keys = Identity(alice.user_id).keys()
    key = keys["master_key"]
    for wrong in (
        key | {"user_id": bob.user_id},
        key | {"usage": ["self_signing"]},
        key | {"keys": {"ed25519:short": "short"}},
        key | {"keys": {"ed25519:A": public(SigningKey.generate("x"))}},
        key | {"keys": {**key["keys"], "ed25519:B": "B"}},
        key | {"keys": {}},
    ):
        with refused(400, "M_INVALID_PARAM"):
            await alice.post(UPLOAD, json=keys | {"master_key": wrong})
    for wrong in ("text", [], key | {"signatures": {"@a:b": "c"}}):
        with refused(400, "M_BAD_JSON"):
            await alice.post(UPLOAD, json=keys | {"master_key": wrong})


async def test_a_key_that_is_a_device_id_is_refused(api: Api, alice: User) -> None:
    identity = Identity(alice.user_id)
    await api.login(alice.user_id, PASSWORD, device_id=public(identity.master))
    with refused(403, "M_FORBIDDEN"):
        await alice.post(UPLOAD, json=identity.keys())
    other = Identity(alice.user_id)
    await alice.post(UPLOAD, json=other.keys())
    collides = await api.login(alice.user_id, PASSWORD, device_id=public(other.self_signing))
    with refused(403, "M_FORBIDDEN"):
        await DeviceCrypto(collides).upload()


async def test_the_self_signing_key_signs_devices_and_everyone_sees_it(alice: User, bob: User) -> None:
    room_id = await alice.create_room()
    await bob.join(room_id)
    device, identity = DeviceCrypto(alice), Identity(alice.user_id)
    keys = device.device_keys()
    await alice.post("/v3/keys/upload", json={"device_keys": keys})
    await alice.post(UPLOAD, json=identity.keys())
    since = (await bob.sync())["next_batch"]
    vouched = identity.by_self_signing(keys)
    assert await alice.post(SIGNATURES, json={alice.user_id: {alice.device_id: vouched}}) == {"failures": {}}
    assert changed_of(await bob.sync(since)) == {alice.user_id}
    found = (await device_keys_of(bob, alice.user_id))["device_keys"][alice.user_id][alice.device_id]
    assert found["signatures"] == vouched["signatures"]
    # the device publishes the same keys again, as clients do, without the other signature
    await alice.post("/v3/keys/upload", json={"device_keys": keys})
    found = (await device_keys_of(bob, alice.user_id))["device_keys"][alice.user_id][alice.device_id]
    assert found["signatures"] == vouched["signatures"]


async def test_a_device_signs_the_master_key(alice: User, bob: User) -> None:
    device, identity = DeviceCrypto(alice), Identity(alice.user_id)
    await device.upload()
    await alice.post(UPLOAD, json=identity.keys())
    master = device.sign(identity.keys()["master_key"])
    body = {alice.user_id: {public(identity.master): master}}
    assert await alice.post(SIGNATURES, json=body) == {"failures": {}}
    seen = (await device_keys_of(bob, alice.user_id))["master_keys"][alice.user_id]
    assert seen["signatures"] == master["signatures"]


async def test_only_the_signer_sees_signatures_on_others_keys(api: Api, alice: User, bob: User) -> None:
    carol = await api.register("carol")
    alices, bobs = Identity(alice.user_id), Identity(bob.user_id)
    await alice.post(UPLOAD, json=alices.keys())
    await bob.post(UPLOAD, json=bobs.keys())
    second = await alice.on_new_device()
    since = (await second.sync())["next_batch"]
    vouched = alices.by_user_signing(bobs.keys()["master_key"])
    body = {bob.user_id: {public(bobs.master): vouched}}
    assert await alice.post(SIGNATURES, json=body) == {"failures": {}}
    assert (await device_keys_of(alice, bob.user_id))["master_keys"][bob.user_id] == vouched
    for other in (bob, carol):
        seen = (await device_keys_of(other, bob.user_id))["master_keys"][bob.user_id]
        assert "signatures" not in seen
    assert changed_of(await second.sync(since)) == {bob.user_id}
    # of another master key it says nothing
    await bob.post(UPLOAD, json=Identity(bob.user_id).keys() | {"auth": by_password(bob)})
    assert "signatures" not in (await device_keys_of(alice, bob.user_id))["master_keys"][bob.user_id]


async def test_bad_signatures_fail_one_by_one(alice: User, bob: User) -> None:
    device, identity = DeviceCrypto(alice), Identity(alice.user_id)
    keys = device.device_keys()
    await alice.post("/v3/keys/upload", json={"device_keys": keys})
    await alice.post(UPLOAD, json=identity.keys())
    stranger = Identity(alice.user_id)
    claims_to_be = f"ed25519:{public(identity.self_signing)}"
    forged = signed(keys, alice.user_id, claims_to_be, stranger.self_signing)
    body = {
        alice.user_id: {
            alice.device_id: forged,
            "NODEVICE": identity.by_self_signing(keys | {"device_id": "NODEVICE"}),
            public(identity.master): device.sign(identity.keys()["master_key"]),
        },
        bob.user_id: {"nokey": identity.by_user_signing({"user_id": bob.user_id})},
    }
    failures = (await alice.post(SIGNATURES, json=body))["failures"]
    codes = {(user, key): error["errcode"] for user, keys in failures.items() for key, error in keys.items()}
    assert codes == {
        (alice.user_id, alice.device_id): "M_INVALID_SIGNATURE",
        (alice.user_id, "NODEVICE"): "M_NOT_FOUND",
        (bob.user_id, "nokey"): "M_NOT_FOUND",
    }
    seen = await device_keys_of(bob, alice.user_id)
    assert seen["device_keys"][alice.user_id][alice.device_id]["signatures"] == keys["signatures"]
    assert device.key_id in str(seen["master_keys"][alice.user_id]["signatures"])


async def test_signatures_on_other_keys_than_the_published_are_refused(alice: User) -> None:
    device, identity = DeviceCrypto(alice), Identity(alice.user_id)
    keys = device.device_keys()
    await alice.post("/v3/keys/upload", json={"device_keys": keys})
    await alice.post(UPLOAD, json=identity.keys())
    other = identity.by_self_signing(keys | {"algorithms": ["m.other"]})
    answer = await alice.post(SIGNATURES, json={alice.user_id: {alice.device_id: other}})
    assert answer["failures"][alice.user_id][alice.device_id]["errcode"] == "M_INVALID_SIGNATURE"
    for body in ([], {"@a:b": 1}, {"@a:b": {"c": 1}}):
        with refused(400, "M_BAD_JSON"):
            await alice.post(SIGNATURES, json=body)


async def test_of_first_uploads_at_once_one_counts(alice: User) -> None:
    identities = [Identity(alice.user_id) for _ in range(5)]

    async def upload(identity: Identity) -> bool:
        answer = await alice.exchange(
            "POST", "/_matrix/client/v3/keys/device_signing/upload", body=orjson.dumps(identity.keys())
        )
        assert answer.status in (200, 401, 403)
        return answer.status == 200

    done = await asyncio.gather(*map(upload, identities))
    [winner] = [identity for identity, first in zip(identities, done, strict=True) if first]
    assert (await device_keys_of(alice, alice.user_id))["master_keys"][alice.user_id]["keys"] == {
        f"ed25519:{public(winner.master)}": public(winner.master)
    }


async def test_a_new_user_signing_key_is_news_to_its_user_alone(alice: User, bob: User) -> None:
    room_id = await alice.create_room()
    await bob.join(room_id)
    identity = Identity(alice.user_id)
    keys = identity.keys()
    user_signing = keys.pop("user_signing_key")
    await alice.post(UPLOAD, json=keys)
    alices, bobs = (await alice.sync())["next_batch"], (await bob.sync())["next_batch"]
    await alice.post(UPLOAD, json={"user_signing_key": user_signing, "auth": by_password(alice)})
    assert changed_of(await alice.sync(alices)) == {alice.user_id}
    assert changed_of(await bob.sync(bobs)) == set()
