"""Access tokens in memory: when they are trusted, and that what ended is not kept."""

from __future__ import annotations

import asyncio

import pytest

from homeserver.accounts import authenticator as module
from homeserver.accounts.authenticator import Authenticator
from homeserver.errors import UnknownToken
from homeserver.requester import Requester
from homeserver.storage.access_tokens import TokenRow
from homeserver.storage.connection import Pool
from tests.accounts.server import AccountServices
from tests.api.client import Api, User, refused


async def authenticate(authenticator: Authenticator, user: User) -> Requester:
    return await authenticator.authenticate(user.token or "", "127.0.0.1", "agent")


async def test_a_token_is_known_without_the_database_for_a_while(api: Api, services: AccountServices) -> None:
    user = await api.register()
    authenticator, token = services.authenticator, user.token or ""
    assert authenticator.cached(token) is None
    requester = await authenticate(authenticator, user)
    assert (requester.user_id, requester.device_id) == (user.user_id, user.device_id)
    assert authenticator.cached(token) is requester
    services.clock.ms += 180_001
    assert authenticator.cached(token) is None


async def test_what_another_process_ended_is_noticed_when_trust_ends(
    api: Api, services: AccountServices
) -> None:
    user = await api.register()
    await authenticate(services.authenticator, user)
    await services.pool.execute("DELETE FROM devices WHERE device_id = $1", user.device_id)
    services.clock.ms += 180_001
    with pytest.raises(UnknownToken):
        await authenticate(services.authenticator, user)
    assert services.authenticator.cached(user.token or "") is None


async def test_expiry_ends_trust_early(api: Api, services: AccountServices) -> None:
    user = await api.login((await api.register()).user_id, refresh_token=True)
    services.clock.ms += 299_000
    await authenticate(services.authenticator, user)
    assert services.authenticator.cached(user.token or "") is not None
    services.clock.ms += 1_001
    assert services.authenticator.cached(user.token or "") is None


async def test_a_token_that_ends_while_it_is_looked_up_is_not_kept(
    api: Api, services: AccountServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await api.register()
    read, go_on = asyncio.Event(), asyncio.Event()
    fetch = module.access_tokens.fetch_by_access_token

    async def slow_fetch(pool: Pool, digest: bytes) -> TokenRow | None:
        row = await fetch(pool, digest)
        read.set()
        await go_on.wait()
        return row

    monkeypatch.setattr(module.access_tokens, "fetch_by_access_token", slow_fetch)
    looking = asyncio.ensure_future(authenticate(services.authenticator, user))
    await read.wait()
    monkeypatch.undo()
    requester = await authenticate(services.authenticator, user)
    await services.sessions.log_out(requester)
    go_on.set()
    await looking
    with refused(401, "M_UNKNOWN_TOKEN"):
        await user.get("/v3/account/whoami")


async def test_the_cache_is_bounded(api: Api, services: AccountServices) -> None:
    small = Authenticator(services.pool, services.last_seen, cache_bytes=0, clock=services.clock)
    users = [await api.register() for _ in range(20)]
    for user in users:
        await authenticate(small, user)
    known = [user for user in users if small.cached(user.token or "")]
    assert known == users[4:]
    assert small.size_bytes == 16 * module.ENTRY_BYTES


@pytest.mark.parametrize("token", ["", "x", "x" * 5000, "\udcff", "vat_ключ", "a\x00b"])
async def test_garbage_is_an_unknown_token(services: AccountServices, token: str) -> None:
    with pytest.raises(UnknownToken):
        await services.authenticator.authenticate(token, "127.0.0.1", "")
