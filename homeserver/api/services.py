"""The services that handlers call, one field each. `homeserver.app` makes them."""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.accounts.authenticator import Authenticator
from homeserver.accounts.devices import Devices
from homeserver.accounts.discovery import Discovery
from homeserver.accounts.login import Login
from homeserver.accounts.management import AccountManagement
from homeserver.accounts.moderation import Moderation
from homeserver.accounts.openid import OpenID
from homeserver.accounts.rate_limits import RateLimits
from homeserver.accounts.registration import Registration
from homeserver.accounts.sessions import Sessions
from homeserver.accounts.shared_secret import SharedSecretRegistration
from homeserver.accounts.user_interactive import UserInteractive
from homeserver.storage.health import Health


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """All services of a node."""

    # What the dispatcher needs, and accounts
    authenticator: Authenticator
    rate_limits: RateLimits
    registration: Registration
    shared_secret: SharedSecretRegistration
    login: Login
    sessions: Sessions
    user_interactive: UserInteractive
    account_management: AccountManagement
    devices: Devices
    moderation: Moderation
    openid: OpenID
    discovery: Discovery
    health: Health
