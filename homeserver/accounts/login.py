"""Logging in, by password or by a token from another device. Source: Client-Server API, "Login"."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from federation.event import JsonObject
from homeserver.accounts.authenticator import token_digest
from homeserver.accounts.passwords import Passwords
from homeserver.accounts.rate_limits import RateLimits
from homeserver.accounts.sessions import TOKEN_BYTES, DeviceWish, Session, Sessions
from homeserver.accounts.user_interactive import Attempt, WrongUser
from homeserver.accounts.usernames import known_user_id
from homeserver.clock import Clock, now_ms
from homeserver.errors import BadJson, Forbidden, MissingParam, UserDeactivated, UserLocked
from homeserver.requester import Requester
from homeserver.storage import accounts, proof_tokens
from homeserver.storage.accounts import AccountRow
from homeserver.storage.connection import Pool

WRONG = "Wrong user name or password"


def identified_user(body: JsonObject) -> str:
    """What a client gives as its user id or name: `identifier`, or the older `user`.

    Raises MissingParam, BadJson, and Forbidden for third-party identifiers, of which this node has none
    ("In the case that the homeserver does not know about the supplied 3PID … 403 Forbidden").
    """
    identifier = body.get("identifier")
    if identifier is None:
        identifier = {"type": "m.id.user", "user": body.get("user")}
        if body.get("user") is None and (body.get("medium") is not None or body.get("address") is not None):
            identifier = {"type": "m.id.thirdparty"}
    if not isinstance(identifier, dict):
        raise BadJson("'identifier' must be an object")
    if identifier.get("type") in ("m.id.thirdparty", "m.id.phone"):
        raise Forbidden("Log in with your user name: this server knows no e-mail addresses or phone numbers")
    if identifier.get("type") != "m.id.user":
        raise BadJson("'identifier.type' must be m.id.user")
    user = identifier.get("user")
    if user is None:
        raise MissingParam("'identifier.user' is required: a user id or user name")
    if not isinstance(user, str) or "\x00" in user or len(user) > 512:
        raise BadJson("'identifier.user' must be a user id or user name")
    return user


@dataclass(frozen=True, slots=True)
class Login:
    """Who may log in, and how often they may try."""

    pool: Pool
    server_name: str
    passwords: Passwords
    limits: RateLimits
    sessions: Sessions
    login_token_lifetime_ms: int
    clock: Clock = now_ms

    async def by_password(self, user: str, password: str, wish: DeviceWish, address: str) -> Session:
        """`m.login.password`. ``user`` is a user id or a localpart.

        Raises Forbidden, UserDeactivated, UserLocked, LimitExceeded.
        """
        self.limits.check("login_address", address)
        user_id = known_user_id(user, self.server_name)
        if user_id is None:
            raise Forbidden("This user belongs to another server: log in there")
        self.limits.check("login_account", user_id)
        account = await self._verified(user_id, password)
        return await self.sessions.log_in(account.user_nid, account.user_id, wish)

    async def by_token(self, token: str, wish: DeviceWish, address: str) -> Session:
        """`m.login.token`, which uses the token up. Raises as `by_password` does."""
        self.limits.check("login_address", address)
        user_nid = await proof_tokens.take_token(
            self.pool, token_digest(token), proof_tokens.LOGIN, self.clock()
        )
        account = None if user_nid is None else await accounts.fetch_account_by_nid(self.pool, user_nid)
        if account is None:
            raise Forbidden("The login token is unknown, used or has expired")
        _check_usable(account)
        return await self.sessions.log_in(account.user_nid, account.user_id, wish)

    async def make_token(self, requester: Requester) -> str:
        """A token that logs one further device of the requester in. Raises LimitExceeded."""
        self.limits.check("login_account", requester.user_id)
        token = f"vlt_{secrets.token_urlsafe(TOKEN_BYTES)}"
        now = self.clock()
        await proof_tokens.insert_token(
            self.pool,
            token_digest(token),
            proof_tokens.LOGIN,
            requester.user_nid,
            now + self.login_token_lifetime_ms,
            now,
        )
        return token

    async def password_stage(self, attempt: Attempt) -> None:
        """`m.login.password` as a stage: the requester's own password.

        Raises WrongUser, Forbidden, LimitExceeded.
        """
        requester = attempt.requester
        if requester is None:
            raise Forbidden("Log in first")
        if "identifier" in attempt.auth or "user" in attempt.auth:
            user_id = known_user_id(identified_user(attempt.auth), self.server_name)
            if user_id != requester.user_id:
                raise WrongUser("This must be confirmed by the user whom it concerns")
        password = attempt.auth.get("password")
        if not isinstance(password, str):
            raise MissingParam("'password' is required")
        await self._verified(requester.user_id, password)

    async def _verified(self, user_id: str, password: str) -> AccountRow:
        """The account whose password this is; a hash with outdated parameters is replaced.

        Raises Forbidden, UserDeactivated, UserLocked, and LimitExceeded after too many wrong passwords.
        """
        self.limits.peek("login_failed", user_id)
        account = await accounts.fetch_account(self.pool, user_id)
        password_hash = account.password_hash if account else None
        matches = await self.passwords.verify(password_hash, password)
        if account is not None and account.is_deactivated:
            raise UserDeactivated("This account has been deactivated")
        if account is None or password_hash is None or not matches:
            self.limits.spend("login_failed", user_id)
            raise Forbidden(WRONG)
        _check_usable(account)
        if self.passwords.needs_rehash(password_hash):
            new_hash = await self.passwords.hash(password)
            await accounts.rehash_password(self.pool, account.user_nid, password_hash, new_hash)
        return account


def _check_usable(account: AccountRow) -> None:
    """Raise UserDeactivated or UserLocked for accounts that may not log in."""
    if account.is_deactivated:
        raise UserDeactivated("This account has been deactivated")
    if account.is_locked:
        raise UserLocked("This account has been locked", soft_logout=True)
