"""What the command line does with accounts, beside a running node or without one.

A running node notices a reset password within `authenticator.TRUSTED_S`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from homeserver.accounts.management import replace_password
from homeserver.accounts.passwords import Passwords
from homeserver.accounts.usernames import UserInUse, known_user_id, localpart_of, new_user_id
from homeserver.clock import Clock, now_ms
from homeserver.errors import NotFound
from homeserver.storage import accounts
from homeserver.storage.accounts import AccountRow
from homeserver.storage.connection import Pool

PAGE = 500


@dataclass(frozen=True, slots=True)
class Administration:
    """Accounts, as the administrator of the node handles them; `display_names` is of [registration]."""

    pool: Pool
    server_name: str
    passwords: Passwords
    clock: Clock = now_ms
    display_names: bool = False

    async def create_user(self, username: str, password: str, *, is_admin: bool = False) -> str:
        """Make an account; returns its user id. Raises InvalidUsername, UserInUse, WeakPassword."""
        user_id = new_user_id(username, self.server_name)
        self.passwords.check_strength(password)
        password_hash = await self.passwords.hash(password)
        user_nid = await accounts.insert_account(
            self.pool,
            user_id,
            self.clock(),
            password_hash,
            is_admin=is_admin,
            displayname=localpart_of(user_id) if self.display_names else None,
        )
        if user_nid is None:
            raise UserInUse(f"{user_id} exists already")
        return user_id

    async def reset_password(self, user: str, password: str, *, logout_devices: bool = True) -> str:
        """Set the password of a user, given by user id or name; returns the user id.

        Raises NotFound (also for deactivated accounts), WeakPassword.
        """
        account = await self._account(user)
        await replace_password(
            self.pool, self.passwords, account.user_nid, password, logout_devices=logout_devices
        )
        return account.user_id

    async def set_admin(self, user: str, is_admin: bool) -> str:
        """Make a user an administrator, or end that; returns the user id. Raises NotFound."""
        account = await self._account(user)
        await accounts.set_admin(self.pool, account.user_nid, is_admin)
        return account.user_id

    async def list_users(self) -> AsyncIterator[AccountRow]:
        """All accounts, in the order of their user ids."""
        after = ""
        while page := await accounts.fetch_accounts(self.pool, after, PAGE):
            for account in page:
                yield account
            after = page[-1].user_id

    async def _account(self, user: str) -> AccountRow:
        user_id = known_user_id(user, self.server_name)
        account = await accounts.fetch_account(self.pool, user_id) if user_id else None
        if account is None or account.is_deactivated:
            raise NotFound(f"There is no user {user!r} on this server")
        return account
