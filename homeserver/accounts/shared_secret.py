"""Registration by whoever knows the node's shared secret: provisioning tools and load tests.

The protocol is that of Synapse's admin API, "Shared-Secret Registration", so that its tools work here: a
nonce is fetched, then a request is sent with an HMAC-SHA1 of nonce, user name, password and role.
"""

from __future__ import annotations

import hmac
import secrets

from homeserver.accounts.rate_limits import RateLimits
from homeserver.accounts.registration import Registered, Registration
from homeserver.accounts.sessions import DeviceWish
from homeserver.clock import Clock, now_ms
from homeserver.errors import Forbidden, Unknown

NONCE_LIFETIME_MS = 60_000
NONCES_MAX = 10_000


class SharedSecretRegistration:
    """Nonces, in memory, each good for one registration."""

    def __init__(
        self, secret: str | None, registration: Registration, limits: RateLimits, clock: Clock = now_ms
    ) -> None:
        """Without ``secret`` nobody can register this way."""
        self._secret = secret.encode() if secret else None
        self._registration = registration
        self._limits = limits
        self._clock = clock
        self._nonces: dict[str, int] = {}  # to the time at which they end, in order

    def make_nonce(self) -> str:
        """A nonce. Raises Unknown where shared-secret registration is not configured."""
        self._secret_or_refusal()
        now = self._clock()
        while self._nonces:
            oldest = next(iter(self._nonces))
            if len(self._nonces) < NONCES_MAX and self._nonces[oldest] > now:
                break
            del self._nonces[oldest]
        nonce = secrets.token_hex(32)
        self._nonces[nonce] = now + NONCE_LIFETIME_MS
        return nonce

    async def register(
        self,
        *,
        nonce: str,
        username: str,
        password: str,
        is_admin: bool,
        user_type: str | None,
        mac: str,
        address: str,
    ) -> Registered:
        """Register and log in. Raises Unknown (nonce), Forbidden (mac), LimitExceeded after wrong macs,
        InvalidUsername, UserInUse, WeakPassword.
        """
        secret = self._secret_or_refusal()
        self._limits.peek("login_failed", address)
        if self._nonces.pop(nonce, 0) <= self._clock():
            raise Unknown("The nonce is unknown, used or has expired: fetch a new one")
        parts = [nonce, username, password, "admin" if is_admin else "notadmin"]
        if user_type is not None:
            parts.append(user_type)
        expected = hmac.digest(secret, "\x00".join(parts).encode(errors="replace"), "sha1").hex()
        if not hmac.compare_digest(expected.encode(), mac.encode(errors="replace")):
            self._limits.spend("login_failed", address)
            raise Forbidden("The HMAC is wrong: check the shared secret")
        return await self._registration.register(
            username, password, DeviceWish(), is_admin=is_admin, user_type=user_type
        )

    def _secret_or_refusal(self) -> bytes:
        if self._secret is None:
            raise Unknown("Shared-secret registration is not enabled: set registration.shared_secret_file")
        return self._secret
