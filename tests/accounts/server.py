"""The accounts' services and routes served on loopback, with a clock that tests can move."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import asyncpg
import msgspec
from aiohttp import web

from homeserver.accounts.administration import Administration
from homeserver.accounts.authenticator import Authenticator
from homeserver.accounts.devices import Devices
from homeserver.accounts.discovery import Discovery
from homeserver.accounts.last_seen import LastSeen
from homeserver.accounts.login import Login
from homeserver.accounts.management import AccountManagement
from homeserver.accounts.moderation import Moderation
from homeserver.accounts.openid import OpenID
from homeserver.accounts.passwords import Passwords
from homeserver.accounts.profiles import Profiles
from homeserver.accounts.rate_limits import RateLimits
from homeserver.accounts.registration import Registration
from homeserver.accounts.sessions import Sessions
from homeserver.accounts.shared_secret import SharedSecretRegistration
from homeserver.accounts.user_interactive import (
    DUMMY,
    PASSWORD,
    REGISTRATION_TOKEN,
    UserInteractive,
    dummy_stage,
)
from homeserver.api.dispatch import Dispatcher
from homeserver.api.router import Router
from homeserver.api.routes_accounts import ROUTES
from homeserver.api.services import Services
from homeserver.config.sections import Config
from homeserver.storage.connection import Pool
from homeserver.storage.health import Health

SERVER_NAME = "veche.test"
SECRET = "a secret of the tests"
SETTINGS: dict[str, Any] = {
    "server": {"server_name": SERVER_NAME},
    "registration": {"mode": "open", "guests": True, "shared_secret": SECRET},
    "auth": {"argon2_time_cost": 1, "argon2_memory_kib": 8, "argon2_parallelism": 1},
    "rate_limits": {"enabled": False},
}


@dataclass
class Clock:
    """The time, in milliseconds, as far as tests have moved it on."""

    ms: int = 1_700_000_000_000

    def __call__(self) -> int:
        return self.ms

    def seconds(self) -> float:
        return self.ms / 1000


@dataclass
class AccountServices:
    """Those of a node's services that the accounts' routes use."""

    pool: Pool
    config: Config
    clock: Clock
    departures: list[str] = field(default_factory=list)
    leaving_fails: bool = False

    def __post_init__(self) -> None:
        pool, config, clock = self.pool, self.config, self.clock
        self.rate_limits = RateLimits(config.rate_limits, clock.seconds)
        self.last_seen = LastSeen(pool)
        self.authenticator = Authenticator(
            pool, self.last_seen, cache_bytes=1_000_000, clock=clock, monotonic=clock.seconds
        )
        self.passwords = Passwords(config.auth)
        self.sessions = Sessions(pool, config.auth, self.authenticator, self.tell_of_devices, clock)
        self.registration = Registration(
            pool,
            config.registration,
            config.server.server_name,
            frozenset({config.server_notices.localpart}),
            self.passwords,
            self.sessions,
            self.rate_limits,
            clock,
        )
        self.shared_secret = SharedSecretRegistration(
            config.registration.shared_secret, self.registration, self.rate_limits, clock
        )
        self.login = Login(
            pool,
            config.server.server_name,
            self.passwords,
            self.rate_limits,
            self.sessions,
            config.auth.login_token_lifetime_ms,
            clock,
        )
        self.user_interactive = UserInteractive(
            {
                DUMMY: dummy_stage,
                PASSWORD: self.login.password_stage,
                REGISTRATION_TOKEN: self.registration.token_stage,
            },
            config.auth.ui_auth_session_lifetime_ms,
            clock,
        )
        self.profiles = Profiles(pool)
        self.account_management = AccountManagement(
            pool, self.passwords, self.authenticator, self.profiles, self.leave_all, self.tell_of_devices
        )
        self.devices = Devices(pool, self.authenticator, self.last_seen, self.tell_of_devices)
        self.moderation = Moderation(pool, config.server.server_name, self.authenticator, self.last_seen)
        self.openid = OpenID(pool, config.auth.openid_token_lifetime_ms, clock)
        self.discovery = Discovery(config)
        self.health = Health(pool)
        self.administration = Administration(pool, config.server.server_name, self.passwords, clock)

    async def tell_of_devices(self, user_id: str, user_nid: int) -> None:
        """Stands for the device lists, which are above the accounts."""

    async def leave_all(self, user_id: str) -> None:
        """Stands for the rooms, which are above the accounts."""
        if self.leaving_fails:
            raise ConnectionError("the rooms cannot be reached")
        self.departures.append(user_id)


def make_config(settings: Mapping[str, Mapping[str, Any]]) -> Config:
    """The tests' configuration with other settings in some sections."""
    sections = {**SETTINGS, **{name: {**SETTINGS.get(name, {}), **new} for name, new in settings.items()}}
    return msgspec.convert(sections, Config)


@asynccontextmanager
async def serving(
    dsn: str, settings: Mapping[str, Mapping[str, Any]]
) -> AsyncIterator[tuple[AccountServices, str]]:
    """The services on a database, and the URL at which their routes are served."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=8) as pool:
        services = AccountServices(pool, make_config(settings), Clock())
        dispatcher = Dispatcher(
            Router(ROUTES),
            cast(Services, services),
            body_max_bytes=1_000_000,
            trusted_proxies=(),
            measure=lambda path, method, status, seconds: None,
        )
        runner = web.ServerRunner(web.Server(dispatcher.handle), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield services, f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
            services.passwords.close()
