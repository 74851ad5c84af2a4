"""Login, tokens and how they end, as clients see it."""

from __future__ import annotations

import asyncio

import pytest

from tests.accounts.conftest import Serve
from tests.accounts.server import AccountServices
from tests.api.client import PASSWORD, Api, Refused, User, refused

WHOAMI = "/v3/account/whoami"
NEW_PASSWORD = "battery staple horse"


def own_password(user: User, password: str = PASSWORD) -> dict[str, object]:
    identifier = {"type": "m.id.user", "user": user.user_id}
    return {"type": "m.login.password", "identifier": identifier, "password": password}


async def test_logs_in_by_every_form_of_identifier(api: Api) -> None:
    user = await api.register()
    name = user.localpart.title()
    for form in (
        {"identifier": {"type": "m.id.user", "user": f"@{name}:veche.test"}},
        {"identifier": {"type": "m.id.user", "user": name}},
        {"user": name},
        {"user": f"@{name}:veche.test"},
    ):
        login = {"type": "m.login.password", "password": PASSWORD, **form}
        answer = await api.post("/v3/login", json=login)
        assert answer["user_id"] == user.user_id
        whoami = await api.with_token(answer["access_token"]).get(WHOAMI)
        assert whoami["device_id"] == answer["device_id"]


@pytest.mark.parametrize(
    ("body", "status", "errcode"),
    [
        ({"identifier": {"type": "m.id.thirdparty", "medium": "email"}}, 403, "M_FORBIDDEN"),
        ({"medium": "email", "address": "a@b.c"}, 403, "M_FORBIDDEN"),
        ({"identifier": {"type": "m.id.user", "user": "nobody"}}, 403, "M_FORBIDDEN"),
        ({"identifier": {"type": "m.id.user", "user": "@alice:elsewhere.test"}}, 403, "M_FORBIDDEN"),
        ({"identifier": {"type": "m.id.user", "user": 3}}, 400, "M_BAD_JSON"),
        ({"identifier": {"type": "m.id.user"}}, 400, "M_MISSING_PARAM"),
        ({"identifier": "alice"}, 400, "M_BAD_JSON"),
        ({}, 400, "M_MISSING_PARAM"),
        ({"type": "m.login.dance", "user": "alice"}, 400, "M_UNKNOWN"),
        ({"type": "m.login.token", "token": "made up"}, 403, "M_FORBIDDEN"),
        ({"user": "alice", "device_id": "D" * 300}, 400, "M_INVALID_PARAM"),
        ({"user": "alice", "refresh_token": "yes"}, 400, "M_BAD_JSON"),
    ],
)
async def test_refuses_logins(api: Api, body: dict[str, object], status: int, errcode: str) -> None:
    with refused(status, errcode):
        await api.post("/v3/login", json={"type": "m.login.password", "password": PASSWORD, **body})


async def test_flows_name_what_login_takes(api: Api) -> None:
    flows = (await api.get("/v3/login"))["flows"]
    assert [flow["type"] for flow in flows] == ["m.login.password", "m.login.token"]


async def test_a_device_that_logs_in_again_loses_its_old_token_only(api: Api) -> None:
    first = await api.register()
    other = await api.login(first.user_id)
    again = await api.login(first.user_id, device_id=first.device_id)
    assert again.device_id == first.device_id
    with refused(401, "M_UNKNOWN_TOKEN") as gone:
        await first.get(WHOAMI)
    assert gone.value.json["soft_logout"] is False
    await other.get(WHOAMI)


async def test_logout_deletes_the_device(api: Api) -> None:
    phone = await api.register()
    laptop = await phone.on_new_device()
    await phone.get(WHOAMI)
    await phone.post("/v3/logout")
    with refused(401, "M_UNKNOWN_TOKEN"):
        await phone.get(WHOAMI)
    devices = (await laptop.get("/v3/devices"))["devices"]
    assert [device["device_id"] for device in devices] == [laptop.device_id]
    await laptop.post("/v3/logout/all")
    with refused(401, "M_UNKNOWN_TOKEN"):
        await laptop.get(WHOAMI)


async def test_tokens_are_stored_as_digests_only(api: Api, services: AccountServices) -> None:
    user = await api.login((await api.register()).user_id, refresh_token=True)
    assert user.token is not None
    for table in ("access_tokens", "devices", "accounts"):
        rows = await services.pool.fetch(f"SELECT t::text AS text FROM {table} t")
        assert not any(user.token in row["text"] or PASSWORD in row["text"] for row in rows)


