"""Tokens by which users prove to third parties who they are. Source: Client-Server API, "OpenID"."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from homeserver.accounts.authenticator import token_digest
from homeserver.accounts.sessions import TOKEN_BYTES
from homeserver.clock import Clock, now_ms
from homeserver.requester import Requester
from homeserver.storage import proof_tokens
from homeserver.storage.connection import Pool


@dataclass(frozen=True, slots=True)
class OpenID:
    """OpenID tokens; they open nothing else."""

    pool: Pool
    lifetime_ms: int
    clock: Clock = now_ms

    async def make_token(self, requester: Requester) -> str:
        """A token that names the requester to whoever has it, for `lifetime_ms`."""
        token = f"vot_{secrets.token_urlsafe(TOKEN_BYTES)}"
        now = self.clock()
        await proof_tokens.insert_token(
            self.pool,
            token_digest(token),
            proof_tokens.OPENID,
            requester.user_nid,
            now + self.lifetime_ms,
            now,
        )
        return token

    async def user_of(self, token: str) -> str | None:
        """The user whom a token names; None if it is unknown or has expired."""
        return await proof_tokens.fetch_user_id(
            self.pool, token_digest(token), proof_tokens.OPENID, self.clock()
        )
