"""Short-lived tokens by which a user proves something. Schema: migrations/0002_accounts.sql."""

from __future__ import annotations

from homeserver.storage.connection import Connection, Pool

LOGIN = "login"
OPENID = "openid"

# Each new token sweeps out some that have expired, so that the table stays as small as its use.
INSERT_TOKEN = """
WITH expired AS (
    DELETE FROM proof_tokens WHERE digest IN (
        SELECT digest FROM proof_tokens WHERE expires_ms < $5 ORDER BY expires_ms LIMIT 10
        FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO proof_tokens (digest, purpose, user_nid, expires_ms) VALUES ($1, $2, $3, $4)
"""
TAKE_TOKEN = "DELETE FROM proof_tokens WHERE digest = $1 AND purpose = $2 RETURNING user_nid, expires_ms"
SELECT_USER = """
SELECT u.user_id FROM proof_tokens p JOIN users u ON u.nid = p.user_nid JOIN accounts a ON a.user_nid = u.nid
WHERE p.digest = $1 AND p.purpose = $2 AND p.expires_ms > $3 AND NOT a.is_deactivated AND NOT a.is_locked
"""
DELETE_TOKENS = "DELETE FROM proof_tokens WHERE user_nid = $1"


async def insert_token(
    database: Pool | Connection, digest: bytes, purpose: str, user_nid: int, expires_ms: int, now_ms: int
) -> None:
    """Store a new token."""
    await database.execute(INSERT_TOKEN, digest, purpose, user_nid, expires_ms, now_ms)


async def take_token(database: Pool | Connection, digest: bytes, purpose: str, now_ms: int) -> int | None:
    """Use up a token: the number of its user, or None if it is unknown or has expired."""
    row = await database.fetchrow(TAKE_TOKEN, digest, purpose)
    if row is None or row["expires_ms"] <= now_ms:
        return None
    user_nid: int = row["user_nid"]
    return user_nid


async def fetch_user_id(database: Pool | Connection, digest: bytes, purpose: str, now_ms: int) -> str | None:
    """The user of a token that may be used again and again; None if unknown or expired."""
    user_id: str | None = await database.fetchval(SELECT_USER, digest, purpose, now_ms)
    return user_id


async def delete_tokens(database: Pool | Connection, user_nid: int) -> None:
    """End all such tokens of a user."""
    await database.execute(DELETE_TOKENS, user_nid)