async def test_expired_access_tokens_are_soft_logouts_until_refreshed(
    api: Api, services: AccountServices
) -> None:
    user = await api.register()
    login = {"type": "m.login.password", "user": user.user_id, "password": PASSWORD, "refresh_token": True}
    old = await api.post("/v3/login", json=login)
    assert old["expires_in_ms"] == 300_000
    device = api.with_token(old["access_token"])
    await device.get(WHOAMI)
    services.clock.ms += 300_001
    with refused(401, "M_UNKNOWN_TOKEN") as expired:
        await device.get(WHOAMI)
    assert expired.value.json["soft_logout"] is True
    new = await api.post("/v3/refresh", json={"refresh_token": old["refresh_token"]})
    assert new.keys() == {"access_token", "refresh_token", "expires_in_ms"}
    whoami = await api.with_token(new["access_token"]).get(WHOAMI)
    assert whoami["device_id"] == old["device_id"]


async def test_a_refresh_can_be_repeated_until_its_tokens_are_used(api: Api) -> None:
    user = await api.register()
    login = {"type": "m.login.password", "user": user.user_id, "password": PASSWORD, "refresh_token": True}
    old = await api.post("/v3/login", json=login)
    await api.with_token(old["access_token"]).get(WHOAMI)
    lost = await api.post("/v3/refresh", json={"refresh_token": old["refresh_token"]})
    kept = await api.post("/v3/refresh", json={"refresh_token": old["refresh_token"]})
    await api.with_token(old["access_token"]).get(WHOAMI)  # valid until the new one is used
    await api.with_token(kept["access_token"]).get(WHOAMI)
    with refused(401, "M_UNKNOWN_TOKEN") as used:
        await api.post("/v3/refresh", json={"refresh_token": old["refresh_token"]})
    assert used.value.json["soft_logout"] is True
    with refused(401, "M_UNKNOWN_TOKEN") as replaced:
        await api.with_token(old["access_token"]).get(WHOAMI)
    assert replaced.value.json["soft_logout"] is True
    with refused(401, "M_UNKNOWN_TOKEN"):
        await api.with_token(lost["access_token"]).get(WHOAMI)


async def test_using_the_new_refresh_token_ends_the_old_one(api: Api) -> None:
    user = await api.register()
    login = {"type": "m.login.password", "user": user.user_id, "password": PASSWORD, "refresh_token": True}
    first = await api.post("/v3/login", json=login)
    second = await api.post("/v3/refresh", json={"refresh_token": first["refresh_token"]})
    third = await api.post("/v3/refresh", json={"refresh_token": second["refresh_token"]})
    with refused(401, "M_UNKNOWN_TOKEN"):
        await api.post("/v3/refresh", json={"refresh_token": first["refresh_token"]})
    await api.with_token(third["access_token"]).get(WHOAMI)
    with refused(401, "M_UNKNOWN_TOKEN"):
        await api.post("/v3/refresh", json={"refresh_token": "never given"})


async def test_refreshing_and_using_tokens_at_once_ends_in_no_deadlock(api: Api) -> None:
    user = await api.register()
    login = {"type": "m.login.password", "user": user.user_id, "password": PASSWORD, "refresh_token": True}
    newest = await api.post("/v3/login", json=login)
    for _ in range(20):
        older, newest = newest, await api.post("/v3/refresh", json={"refresh_token": newest["refresh_token"]})
        answers = await asyncio.gather(
            api.post("/v3/refresh", json={"refresh_token": older["refresh_token"]}),
            api.post("/v3/refresh", json={"refresh_token": newest["refresh_token"]}),
            *(api.with_token(newest["access_token"]).get(WHOAMI) for _ in range(3)),
            return_exceptions=True,
        )
        # Who was late is refused; that is never a failure of the server.
        refusals = [answer for answer in answers if not isinstance(answer, dict)]
        assert all(isinstance(refusal, Refused) and refusal.status == 401 for refusal in refusals), refusals
        newest = answers[1] if isinstance(answers[1], dict) else answers[0]
        assert isinstance(newest, dict)


async def test_sessions_and_refresh_tokens_end_when_configured(serve: Serve) -> None:
    services, api = await serve(auth={"session_lifetime_ms": 1000, "refresh_token_lifetime_ms": 5000})
    user = await api.register()
    login = {"type": "m.login.password", "user": user.user_id, "password": PASSWORD, "refresh_token": True}
    refreshable = await api.post("/v3/login", json=login)
    services.clock.ms += 5001
    with refused(401, "M_UNKNOWN_TOKEN") as expired:
        await user.get(WHOAMI)
    assert expired.value.json["soft_logout"] is True
    with refused(401, "M_UNKNOWN_TOKEN") as late:
        await api.post("/v3/refresh", json={"refresh_token": refreshable["refresh_token"]})
    assert late.value.json["soft_logout"] is True
    again = await api.login(user.user_id, device_id=user.device_id)
    await again.get(WHOAMI)


