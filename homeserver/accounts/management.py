"""What users do with their own accounts: change the password, deactivate.

Source: Client-Server API, "Password management", "Account deactivation".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from homeserver.accounts.authenticator import Authenticator
from homeserver.accounts.passwords import Passwords
from homeserver.accounts.profiles import Profiles
from homeserver.accounts.sessions import TellOfDevices
from homeserver.errors import MatrixError
from homeserver.requester import Requester
from homeserver.storage import accounts, delayed_events, devices, key_backup, proof_tokens
from homeserver.storage.connection import Pool

log = structlog.get_logger()

LeaveAll = Callable[[str], Awaitable[None]]
"""Lets a user leave all rooms and turn down all invites and knocks; repeating it does no harm."""


async def replace_password(
    pool: Pool,
    passwords: Passwords,
    user_nid: int,
    new_password: str,
    *,
    logout_devices: bool,
    but_device_nid: int = 0,
) -> None:
    """Set a user's password; with ``logout_devices`` delete their devices but one (0 spares none).

    Raises WeakPassword, InvalidParam.
    """
    passwords.check_strength(new_password)
    password_hash = await passwords.hash(new_password)
    async with pool.acquire() as connection, connection.transaction():
        await accounts.set_password_hash(connection, user_nid, password_hash)
        await proof_tokens.delete_tokens(connection, user_nid)
        if logout_devices:
            await devices.delete_other_devices(connection, user_nid, but_device_nid)


@dataclass(frozen=True, slots=True)
class AccountManagement:
    """Passwords and ends of accounts."""

    pool: Pool
    passwords: Passwords
    authenticator: Authenticator
    profiles: Profiles
    leave_all: LeaveAll
    tell_of_devices: TellOfDevices
    erased: set[str] = field(default_factory=set)
    """User ids of those whose content is erased, for whoever shows content."""

    async def read_erased(self) -> None:
        """Fill ``erased``: called before the node serves."""
        self.erased.update(await accounts.fetch_erased(self.pool))

    async def change_password(self, requester: Requester, new_password: str, *, logout_devices: bool) -> None:
        """Set the requester's password; with ``logout_devices`` end all their other devices.

        Raises WeakPassword, InvalidParam.
        """
        await replace_password(
            self.pool,
            self.passwords,
            requester.user_nid,
            new_password,
            logout_devices=logout_devices,
            but_device_nid=requester.device_nid,
        )
        self.authenticator.forget_user(requester.user_nid)
        await self.tell_of_devices(requester.user_id, requester.user_nid)

    async def deactivate(self, user_nid: int, user_id: str, *, erase: bool) -> None:
        """End an account for good: no login, no devices, no rooms. The user id stays taken.

        With ``erase`` profile and account data go, and newcomers to the rooms are served redacted events.
        """
        async with self.pool.acquire() as connection, connection.transaction():
            await accounts.deactivate(connection, user_nid, erase)
            await proof_tokens.delete_tokens(connection, user_nid)
            await devices.delete_other_devices(connection, user_nid, 0)
            await key_backup.delete_backups(connection, user_nid)
            await delayed_events.delete_of_user(connection, user_nid)
            if erase:
                await self.profiles.clear(connection, user_nid)
        if erase:
            self.erased.add(user_id)
        self.authenticator.forget_user(user_nid)
        await self.tell_of_devices(user_id, user_nid)  # while they still share rooms
        await self._depart(user_id)

    async def resume_departures(self) -> None:
        """Go on with what a stop interrupted: called once the node has started."""
        for user_id in await accounts.fetch_departing(self.pool):
            await self._depart(user_id)

    async def _depart(self, user_id: str) -> None:
        """Leave all rooms. A failure is logged and tried again at the next start: the account has ended."""
        try:
            await self.leave_all(user_id)
        except MatrixError as error:
            log.warning("deactivated user could not leave all rooms", user_id=user_id, error=error.message)
        except Exception:
            log.exception("deactivated user could not leave all rooms", user_id=user_id)
        else:
            await accounts.set_departed(self.pool, user_id)
