"""Whois, locks and suspensions."""

from __future__ import annotations

import pytest

from tests.accounts.server import SECRET, AccountServices
from tests.api.client import Api, refused

LOCK, SUSPEND = "/v1/admin/lock/{}", "/v1/admin/suspend/{}"


async def test_a_locked_user_can_only_log_out(api: Api) -> None:
    admin, user = await api.register_admin(SECRET), await api.register()
    laptop = await user.on_new_device()
    await user.get("/v3/account/whoami")
    assert await admin.put(LOCK, user.user_id, json={"locked": True}) == {"locked": True}
    assert await admin.get(LOCK, user.user_id) == {"locked": True}
    with refused(401, "M_USER_LOCKED") as locked:
        await user.get("/v3/account/whoami")
    assert locked.value.json["soft_logout"] is True
    with refused(401, "M_USER_LOCKED"):
        await api.login(user.user_id)
    await laptop.post("/v3/logout")
    await admin.put(LOCK, user.user_id, json={"locked": False})
    await user.get("/v3/account/whoami")
    with refused(401, "M_UNKNOWN_TOKEN"):
        await laptop.get("/v3/account/whoami")


async def test_a_suspension_is_known_at_once(api: Api, services: AccountServices) -> None:
    admin, user = await api.register_admin(SECRET), await api.register()
    await user.get("/v3/account/whoami")
    assert user.token is not None
    assert await admin.put(SUSPEND, user.user_id, json={"suspended": True}) == {"suspended": True}
    requester = await services.authenticator.authenticate(user.token, "127.0.0.1", "")
    assert requester.is_suspended
    await api.login(user.user_id)
    assert await admin.put(SUSPEND, user.user_id, json={"suspended": False}) == {"suspended": False}
    assert await admin.get(SUSPEND, user.user_id) == {"suspended": False}


@pytest.mark.parametrize(("path", "key"), [(LOCK, "locked"), (SUSPEND, "suspended")])
async def test_moderation_is_for_administrators_and_spares_them(api: Api, path: str, key: str) -> None:
    admin, user = await api.register_admin(SECRET), await api.register()
    with refused(403, "M_FORBIDDEN"):  # before it is told whether there is such a user
        await user.get(path, "@nobody:veche.test")
    with refused(403, "M_FORBIDDEN"):
        await user.put(path, user.user_id, json={key: True})
    for target in (admin.user_id, (await api.register_admin(SECRET)).user_id):
        with refused(403, "M_FORBIDDEN"):
            await admin.put(path, target, json={key: True})
    with refused(400, "M_INVALID_PARAM"):
        await admin.put(path, "@user:elsewhere.test", json={key: True})
    with refused(404, "M_NOT_FOUND"):
        await admin.get(path, "@nobody:veche.test")
    with refused(400, "M_BAD_JSON"):
        await admin.put(path, user.user_id, json={key: "yes"})
    with refused(400, "M_MISSING_PARAM"):
        await admin.put(path, user.user_id, json={})


async def test_whois_is_for_oneself_and_administrators(api: Api) -> None:
    admin, user = await api.register_admin(SECRET), await api.register()
    own = await user.get("/v3/admin/whois/{}", user.user_id)
    (session,) = own["devices"][user.device_id]["sessions"]
    assert session["connections"][0]["ip"] == "127.0.0.1"
    assert await admin.get("/v3/admin/whois/{}", user.user_id) == own
    with refused(403, "M_FORBIDDEN"):
        await user.get("/v3/admin/whois/{}", admin.user_id)
    with refused(404, "M_NOT_FOUND"):
        await admin.get("/v3/admin/whois/{}", "@nobody:veche.test")