async def test_login_tokens_work_once_and_not_for_long(api: Api, services: AccountServices) -> None:
    user = await api.register()
    tokens = []
    for _ in range(2):
        with pytest.raises(Refused) as asked:
            await user.post("/v1/login/get_token")
        auth = {**own_password(user), "session": asked.value.json["session"]}
        tokens.append((await user.post("/v1/login/get_token", json={"auth": auth}))["login_token"])
    by_token = {"type": "m.login.token", "token": tokens[0]}
    assert (await api.post("/v3/login", json=by_token))["user_id"] == user.user_id
    with refused(403, "M_FORBIDDEN"):
        await api.post("/v3/login", json=by_token)
    services.clock.ms += 120_001
    with refused(403, "M_FORBIDDEN"):
        await api.post("/v3/login", json={"type": "m.login.token", "token": tokens[1]})


async def test_changing_the_password_ends_other_devices_unless_asked_not_to(api: Api) -> None:
    phone = await api.register()
    laptop = await phone.on_new_device()
    await laptop.get(WHOAMI)
    change = {"new_password": NEW_PASSWORD, "logout_devices": False, "auth": own_password(phone)}
    await phone.post("/v3/account/password", json=change)
    await laptop.get(WHOAMI)
    with refused(403, "M_FORBIDDEN"):
        await api.login(phone.user_id)
    change = {"new_password": PASSWORD, "auth": own_password(phone, NEW_PASSWORD)}
    await phone.post("/v3/account/password", json=change)
    with refused(401, "M_UNKNOWN_TOKEN"):
        await laptop.get(WHOAMI)
    await phone.get(WHOAMI)
    with refused(400, "M_WEAK_PASSWORD"):
        await phone.post("/v3/account/password", json={"new_password": "short", "auth": own_password(phone)})


async def test_hashes_follow_the_configuration(serve: Serve) -> None:
    services, api = await serve(auth={"argon2_time_cost": 1})
    user = await api.register()
    services, api = await serve(auth={"argon2_time_cost": 2})
    await api.login(user.user_id)
    stored = await services.pool.fetchval(
        "SELECT password_hash FROM accounts JOIN users ON nid = user_nid WHERE user_id = $1", user.user_id
    )
    assert "t=2" in stored
    await api.login(user.user_id)


async def test_deactivation_ends_everything_but_the_name(api: Api, services: AccountServices) -> None:
    user = await api.register()
    requester = await services.authenticator.authenticate(user.token or "", "127.0.0.1", "")
    await services.profiles.put_field(requester, "displayname", {"displayname": "Alice"})
    token = (await user.post("/v3/user/{}/openid/request_token", user.user_id))["access_token"]
    with refused(401, "M_FORBIDDEN"):
        auth = own_password(user, "wrong password")
        await user.post("/v3/account/deactivate", json={"auth": auth, "erase": True})
    answer = await user.post("/v3/account/deactivate", json={"auth": own_password(user), "erase": True})
    assert answer == {"id_server_unbind_result": "success"}
    assert services.departures == [user.user_id]
    with refused(401, "M_UNKNOWN_TOKEN"):
        await user.get(WHOAMI)
    with refused(403, "M_USER_DEACTIVATED"):
        await api.login(user.user_id)
    with refused(400, "M_USER_IN_USE"):
        await api.get("/v3/register/available", query={"username": user.localpart})
    assert await services.openid.user_of(token) is None
    assert await services.profiles.get(user.user_id) == {}
    await services.account_management.resume_departures()
    assert services.departures == [user.user_id]
    assert user.user_id in services.account_management.erased
    services.account_management.erased.clear()
    await services.account_management.read_erased()  # as the next start does
    assert user.user_id in services.account_management.erased


async def test_a_departure_that_failed_is_taken_up_at_the_next_start(
    api: Api, services: AccountServices
) -> None:
    user = await api.register()
    services.leaving_fails = True
    await user.post("/v3/account/deactivate", json={"auth": own_password(user)})
    assert services.departures == []
    services.leaving_fails = False
    await services.account_management.resume_departures()
    assert services.departures == [user.user_id]
