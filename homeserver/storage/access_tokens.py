"""Access tokens and the refresh tokens handed out with them. Schema: migrations/0002_accounts.sql.

A row is one such pair. Refreshing makes a new row that names the old one as `previous`; the first use
of the new one revokes the old one, as Client-Server API, "Refreshing access tokens" has it.

Whoever changes tokens of a device has locked the device's row first, so that nobody waits for each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.storage.accounts import NewDevice, NewTokens
from homeserver.storage.connection import Connection, Pool, Row

_COLUMNS = """
t.nid, t.expires_ms, t.refresh_expires_ms, t.previous, t.is_revoked, d.nid AS device_nid, d.device_id,
a.user_nid, u.user_id, a.is_admin, a.is_guest, a.is_locked, a.is_suspended, a.is_deactivated
"""
_TABLES = """
devices d JOIN access_tokens t ON t.device_nid = d.nid JOIN accounts a ON a.user_nid = d.user_nid
JOIN users u ON u.nid = a.user_nid
"""
SELECT_BY_ACCESS_TOKEN = f"SELECT {_COLUMNS} FROM {_TABLES} WHERE t.access_digest = $1"
SELECT_BY_REFRESH_TOKEN = f"""
SELECT {_COLUMNS} FROM {_TABLES} WHERE t.refresh_digest = $1 FOR NO KEY UPDATE OF d FOR UPDATE OF t
"""
# An account that is being deactivated is waited for, and gets no session any more. Of a new device those are
# told who track the user's.
LOG_IN = """
WITH account AS (
    SELECT user_nid FROM accounts WHERE user_nid = $1 AND NOT is_deactivated FOR SHARE
), device AS (
    INSERT INTO devices (user_nid, created_ms, device_id, display_name)
    SELECT user_nid, $2::bigint, $3::text, $4::text FROM account
    ON CONFLICT (user_nid, device_id) DO UPDATE SET device_id = EXCLUDED.device_id
    RETURNING nid, user_nid, device_id, xmax = 0 AS is_new
), replaced AS (
    DELETE FROM access_tokens WHERE device_nid = (SELECT nid FROM device)
), noted AS (
    INSERT INTO untold_devices (user_nid, device_id) SELECT user_nid, device_id FROM device WHERE is_new
    ON CONFLICT DO NOTHING
)
INSERT INTO access_tokens (device_nid, access_digest, expires_ms, refresh_digest, refresh_expires_ms)
SELECT nid, $5::bytea, $6::bigint, $7::bytea, $8::bigint FROM device RETURNING device_nid
"""
# Whatever else the device had are older rows, and newer ones that were never used.
REPLACE = """
WITH others AS (
    DELETE FROM access_tokens WHERE device_nid = $1 AND nid <> $2
), old AS (
    UPDATE access_tokens SET previous = NULL WHERE nid = $2
)
INSERT INTO access_tokens
    (device_nid, previous, access_digest, expires_ms, refresh_digest, refresh_expires_ms)
VALUES ($1, $2, $3, $4, $5, $6)
"""
REVOKE_PREVIOUS = """
WITH device AS (
    SELECT nid FROM devices WHERE nid = $1 FOR NO KEY UPDATE
)
UPDATE access_tokens t SET is_revoked = is_revoked OR t.nid = $3,
    previous = CASE WHEN t.nid = $2 THEN NULL ELSE previous END
FROM device WHERE t.device_nid = device.nid AND t.nid IN ($2, $3)
"""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A pair of tokens with its device and account. Times are None for never."""

    nid: int
    expires_ms: int | None
    refresh_expires_ms: int | None
    previous: int | None
    is_revoked: bool
    device_nid: int
    device_id: str
    user_nid: int
    user_id: str
    is_admin: bool
    is_guest: bool
    is_locked: bool
    is_suspended: bool
    is_deactivated: bool


async def fetch_by_access_token(database: Pool | Connection, digest: bytes) -> TokenRow | None:
    """What an access token stands for."""
    return _token(await database.fetchrow(SELECT_BY_ACCESS_TOKEN, digest))


async def lock_by_refresh_token(connection: Connection, digest: bytes) -> TokenRow | None:
    """What a refresh token stands for; locked, so that two refreshes take turns."""
    return _token(await connection.fetchrow(SELECT_BY_REFRESH_TOKEN, digest))


async def log_in(database: Pool | Connection, user_nid: int, now_ms: int, device: NewDevice) -> int | None:
    """Give a device of a user new tokens in place of all it had, making the device if it is new.

    Returns the device's number, or None if the account is deactivated.
    """
    tokens = device.tokens
    device_nid: int | None = await database.fetchval(
        LOG_IN,
        user_nid,
        now_ms,
        device.device_id,
        device.display_name,
        tokens.access_digest,
        tokens.expires_ms,
        tokens.refresh_digest,
        tokens.refresh_expires_ms,
    )
    return device_nid


async def replace(connection: Connection, old: TokenRow, tokens: NewTokens) -> None:
    """Add tokens that take over from ``old`` when they are first used."""
    await connection.execute(
        REPLACE,
        old.device_nid,
        old.nid,
        tokens.access_digest,
        tokens.expires_ms,
        tokens.refresh_digest,
        tokens.refresh_expires_ms,
    )


async def revoke_previous(database: Pool | Connection, device_nid: int, nid: int, previous: int) -> None:
    """The tokens ``nid`` of a device were used, so those that they replaced end."""
    await database.execute(REVOKE_PREVIOUS, device_nid, nid, previous)


def _token(row: Row | None) -> TokenRow | None:
    return TokenRow(*row) if row is not None else None
