"""Accounts from the command line's side."""

from __future__ import annotations

import pytest

from homeserver.accounts.passwords import WeakPassword
from homeserver.accounts.usernames import InvalidUsername, UserInUse
from homeserver.errors import NotFound
from tests.accounts.server import AccountServices
from tests.api.client import PASSWORD, Api, refused

NEW_PASSWORD = "battery staple horse"


async def test_makes_users_that_can_log_in(api: Api, services: AccountServices) -> None:
    user_id = await services.administration.create_user("First", PASSWORD, is_admin=True)
    assert user_id == "@first:veche.test"
    user = await api.login("first")
    assert "m.account_moderation" in (await user.get("/v3/capabilities"))["capabilities"]
    with pytest.raises(UserInUse):
        await services.administration.create_user("first", PASSWORD)
    with pytest.raises(InvalidUsername):
        await services.administration.create_user("a b", PASSWORD)
    with pytest.raises(WeakPassword):
        await services.administration.create_user("second", "short")


async def test_resets_passwords_and_ends_sessions(api: Api, services: AccountServices) -> None:
    user = await api.register()
    administration = services.administration
    assert await administration.reset_password(user.localpart, NEW_PASSWORD) == user.user_id
    with refused(401, "M_UNKNOWN_TOKEN"):
        await user.get("/v3/account/whoami")
    with refused(403, "M_FORBIDDEN"):
        await api.login(user.user_id)
    await api.login(user.user_id, NEW_PASSWORD)
    for unknown in ("nobody", "@someone:elsewhere.test"):
        with pytest.raises(NotFound):
            await administration.reset_password(unknown, NEW_PASSWORD)


async def test_appoints_administrators(api: Api, services: AccountServices) -> None:
    user = await api.register()
    await services.administration.set_admin(user.user_id, True)
    assert "m.account_moderation" in (await user.get("/v3/capabilities"))["capabilities"]


async def test_lists_all_users_in_order(
    api: Api, services: AccountServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeserver.accounts.administration.PAGE", 2)
    users = [await api.register("listed") for _ in range(5)]
    listed = [account.user_id async for account in services.administration.list_users()]
    assert listed == sorted(listed)
    assert {user.user_id for user in users} <= set(listed)
