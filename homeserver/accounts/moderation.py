"""What administrators of the node see of accounts, and do to them.

Source: Client-Server API, "Server Administration", "Account moderation".
"""

from __future__ import annotations

from dataclasses import dataclass

from federation.event import JsonObject
from homeserver.accounts.authenticator import Authenticator
from homeserver.accounts.last_seen import LastSeen
from homeserver.accounts.usernames import is_local
from homeserver.errors import Forbidden, InvalidParam, NotFound
from homeserver.requester import Requester
from homeserver.storage import accounts, devices
from homeserver.storage.accounts import AccountRow
from homeserver.storage.connection import Pool


@dataclass(frozen=True, slots=True)
class Moderation:
    """Locks, suspensions, and whois. Only administrators get as far as here, but for their own whois."""

    pool: Pool
    server_name: str
    authenticator: Authenticator
    last_seen: LastSeen

    async def whois(self, requester: Requester, user_id: str) -> JsonObject:
        """Devices and connections of a user, as `getWhoIs` answers. Raises Forbidden, NotFound."""
        if user_id != requester.user_id and not requester.is_admin:
            raise Forbidden("Only administrators of this server may look other users up")
        account = await accounts.fetch_account(self.pool, user_id)
        if account is None:
            raise NotFound("There is no such user on this server")
        described: JsonObject = {}
        for row in await devices.fetch_devices(self.pool, account.user_nid):
            seen = self.last_seen.of(row.nid)
            connection = {
                "ip": seen.address if seen else row.last_seen_address,
                "last_seen": seen.seen_ms if seen else row.last_seen_ms,
                "user_agent": seen.agent if seen else row.last_seen_agent,
            }
            known = {key: value for key, value in connection.items() if value is not None}
            described[row.device_id] = {"sessions": [{"connections": [known] if known else []}]}
        return {"user_id": user_id, "devices": described}

    async def is_locked(self, user_id: str) -> bool:
        """Raises InvalidParam, NotFound, Forbidden."""
        return (await self._target(user_id)).is_locked

    async def is_suspended(self, user_id: str) -> bool:
        """Raises InvalidParam, NotFound, Forbidden."""
        return (await self._target(user_id)).is_suspended

    async def set_locked(self, user_id: str, locked: bool) -> None:
        """Lock or unlock an account; its tokens stay. Raises InvalidParam, NotFound, Forbidden."""
        account = await self._target(user_id)
        await accounts.set_locked(self.pool, account.user_nid, locked)
        self.authenticator.forget_user(account.user_nid)

    async def set_suspended(self, user_id: str, suspended: bool) -> None:
        """Suspend an account, or end that. Raises InvalidParam, NotFound, Forbidden."""
        account = await self._target(user_id)
        await accounts.set_suspended(self.pool, account.user_nid, suspended)
        self.authenticator.forget_user(account.user_nid)

    async def _target(self, user_id: str) -> AccountRow:
        """The account to moderate. Forbidden for administrators' accounts, the requester's own included."""
        if not is_local(user_id, self.server_name):
            raise InvalidParam("The user does not belong to this server")
        account = await accounts.fetch_account(self.pool, user_id)
        if account is None or account.is_deactivated:
            raise NotFound("There is no such user on this server")
        if account.is_admin:
            raise Forbidden("Accounts of administrators cannot be moderated")
        return account
