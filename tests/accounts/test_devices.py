"""Devices: listing, naming, deleting, and when they were last seen."""

from __future__ import annotations

import pytest

from tests.accounts.server import AccountServices
from tests.api.client import PASSWORD, Api, User, refused


def auth(user: User) -> dict[str, object]:
    return {"type": "m.login.password", "user": user.user_id, "password": PASSWORD}


async def test_devices_are_listed_with_when_they_were_last_seen(api: Api, services: AccountServices) -> None:
    user = await api.register(initial_device_display_name="Phone")
    laptop = await user.on_new_device()
    await user.get("/v3/account/whoami")
    devices = (await user.get("/v3/devices"))["devices"]
    assert devices == [
        {
            "device_id": user.device_id,
            "display_name": "Phone",
            "last_seen_ip": "127.0.0.1",
            "last_seen_ts": services.clock.ms,
        },
        {"device_id": laptop.device_id},
    ]
    await services.last_seen.flush()
    assert (await user.get("/v3/devices"))["devices"] == devices
    services.clock.ms += 181_000  # the cached token is asked for again
    seen = await user.get("/v3/devices/{}", user.device_id)
    assert seen["last_seen_ts"] == services.clock.ms


async def test_a_device_can_be_named(api: Api) -> None:
    user, other = await api.register(), await api.register()
    await user.put("/v3/devices/{}", user.device_id, json={"display_name": "Телефон"})
    await user.put("/v3/devices/{}", user.device_id, json={})
    assert (await user.get("/v3/devices/{}", user.device_id))["display_name"] == "Телефон"
    with refused(400, "M_INVALID_PARAM"):
        await user.put("/v3/devices/{}", user.device_id, json={"display_name": "x" * 257})
    for json in ({"display_name": "Mine"}, {}):
        with refused(404, "M_NOT_FOUND"):
            await other.put("/v3/devices/{}", user.device_id, json=json)
    with refused(404, "M_NOT_FOUND"):
        await other.get("/v3/devices/{}", user.device_id)


async def test_deleting_a_device_asks_for_the_password_and_ends_its_tokens(api: Api) -> None:
    user = await api.register()
    gone, kept = await user.on_new_device(), await user.on_new_device()
    await gone.get("/v3/account/whoami")
    with refused(401, ""):
        await user.delete("/v3/devices/{}", gone.device_id)
    for _ in range(2):  # "or had been removed previously"
        await user.call("DELETE", "/v3/devices/{}", gone.device_id, json={"auth": auth(user)})
    with refused(401, "M_UNKNOWN_TOKEN"):
        await gone.get("/v3/account/whoami")
    await kept.get("/v3/account/whoami")


async def test_deleting_devices_touches_only_ones_own(api: Api) -> None:
    user, other = await api.register(), await api.register()
    laptop = await user.on_new_device()
    devices = [laptop.device_id, other.device_id, "unknown"]
    await user.post("/v3/delete_devices", json={"devices": devices, "auth": auth(user)})
    await other.get("/v3/account/whoami")
    with refused(401, "M_UNKNOWN_TOKEN"):
        await laptop.get("/v3/account/whoami")


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({}, "M_MISSING_PARAM"),
        ({"devices": "X"}, "M_BAD_JSON"),
        ({"devices": [1]}, "M_BAD_JSON"),
        ({"devices": ["a\x00b"]}, "M_INVALID_PARAM"),
    ],
)
async def test_refuses_wrong_lists_of_devices(api: Api, body: dict[str, object], errcode: str) -> None:
    user = await api.register()
    with refused(400, errcode):
        await user.post("/v3/delete_devices", json=body)


async def test_a_hostile_user_agent_harms_nothing(api: Api, services: AccountServices) -> None:
    user = await api.register()
    answer = await user.exchange(
        "GET", "/_matrix/client/v3/account/whoami", headers={"User-Agent": "\udcff agent \udcfe" * 100}
    )
    assert answer.status == 200
    await services.last_seen.flush()
    whois = await user.get("/v3/admin/whois/{}", user.user_id)
    (connection,) = whois["devices"][user.device_id]["sessions"][0]["connections"]
    assert "agent" in connection["user_agent"]
