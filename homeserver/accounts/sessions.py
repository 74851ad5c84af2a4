"""Logged-in devices: making their tokens, refreshing them, ending them.

Source: Client-Server API, "Using access tokens" to "Soft logout".
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from homeserver.accounts.authenticator import Authenticator, token_digest
from homeserver.clock import Clock, now_ms
from homeserver.config.people import AuthConfig
from homeserver.errors import InvalidParam, UnknownToken, UserDeactivated, UserLocked
from homeserver.requester import Requester
from homeserver.storage import access_tokens, devices
from homeserver.storage.accounts import NewDevice, NewTokens
from homeserver.storage.connection import Pool

TOKEN_BYTES = 32
DEVICE_ID_LENGTH = 10
DEVICE_ID_LENGTH_MAX = 255
DISPLAY_NAME_LENGTH_MAX = 256

TellOfDevices = Callable[[str, int], Awaitable[None]]
"""Tells those who encrypt for a user, given by id and number, that devices came, were deleted or renamed.

The table `untold_devices` names these; calling it where there are none does no harm, and it does not fail.
"""

_DEVICE_ID_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class DeviceWish:
    """What a client that logs in asks for: a device of its own or a new one, and tokens to refresh or not.

    Raises InvalidParam for identifiers and names that are too long.
    """

    device_id: str | None = None
    display_name: str | None = None
    refresh: bool = False

    def __post_init__(self) -> None:
        if self.device_id is not None and not 0 < len(self.device_id) <= DEVICE_ID_LENGTH_MAX:
            raise InvalidParam(f"A device_id has 1 to {DEVICE_ID_LENGTH_MAX} characters")
        if self.display_name is not None:
            check_display_name(self.display_name)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens for a client. `expires_in_ms` is the access token's lifetime; None is until it is logged out."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_in_ms: int | None


@dataclass(frozen=True, slots=True)
class Session:
    """A device that has been logged in."""

    user_id: str
    device_id: str
    tokens: Tokens


def check_display_name(name: str) -> None:
    """Raise InvalidParam for a device's name that is too long."""
    if len(name) > DISPLAY_NAME_LENGTH_MAX:
        raise InvalidParam(f"A device's name may have {DISPLAY_NAME_LENGTH_MAX} characters at most")


class Sessions:
    """The logged-in devices of all users."""

    def __init__(
        self,
        pool: Pool,
        config: AuthConfig,
        authenticator: Authenticator,
        tell_of_devices: TellOfDevices,
        clock: Clock = now_ms,
    ) -> None:
        self._pool = pool
        self._config = config
        self._authenticator = authenticator
        self._tell_of_devices = tell_of_devices
        self._clock = clock

    def prepare(self, wish: DeviceWish) -> tuple[NewDevice, Tokens]:
        """A device with new tokens, as they are stored and as the client gets them. Nothing is stored yet."""
        stored, tokens = self._new_tokens(wish.refresh)
        device_id = wish.device_id or "".join(
            secrets.choice(_DEVICE_ID_ALPHABET) for _ in range(DEVICE_ID_LENGTH)
        )
        return NewDevice(device_id=device_id, display_name=wish.display_name, tokens=stored), tokens

    async def log_in(self, user_nid: int, user_id: str, wish: DeviceWish) -> Session:
        """Log a device of a user in; a device that was logged in already loses the tokens it had.

        Raises UserDeactivated.
        """
        device, tokens = self.prepare(wish)
        device_nid = await access_tokens.log_in(self._pool, user_nid, self._clock(), device)
        if device_nid is None:
            raise UserDeactivated("This account has been deactivated")
        if wish.device_id is not None:
            self._authenticator.forget_devices(user_nid, (device_nid,))
        await self._tell_of_devices(user_id, user_nid)
        return Session(user_id, device.device_id, tokens)

    async def refresh(self, refresh_token: str) -> Tokens:
        """New tokens for the device of a refresh token, which stays valid until they are first used.

        Raises UnknownToken, with `soft_logout` where the device still exists, and UserLocked.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            old = await access_tokens.lock_by_refresh_token(connection, token_digest(refresh_token))
            if old is None or old.is_deactivated:
                raise UnknownToken("Unknown refresh token: log in again", soft_logout=False)
            if old.is_revoked:
                raise UnknownToken("The refresh token has been used already: log in again", soft_logout=True)
            if old.refresh_expires_ms is not None and old.refresh_expires_ms <= self._clock():
                raise UnknownToken("The refresh token has expired: log in again", soft_logout=True)
            if old.is_locked:
                raise UserLocked("This account has been locked", soft_logout=True)
            stored, tokens = self._new_tokens(refresh=True)
            await access_tokens.replace(connection, old, stored)
        return tokens

    async def log_out(self, requester: Requester) -> None:
        """Delete the requester's device with its tokens."""
        await devices.delete_devices(self._pool, requester.user_nid, (requester.device_id,))
        self._authenticator.forget_devices(requester.user_nid, (requester.device_nid,))
        await self._tell_of_devices(requester.user_id, requester.user_nid)

    async def log_out_everywhere(self, user_id: str, user_nid: int) -> None:
        """Delete all devices of a user with their tokens."""
        await devices.delete_other_devices(self._pool, user_nid, 0)
        self._authenticator.forget_user(user_nid)
        await self._tell_of_devices(user_id, user_nid)

    def _new_tokens(self, refresh: bool) -> tuple[NewTokens, Tokens]:
        config, now = self._config, self._clock()
        access_token = f"vat_{secrets.token_urlsafe(TOKEN_BYTES)}"
        if not refresh:
            lifetime = config.session_lifetime_ms
            expires_ms = None if lifetime is None else now + lifetime
            stored = NewTokens(access_digest=token_digest(access_token), expires_ms=expires_ms)
            return stored, Tokens(access_token, None, lifetime)
        refresh_token = f"vrt_{secrets.token_urlsafe(TOKEN_BYTES)}"
        lifetime = config.refresh_token_lifetime_ms
        stored = NewTokens(
            access_digest=token_digest(access_token),
            expires_ms=now + config.access_token_lifetime_ms,
            refresh_digest=token_digest(refresh_token),
            refresh_expires_ms=None if lifetime is None else now + lifetime,
        )
        return stored, Tokens(access_token, refresh_token, config.access_token_lifetime_ms)
