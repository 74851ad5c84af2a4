"""Pages for clients that do not know a stage or a login: Client-Server API, "Fallback", "Login Fallback"."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest

from tests.api.client import PASSWORD, Answer, Api, Refused, User

FALLBACK = "/_matrix/client/v3/auth/{}/fallback/web"


async def session_of(user: User, device_id: str) -> str:
    with pytest.raises(Refused) as caught:
        await user.post("/v3/delete_devices", json={"devices": [device_id]})
    session: str = caught.value.json["session"]
    return session


async def submit(api: Api, kind: str, **fields: str) -> Answer:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return await api.exchange("POST", FALLBACK.format(kind), body=urlencode(fields).encode(), headers=headers)


async def test_a_stage_is_completed_in_a_browser(api: Api, alice: User) -> None:
    other = await alice.on_new_device()
    session = await session_of(alice, other.device_id)
    page = await api.exchange("GET", FALLBACK.format("m.login.password") + "?session=" + quote(session))
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert f'value="{session}"'.encode() in page.body
    wrong = await submit(api, "m.login.password", session=session, password="wrong password")
    assert (wrong.status, b"Wrong user name or password" in wrong.body) == (403, True)
    body = {"devices": [other.device_id], "auth": {"session": session}}
    with pytest.raises(Refused) as caught:
        await alice.post("/v3/delete_devices", json=body)
    assert caught.value.status == 401
    done = await submit(api, "m.login.password", session=session, password=PASSWORD)
    assert (done.status, b"window.onAuthDone()" in done.body) == (200, True)
    await alice.post("/v3/delete_devices", json=body)
    with pytest.raises(Refused):
        await other.get("/v3/account/whoami")


async def test_registration_goes_on_with_what_a_browser_completed(api: Api) -> None:
    with pytest.raises(Refused) as caught:
        await api.post("/v3/register", json={})
    session = caught.value.json["session"]
    assert (await submit(api, "m.login.dummy", session=session)).status == 200
    answer = await api.post(
        "/v3/register", json={"username": "by-browser", "password": PASSWORD, "auth": {"session": session}}
    )
    assert answer["user_id"].startswith("@by-browser:")


async def test_what_is_no_stage_or_session_is_refused(api: Api, alice: User) -> None:
    unknown = await submit(api, "m.login.dummy", session='"><script>alert(1)</script>')
    assert unknown.status == 400
    assert b"<script>alert" not in unknown.body
    assert (await submit(api, "m.login.nothing", session="x")).status == 404
    session = await session_of(alice, alice.device_id)
    assert (await submit(api, "m.login.dummy", session=session)).status == 403
    missing = await api.exchange("GET", FALLBACK.format("m.login.dummy"))
    assert missing.status == 400


async def test_the_login_page_runs_its_own_script_only(api: Api) -> None:
    page = await api.exchange("GET", "/_matrix/static/client/login/?device_id=PHONE")
    assert page.status == 200
    assert b"window.matrixLogin.onLogin(answer)" in page.body
    policy = page.headers["Content-Security-Policy"]
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert page.body.count(f'nonce="{nonce}"'.encode()) == 2
    assert "default-src 'none'" in policy
