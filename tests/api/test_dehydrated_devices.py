"""Dehydrated devices: MSC3814, as Element's clients use it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.client import PASSWORD, Api, User, refused
from tests.api.device_crypto import DeviceCrypto, changed_of, claim, device_keys_of

JsonObject = dict[str, Any]
PATH = "/unstable/org.matrix.msc3814.v1/dehydrated_device"
EVENTS = f"{PATH}/{{}}/events"
DATA = {"algorithm": "org.matrix.msc3814.v2", "device_pickle": "sealed", "nonce": "n"}


def sleeper(user: User, device_id: str) -> User:
    """The user on a device that nobody is logged in on."""
    return User(
        user.http,
        user.url,
        user.server_name,
        user.exchanges,
        None,
        user_id=user.user_id,
        device_id=device_id,
    )


def body_of(device: DeviceCrypto, **more: object) -> JsonObject:
    return {
        "device_id": device.user.device_id,
        "device_data": DATA,
        "initial_device_display_name": "Dehydrated device",
        "device_keys": device.device_keys(),
        "one_time_keys": device.one_time_keys(2),
        "fallback_keys": device.fallback_key(),
        **more,
    }


async def test_it_is_kept_found_by_others_and_taken_up_again(alice: User, bob: User) -> None:
    await bob.join(await alice.create_room())
    with refused(404, "M_NOT_FOUND"):
        await alice.get(PATH)
    since = (await bob.sync())["next_batch"]
    device = DeviceCrypto(sleeper(alice, "SLEEPER"))
    body = body_of(device)
    assert await alice.put(PATH, json=body) == {"device_id": "SLEEPER"}
    assert changed_of(await bob.sync(since)) == {alice.user_id}
    found = (await device_keys_of(bob, alice.user_id))["device_keys"][alice.user_id]
    name = {"unsigned": {"device_display_name": "Dehydrated device"}}
    assert found == {"SLEEPER": body["device_keys"] | name}
    claimed = await claim(bob, device.user)
    assert set(claimed[alice.user_id]["SLEEPER"]) <= set(body["one_time_keys"])
    for number in range(3):
        content: JsonObject = {alice.user_id: {"SLEEPER": {"n": number}}}
        await bob.put("/v3/sendToDevice/{}/{}", "m.test", f"t{number}", json={"messages": content})
    assert await alice.get(PATH) == {"device_id": "SLEEPER", "device_data": DATA}

    first = await alice.post(EVENTS, "SLEEPER", json={}, query={"limit": 2})
    assert [event["content"]["n"] for event in first["events"]] == [0, 1]
    assert first["events"][0]["sender"] == bob.user_id
    rest = await alice.post(EVENTS, "SLEEPER", json={"next_batch": first["next_batch"]})
    assert [event["content"]["n"] for event in rest["events"]] == [2]
    end = await alice.post(EVENTS, "SLEEPER", json={"next_batch": rest["next_batch"]})
    assert end["events"] == []
    again = await alice.post(EVENTS, "SLEEPER", json={})
    assert len(again["events"]) == 3, "they stay until the device is deleted"

    assert await alice.delete(PATH) == {"device_id": "SLEEPER"}
    for request in (alice.get(PATH), alice.delete(PATH), alice.post(EVENTS, "SLEEPER")):
        with refused(404, "M_NOT_FOUND"):
            await request
    assert (await device_keys_of(bob, alice.user_id))["device_keys"] == {alice.user_id: {}}


async def test_a_new_one_takes_the_place_of_the_one_before(alice: User, bob: User) -> None:
    await alice.put(PATH, json=body_of(DeviceCrypto(sleeper(alice, "FIRST"))))
    await alice.put(PATH, json=body_of(DeviceCrypto(sleeper(alice, "SECOND"))))
    assert (await alice.get(PATH))["device_id"] == "SECOND"
    assert set((await device_keys_of(bob, alice.user_id))["device_keys"][alice.user_id]) == {"SECOND"}
    with refused(403, "M_FORBIDDEN"):
        await alice.post(EVENTS, "FIRST", json={})
    anew = DeviceCrypto(sleeper(alice, "SECOND"))
    await alice.put(PATH, json=body_of(anew))
    found = (await device_keys_of(bob, alice.user_id))["device_keys"][alice.user_id]["SECOND"]
    assert found["keys"][anew.key_id] == anew.public


async def test_it_cannot_have_the_id_of_another_device(api: Api, alice: User) -> None:
    await alice.put(PATH, json=body_of(DeviceCrypto(sleeper(alice, "SLEEPER"))))
    with refused(400, "M_INVALID_PARAM"):
        await alice.put(PATH, json=body_of(DeviceCrypto(alice)))
    assert (await alice.get(PATH))["device_id"] == "SLEEPER"
    await api.login(alice.user_id, PASSWORD)  # and the login goes on


@pytest.mark.parametrize(
    "wrong",
    [{"device_id": 1}, {"device_data": "text"}, {"device_keys": []}, {"one_time_keys": 1}],
)
async def test_what_has_the_wrong_form_is_refused(alice: User, wrong: JsonObject) -> None:
    device = DeviceCrypto(sleeper(alice, "SLEEPER"))
    with refused(400, "M_BAD_JSON"):
        await alice.put(PATH, json=body_of(device, **wrong))
    with refused(404, "M_NOT_FOUND"):
        await alice.get(PATH)


async def test_what_is_missing_or_of_others_is_refused(alice: User, bob: User) -> None:
    body = body_of(DeviceCrypto(sleeper(alice, "SLEEPER")))
    for field in ("device_id", "device_keys"):
        with refused(400, "M_MISSING_PARAM"):
            await alice.put(PATH, json={key: value for key, value in body.items() if key != field})
    with refused(400, "M_INVALID_PARAM"):
        await bob.put(PATH, json=body)
    with refused(413, "M_TOO_LARGE"):
        await alice.put(PATH, json=body | {"device_data": {"x": "y" * 300_000}})
    await alice.put(PATH, json=body)
    with refused(400, "M_INVALID_PARAM"):
        await alice.post(EVENTS, "SLEEPER", json={"next_batch": "nonsense"})
