"""Making accounts. Source: Client-Server API, "Account registration"."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from homeserver.accounts.passwords import Passwords
from homeserver.accounts.rate_limits import RateLimits
from homeserver.accounts.sessions import DeviceWish, Session, Sessions
from homeserver.accounts.user_interactive import DUMMY, REGISTRATION_TOKEN, Attempt, Flows
from homeserver.accounts.usernames import UserInUse, localpart_of, new_user_id, random_user_id
from homeserver.clock import Clock, now_ms
from homeserver.config.people import RegistrationConfig
from homeserver.errors import Forbidden, MissingParam
from homeserver.requester import Requester
from homeserver.storage import accounts
from homeserver.storage.connection import Pool

RANDOM_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Registered:
    """A new account, and the session of its first device unless that was inhibited."""

    user_id: str
    user_nid: int
    session: Session | None


@dataclass(frozen=True, slots=True)
class Registration:
    """Registration as configured. `reserved_localparts` belong to the node itself."""

    pool: Pool
    config: RegistrationConfig
    server_name: str
    reserved_localparts: frozenset[str]
    passwords: Passwords
    sessions: Sessions
    limits: RateLimits
    clock: Clock = now_ms

    def flows(self) -> Flows:
        """What people have to do to register. Raises Forbidden where they cannot."""
        if self.config.mode == "closed":
            raise Forbidden("Registration is closed: ask this server's administrator for an account")
        return ((REGISTRATION_TOKEN,),) if self.config.mode == "token" else ((DUMMY,),)

    async def check_username(self, username: str) -> None:
        """Raise InvalidUsername or UserInUse if nobody can register that name."""
        user_id = self._new_user_id(username)
        if await accounts.account_exists(self.pool, user_id):
            raise UserInUse("This user name is taken: choose another")

    def is_valid_token(self, token: str) -> bool:
        """Whether a registration token is one of the configured ones."""
        return any(
            hmac.compare_digest(token.encode(errors="replace"), known.encode())
            for known in self.config.tokens
        )

    async def token_stage(self, attempt: Attempt) -> None:
        """`m.login.registration_token`. Raises Forbidden, MissingParam, LimitExceeded."""
        token = attempt.auth.get("token")
        if not isinstance(token, str):
            raise MissingParam("'token' is required: the registration token")
        self.limits.peek("login_failed", attempt.address)
        if not self.is_valid_token(token):
            self.limits.spend("login_failed", attempt.address)
            raise Forbidden("This is not a valid registration token")

    async def register(
        self,
        username: str | None,
        password: str | None,
        wish: DeviceWish | None,
        *,
        is_admin: bool = False,
        user_type: str | None = None,
    ) -> Registered:
        """Make an account, and log its first device in unless ``wish`` is None.

        Whoever calls has checked that it is allowed. Raises InvalidUsername, UserInUse, WeakPassword.
        """
        user_id = None if username is None else self._new_user_id(username)
        password_hash = None
        if password is not None:
            self.passwords.check_strength(password)
            password_hash = await self.passwords.hash(password)
        return await self._insert(user_id, password_hash, wish, is_admin=is_admin, user_type=user_type)

    async def register_guest(self, display_name: str | None) -> Registered:
        """Make a guest account with a device that the node picks. Raises Forbidden if there are no guests."""
        if not self.config.guests:
            raise Forbidden("This server does not let guests in")
        return await self._insert(None, None, DeviceWish(display_name=display_name), is_guest=True)

    async def upgrade_guest(
        self, guest: Requester, username: str | None, password: str, wish: DeviceWish | None
    ) -> Registered:
        """Make a guest a user ("Guest Access"). Raises Forbidden, WeakPassword."""
        if not guest.is_guest or username is None or self._new_user_id(username) != guest.user_id:
            raise Forbidden("To keep a guest's account, register with its access token and user name")
        self.passwords.check_strength(password)
        password_hash = await self.passwords.hash(password)
        if not await accounts.upgrade_guest(self.pool, guest.user_nid, password_hash):
            raise Forbidden("This account is no guest's any more: log in")
        await self.sessions.log_out_everywhere(guest.user_id, guest.user_nid)
        session = None if wish is None else await self.sessions.log_in(guest.user_nid, guest.user_id, wish)
        return Registered(guest.user_id, guest.user_nid, session)

    def _new_user_id(self, username: str) -> str:
        user_id = new_user_id(username, self.server_name)
        if localpart_of(user_id) in self.reserved_localparts:
            raise UserInUse("This user name belongs to the server: choose another")
        return user_id

    async def _insert(
        self,
        wanted: str | None,
        password_hash: str | None,
        wish: DeviceWish | None,
        *,
        is_admin: bool = False,
        is_guest: bool = False,
        user_type: str | None = None,
    ) -> Registered:
        device, tokens = self.sessions.prepare(wish) if wish is not None else (None, None)
        for _ in range(1 if wanted else RANDOM_ATTEMPTS):
            user_id = wanted or random_user_id(self.server_name)
            user_nid = await accounts.insert_account(
                self.pool,
                user_id,
                self.clock(),
                password_hash,
                is_admin=is_admin,
                is_guest=is_guest,
                user_type=user_type,
                displayname=localpart_of(user_id) if self.config.display_names else None,
                device=device,
            )
            if user_nid is not None:
                session = Session(user_id, device.device_id, tokens) if device and tokens else None
                return Registered(user_id, user_nid, session)
        raise UserInUse("This user name is taken: choose another")
