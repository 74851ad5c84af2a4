"""From an access token to who makes the request.

`Authenticator.cached` is on the path of every request, so it is one dictionary look-up by the token's
text. An entry is trusted for TRUSTED_S; then `authenticate` asks the database again, which is when the
device is noted as seen, and which bounds how long another process's logout can go unnoticed here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from hashlib import sha256

from homeserver.accounts.last_seen import LastSeen
from homeserver.clock import Clock, now_ms
from homeserver.errors import UnknownToken, UserLocked
from homeserver.requester import Requester
from homeserver.storage import access_tokens
from homeserver.storage.access_tokens import TokenRow
from homeserver.storage.connection import Pool

TRUSTED_S = 180.0
ENTRY_BYTES = 800  # about: 670 measured for requester, entry, sighting and slots, and the token itself
TOKEN_LENGTH_MAX = 200


def token_digest(token: str) -> bytes:
    """What is stored of a token: its SHA-256."""
    return sha256(token.encode(errors="surrogatepass")).digest()


class _Entry:
    __slots__ = ("requester", "trusted_until_s")

    def __init__(self, requester: Requester, trusted_until_s: float) -> None:
        self.requester = requester
        self.trusted_until_s = trusted_until_s


class Authenticator:
    """The access tokens in use, in memory; the others in the database.

    Whoever ends tokens or changes accounts calls `forget_user` or `forget_devices` after the commit.
    """

    def __init__(
        self,
        pool: Pool,
        last_seen: LastSeen,
        *,
        cache_bytes: int,
        clock: Clock = now_ms,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._last_seen = last_seen
        self._clock = clock
        self._monotonic = monotonic
        self._capacity = max(16, cache_bytes // ENTRY_BYTES)
        self._entries: dict[str, _Entry] = {}  # in the order in which the database was asked
        self._tokens_of_user: dict[int, tuple[str, ...]] = {}
        self._changes = 0  # how often something was forgotten

    @property
    def size_bytes(self) -> int:
        """About how much memory the known tokens take, for the metrics."""
        return len(self._entries) * ENTRY_BYTES

    def cached(self, token: str) -> Requester | None:
        """Who the token stands for, if that is known without asking the database."""
        entry = self._entries.get(token)
        if entry is None or entry.trusted_until_s < self._monotonic():
            return None
        return entry.requester

    async def authenticate(
        self, token: str, address: str, user_agent: str, *, while_locked: bool = False
    ) -> Requester:
        """Who the token stands for; notes that their device was seen.

        Raises UnknownToken, with `soft_logout` where the session goes on with other tokens, and
        UserLocked unless ``while_locked`` (logging out is what locked users may still do).
        """
        if len(token) > TOKEN_LENGTH_MAX:
            raise UnknownToken("Unknown access token: log in again", soft_logout=False)
        changes = self._changes
        row = await access_tokens.fetch_by_access_token(self._pool, token_digest(token))
        now = self._clock()
        if row is None or row.is_deactivated:
            self._drop(token)
            raise UnknownToken("Unknown access token: log in again", soft_logout=False)
        if row.is_revoked or (row.expires_ms is not None and row.expires_ms <= now):
            self._drop(token)
            raise UnknownToken("The access token has expired: refresh it, or log in again", soft_logout=True)
        if row.is_locked and not while_locked:
            self._drop(token)
            raise UserLocked("This account has been locked", soft_logout=True)
        if row.previous is not None:
            await self._take_over(row, row.previous)
        self._last_seen.note(row.device_nid, now, address, user_agent)
        requester = _requester(row)
        # What was forgotten while we asked may be what we just read.
        if changes == self._changes and not row.is_locked:
            self._keep(token, requester, row.expires_ms, now)
        return requester

    def forget_user(self, user_nid: int) -> None:
        """The user's account or tokens have changed: ask the database from now on."""
        self._changes += 1
        for token in self._tokens_of_user.pop(user_nid, ()):
            self._entries.pop(token, None)

    def forget_devices(self, user_nid: int, device_nids: Iterable[int]) -> None:
        """As `forget_user`, for some devices of a user."""
        gone = set(device_nids)
        self._changes += 1
        for token in self._tokens_of_user.get(user_nid, ()):
            entry = self._entries.get(token)
            if entry is not None and entry.requester.device_nid in gone:
                self._drop(token)

    async def _take_over(self, row: TokenRow, previous: int) -> None:
        """The first use of refreshed tokens ends those before them."""
        await access_tokens.revoke_previous(self._pool, row.device_nid, row.nid, previous)
        for token in self._tokens_of_user.get(row.user_nid, ()):
            entry = self._entries.get(token)
            if entry is not None and entry.requester.token_nid == previous:
                self._drop(token)

    def _keep(self, token: str, requester: Requester, expires_ms: int | None, now: int) -> None:
        trusted_s = TRUSTED_S if expires_ms is None else min(TRUSTED_S, (expires_ms - now) / 1000)
        self._drop(token)
        self._entries[token] = _Entry(requester, self._monotonic() + trusted_s)
        nid = requester.user_nid
        self._tokens_of_user[nid] = (*self._tokens_of_user.get(nid, ()), token)
        while len(self._entries) > self._capacity:
            self._drop(next(iter(self._entries)))

    def _drop(self, token: str) -> None:
        entry = self._entries.pop(token, None)
        if entry is None:
            return
        nid = entry.requester.user_nid
        rest = tuple(other for other in self._tokens_of_user.get(nid, ()) if other != token)
        if rest:
            self._tokens_of_user[nid] = rest
        else:
            self._tokens_of_user.pop(nid, None)


def _requester(row: TokenRow) -> Requester:
    return Requester(
        user_id=row.user_id,
        user_nid=row.user_nid,
        device_id=row.device_id,
        device_nid=row.device_nid,
        token_nid=row.nid,
        is_guest=row.is_guest,
        is_admin=row.is_admin,
        is_suspended=row.is_suspended,
    )
