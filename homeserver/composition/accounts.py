"""Users: how they log in, and what they keep on the node."""

from __future__ import annotations

from homeserver.accounts.account_data import AccountData
from homeserver.accounts.authenticator import Authenticator
from homeserver.accounts.devices import Devices
from homeserver.accounts.discovery import Discovery
from homeserver.accounts.filters import Filters
from homeserver.accounts.last_seen import LastSeen
from homeserver.accounts.login import Login
from homeserver.accounts.moderation import Moderation
from homeserver.accounts.openid import OpenID
from homeserver.accounts.passwords import Passwords
from homeserver.accounts.profiles import Profiles
from homeserver.accounts.push_rules import PushRules
from homeserver.accounts.rate_limits import RateLimits
from homeserver.accounts.registration import Registration
from homeserver.accounts.sessions import Sessions
from homeserver.accounts.shared_secret import SharedSecretRegistration
from homeserver.accounts.tags import Tags
from homeserver.accounts.turn_servers import TurnServers
from homeserver.accounts.user_interactive import (
    DUMMY,
    PASSWORD,
    REGISTRATION_TOKEN,
    UserInteractive,
    dummy_stage,
)
from homeserver.composition.encryption import Encryption
from homeserver.composition.engine import Engine


class Accounts:
    """Other users are told of devices that come and go, so this stands on `Encryption`."""

    def __init__(self, engine: Engine, encryption: Encryption) -> None:
        pool, log, server_name, config = engine.pool, engine.log, engine.server_name, engine.config
        cache_bytes = config.limits.account_cache_bytes
        eighth = cache_bytes // 8  # filters have two caches of this size
        tell_of_devices = encryption.lists.tell_of_devices
        self.last_seen = LastSeen(pool)
        self.rate_limits = RateLimits(config.rate_limits)
        self.authenticator = Authenticator(pool, self.last_seen, cache_bytes=cache_bytes // 2)
        self.passwords = Passwords(config.auth)
        self.sessions = Sessions(pool, config.auth, self.authenticator, tell_of_devices)
        self.registration = Registration(
            pool,
            config.registration,
            server_name,
            frozenset({config.server_notices.localpart}),
            self.passwords,
            self.sessions,
            self.rate_limits,
        )
        self.shared_secret = SharedSecretRegistration(
            config.registration.shared_secret, self.registration, self.rate_limits
        )
        self.login = Login(
            pool,
            server_name,
            self.passwords,
            self.rate_limits,
            self.sessions,
            config.auth.login_token_lifetime_ms,
        )
        self.user_interactive = UserInteractive(
            {
                DUMMY: dummy_stage,
                PASSWORD: self.login.password_stage,
                REGISTRATION_TOKEN: self.registration.token_stage,
            },
            config.auth.ui_auth_session_lifetime_ms,
        )
        self.devices = Devices(pool, self.authenticator, self.last_seen, tell_of_devices)
        self.moderation = Moderation(pool, server_name, self.authenticator, self.last_seen)
        self.openid = OpenID(pool, config.auth.openid_token_lifetime_ms)
        self.discovery = Discovery(config)
        self.turn_servers = TurnServers(config.voip)

        self.erased_users: set[str] = set()  # who had all that they wrote erased

        self.profiles = Profiles(pool)
        self.push_rules = PushRules(pool, log, cache_bytes=eighth)
        self.account_data = AccountData(pool, log, cache_bytes=eighth)
        self.tags = Tags(pool, log, self.account_data)
        self.filters = Filters(pool, cache_bytes=eighth)
