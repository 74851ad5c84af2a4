"""Registration in its modes, and what it refuses."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import Any

import pytest

from tests.accounts.conftest import Serve
from tests.accounts.server import SECRET, AccountServices
from tests.api.client import PASSWORD, Api, Refused, refused

REGISTER = "/v3/register"
BY_SECRET = "/_synapse/admin/v1/register"
DUMMY = {"type": "m.login.dummy"}


def mac_of(secret: str, *parts: str) -> str:
    return hmac.new(secret.encode(), "\0".join(parts).encode(), hashlib.sha1).hexdigest()


async def test_registers_in_two_steps_and_logs_in(api: Api) -> None:
    with pytest.raises(Refused) as asked:
        await api.post(REGISTER)
    assert asked.value.status == 401
    assert asked.value.json["flows"] == [{"stages": ["m.login.dummy"]}]
    assert "errcode" not in asked.value.json
    answer = await api.post(
        REGISTER,
        json={
            "username": "Alice",
            "password": PASSWORD,
            "device_id": "PHONE",
            "initial_device_display_name": "Alice's phone",
            "auth": {**DUMMY, "session": asked.value.json["session"]},
        },
    )
    assert answer["user_id"] == "@alice:veche.test"
    assert answer["device_id"] == "PHONE"
    whoami = await api.with_token(answer["access_token"]).get("/v3/account/whoami")
    assert whoami == {"user_id": "@alice:veche.test", "device_id": "PHONE", "is_guest": False}
    assert (await api.login("alice")).user_id == "@alice:veche.test"


@pytest.mark.parametrize("username", ["with space", "ключ", "", "a:b", "x" * 250, "back\\slash"])
async def test_refuses_names_that_make_no_user_id(api: Api, username: str) -> None:
    with refused(400, "M_INVALID_USERNAME"):
        await api.post(REGISTER, json={"username": username, "password": PASSWORD, "auth": DUMMY})
    with refused(400, "M_INVALID_USERNAME"):
        await api.get("/v3/register/available", query={"username": username})


async def test_a_name_is_given_once(api: Api) -> None:
    taken = await api.register()
    assert await api.get("/v3/register/available", query={"username": "free"}) == {"available": True}
    with refused(400, "M_USER_IN_USE"):
        await api.get("/v3/register/available", query={"username": taken.localpart.upper()})
    # Before user-interactive authentication, and after it.
    for auth in ({}, {"auth": DUMMY}):
        with refused(400, "M_USER_IN_USE"):
            await api.post(REGISTER, json={"username": taken.localpart, "password": PASSWORD, **auth})
    with refused(400, "M_USER_IN_USE"):
        await api.post(REGISTER, json={"username": "notices", "password": PASSWORD, "auth": DUMMY})


async def test_of_many_at_once_one_gets_the_name(api: Api) -> None:
    body = {"username": "contested", "password": PASSWORD, "auth": DUMMY}
    answers = await asyncio.gather(*(api.post(REGISTER, json=body) for _ in range(8)), return_exceptions=True)
    refusals = [answer.errcode for answer in answers if isinstance(answer, Refused)]
    assert refusals == ["M_USER_IN_USE"] * 7


async def test_a_name_known_from_elsewhere_can_be_registered(api: Api, services: AccountServices) -> None:
    await services.pool.execute("INSERT INTO users (user_id) VALUES ('@invited:veche.test')")
    await api.post(REGISTER, json={"username": "invited", "password": PASSWORD, "auth": DUMMY})


async def test_without_a_name_one_is_made_up(api: Api) -> None:
    answers = [await api.post(REGISTER, json={"password": PASSWORD, "auth": DUMMY}) for _ in range(2)]
    assert answers[0]["user_id"] != answers[1]["user_id"]


async def test_login_can_be_inhibited(api: Api) -> None:
    body = {"username": "inhibited", "password": PASSWORD, "inhibit_login": True, "auth": DUMMY}
    assert await api.post(REGISTER, json=body) == {"user_id": "@inhibited:veche.test"}
    await api.login("inhibited")


async def test_refuses_weak_and_missing_passwords(api: Api) -> None:
    with refused(400, "M_WEAK_PASSWORD"):
        await api.post(REGISTER, json={"username": "weak", "password": "1234567", "auth": DUMMY})
    with refused(400, "M_MISSING_PARAM"):
        await api.post(REGISTER, json={"username": "weak", "auth": DUMMY})
    with refused(400, "M_BAD_JSON"):
        await api.post(REGISTER, json={"username": "weak", "password": 12345678, "auth": DUMMY})


async def test_closed_registration_refuses_users(serve: Serve) -> None:
    _, api = await serve(registration={"mode": "closed", "guests": False})
    for options in ({}, {"query": {"kind": "guest"}}):
        with refused(403, "M_FORBIDDEN"):
            await api.post(REGISTER, json={"username": "alice", "password": PASSWORD}, **options)
    with refused(403, "M_FORBIDDEN"):
        await api.get("/v1/register/m.login.registration_token/validity", query={"token": "word"})


async def test_registration_by_token(serve: Serve) -> None:
    _, api = await serve(registration={"mode": "token", "tokens": ["word"]})
    body: dict[str, Any] = {"username": "invitee", "password": PASSWORD}
    with pytest.raises(Refused) as wrong:
        await api.post(REGISTER, json={**body, "auth": {"type": "m.login.registration_token", "token": "x"}})
    assert (wrong.value.status, wrong.value.errcode) == (401, "M_FORBIDDEN")
    assert wrong.value.json["flows"] == [{"stages": ["m.login.registration_token"]}]
    with refused(401, "M_FORBIDDEN"):  # a stage of no flow
        await api.post(REGISTER, json={**body, "auth": DUMMY})
    auth = {"type": "m.login.registration_token", "token": "word", "session": wrong.value.json["session"]}
    assert (await api.post(REGISTER, json={**body, "auth": auth}))["user_id"] == "@invitee:veche.test"
    validity = "/v1/register/m.login.registration_token/validity"
    assert await api.get(validity, query={"token": "word"}) == {"valid": True}
    assert await api.get(validity, query={"token": "other"}) == {"valid": False}


async def test_guests_are_known_as_such_and_can_become_users(api: Api) -> None:
    guest = await api.register_guest()
    assert (await guest.get("/v3/account/whoami"))["is_guest"] is True
    with refused(403, "M_GUEST_ACCESS_FORBIDDEN"):
        await guest.get("/v3/account/3pid")
    body = {"password": PASSWORD, "guest_access_token": guest.token, "auth": DUMMY}
    with refused(403, "M_FORBIDDEN"):
        await api.post(REGISTER, json={**body, "username": "another"})
    upgraded = await api.post(REGISTER, json={**body, "username": guest.localpart})
    assert upgraded["user_id"] == guest.user_id
    whoami = await api.with_token(upgraded["access_token"]).get("/v3/account/whoami")
    assert whoami["is_guest"] is False
    with refused(401, "M_UNKNOWN_TOKEN"):
        await guest.get("/v3/account/whoami")


async def test_shared_secret_registers_whatever_the_mode(serve: Serve) -> None:
    _, api = await serve(registration={"mode": "closed"})
    nonce = (await api.get(BY_SECRET))["nonce"]
    body = {"nonce": nonce, "username": "provisioned", "password": PASSWORD, "admin": True}
    mac = mac_of(SECRET, nonce, "provisioned", PASSWORD, "admin")
    answer = await api.post(BY_SECRET, json={**body, "mac": mac})
    assert answer["user_id"] == "@provisioned:veche.test"
    assert answer["home_server"] == "veche.test"
    admin = api.with_token(answer["access_token"])
    assert "m.account_moderation" in (await admin.get("/v3/capabilities"))["capabilities"]
    with refused(400, "M_UNKNOWN"):  # a nonce is good for one request
        await api.post(BY_SECRET, json={**body, "mac": mac})


async def test_shared_secret_covers_every_field(serve: Serve) -> None:
    services, api = await serve()
    nonces = [(await api.get(BY_SECRET))["nonce"] for _ in range(4)]
    body = {"username": "bot-1", "password": PASSWORD, "admin": False, "user_type": "bot"}
    right = mac_of(SECRET, nonces[0], "bot-1", PASSWORD, "notadmin", "bot")
    await api.post(BY_SECRET, json={**body, "nonce": nonces[0], "mac": right})
    without_type = mac_of(SECRET, nonces[1], "bot-1", PASSWORD, "notadmin")
    with refused(403, "M_FORBIDDEN"):
        await api.post(BY_SECRET, json={**body, "nonce": nonces[1], "mac": without_type})
    as_admin = mac_of(SECRET, nonces[2], "bot-2", PASSWORD, "notadmin")
    with refused(403, "M_FORBIDDEN"):
        json = {"nonce": nonces[2], "username": "bot-2", "password": PASSWORD, "admin": True, "mac": as_admin}
        await api.post(BY_SECRET, json=json)
    services.clock.ms += 60_001
    late = mac_of(SECRET, nonces[3], "bot-3", PASSWORD, "notadmin")
    with refused(400, "M_UNKNOWN"):
        json = {"nonce": nonces[3], "username": "bot-3", "password": PASSWORD, "mac": late}
        await api.post(BY_SECRET, json=json)


async def test_without_a_secret_there_is_no_such_registration(serve: Serve) -> None:
    _, api = await serve(registration={"shared_secret": None})
    with refused(400, "M_UNKNOWN"):
        await api.get(BY_SECRET)
