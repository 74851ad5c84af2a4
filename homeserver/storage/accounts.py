"""Accounts of this node's users. Schema: migrations/0002_accounts.sql."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from homeserver.storage.connection import Connection, Pool, Row
from homeserver.storage.user_directory import words_of

LOCK_ACCOUNT = "SELECT user_nid FROM accounts WHERE user_nid = $1 FOR NO KEY UPDATE"
_COLUMNS = """
a.user_nid, u.user_id, a.created_ms, a.is_admin, a.is_guest, a.is_locked, a.is_suspended, a.is_deactivated,
a.user_type, a.password_hash
"""
SELECT_ACCOUNT = f"SELECT {_COLUMNS} FROM users u JOIN accounts a ON a.user_nid = u.nid WHERE u.user_id = $1"
SELECT_ACCOUNT_BY_NID = (
    f"SELECT {_COLUMNS} FROM users u JOIN accounts a ON a.user_nid = u.nid WHERE u.nid = $1"
)
SELECT_ACCOUNTS = f"""
SELECT {_COLUMNS} FROM users u JOIN accounts a ON a.user_nid = u.nid WHERE u.user_id > $1
ORDER BY u.user_id LIMIT $2
"""
ACCOUNT_EXISTS = (
    "SELECT EXISTS (SELECT FROM users u JOIN accounts a ON a.user_nid = u.nid WHERE u.user_id = $1)"
)
# The user may be known already, for example from an invite that came before the account.
INSERT_ACCOUNT = """
WITH new_user AS (
    INSERT INTO users (user_id) VALUES ($1)
    ON CONFLICT (user_id) DO UPDATE SET user_id = EXCLUDED.user_id RETURNING nid
), new_account AS (
    INSERT INTO accounts (user_nid, created_ms, password_hash, is_admin, is_guest, user_type)
    SELECT nid, $2::bigint, $3::text, $4::boolean, $5::boolean, $6::text FROM new_user
    ON CONFLICT DO NOTHING RETURNING user_nid
), new_device AS (
    INSERT INTO devices (user_nid, created_ms, device_id, display_name)
    SELECT user_nid, $2::bigint, $7::text, $8::text FROM new_account WHERE $7::text IS NOT NULL
    RETURNING nid
), new_token AS (
    INSERT INTO access_tokens (device_nid, access_digest, expires_ms, refresh_digest, refresh_expires_ms)
    SELECT nid, $9::bytea, $10::bigint, $11::bytea, $12::bigint FROM new_device
), new_profile AS (
    INSERT INTO profiles (user_nid, displayname)
    SELECT user_nid, $13::text FROM new_account WHERE $13::text IS NOT NULL
), new_words AS (
    INSERT INTO profile_words (user_nid, word) SELECT user_nid, unnest($14::text[]) FROM new_account
)
SELECT user_nid FROM new_account
"""
UPDATE_GUEST = """
UPDATE accounts SET is_guest = false, password_hash = $2
WHERE user_nid = $1 AND is_guest AND NOT is_deactivated
RETURNING user_nid
"""
UPDATE_PASSWORD = "UPDATE accounts SET password_hash = $2 WHERE user_nid = $1 AND NOT is_deactivated"
REHASH_PASSWORD = "UPDATE accounts SET password_hash = $3 WHERE user_nid = $1 AND password_hash = $2"
UPDATE_LOCKED = "UPDATE accounts SET is_locked = $2 WHERE user_nid = $1"
UPDATE_SUSPENDED = "UPDATE accounts SET is_suspended = $2 WHERE user_nid = $1"
UPDATE_ADMIN = "UPDATE accounts SET is_admin = $2 WHERE user_nid = $1"
DEACTIVATE = """
UPDATE accounts SET is_deactivated = true, is_departing = true, is_admin = false, password_hash = NULL,
    is_erased = is_erased OR $2
WHERE user_nid = $1
"""
DELETE_ACCOUNT_DATA = "DELETE FROM account_data WHERE user_nid = $1"
SELECT_GUESTS = """
SELECT user_id FROM accounts JOIN users ON users.nid = user_nid
WHERE is_guest AND user_id = ANY($1::text[])
"""
SELECT_ERASED = "SELECT u.user_id FROM accounts a JOIN users u ON u.nid = a.user_nid WHERE a.is_erased"
SELECT_DEPARTING = """
SELECT u.user_id FROM accounts a JOIN users u ON u.nid = a.user_nid WHERE a.is_departing ORDER BY u.nid
"""
UPDATE_DEPARTED = """
UPDATE accounts SET is_departing = false FROM users WHERE users.nid = user_nid AND user_id = $1
"""


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One account."""

    user_nid: int
    user_id: str
    created_ms: int
    is_admin: bool
    is_guest: bool
    is_locked: bool
    is_suspended: bool
    is_deactivated: bool
    user_type: str | None
    password_hash: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTokens:
    """Digests of the tokens of a new session. No `expires_ms` is never; `refresh_digest` may be missing."""

    access_digest: bytes
    expires_ms: int | None = None
    refresh_digest: bytes | None = None
    refresh_expires_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDevice:
    """A device to log in. `display_name` counts only where the device is new."""

    device_id: str
    display_name: str | None
    tokens: NewTokens


async def lock_account(connection: Connection, user_nid: int) -> None:
    """Let others who call this for the user wait until the transaction ends."""
    await connection.execute(LOCK_ACCOUNT, user_nid)


async def fetch_account(database: Pool | Connection, user_id: str) -> AccountRow | None:
    """The account of a user of this node."""
    return _account(await database.fetchrow(SELECT_ACCOUNT, user_id))


async def fetch_account_by_nid(database: Pool | Connection, user_nid: int) -> AccountRow | None:
    """As `fetch_account`, by the user's number."""
    return _account(await database.fetchrow(SELECT_ACCOUNT_BY_NID, user_nid))


async def fetch_accounts(database: Pool | Connection, after: str, limit: int) -> list[AccountRow]:
    """Accounts in the order of their user ids, from beyond ``after``."""
    return [AccountRow(*row) for row in await database.fetch(SELECT_ACCOUNTS, after, limit)]


async def account_exists(database: Pool | Connection, user_id: str) -> bool:
    """Whether the user id is taken; those of deactivated accounts stay taken."""
    return bool(await database.fetchval(ACCOUNT_EXISTS, user_id))


async def insert_account(
    database: Pool | Connection,
    user_id: str,
    created_ms: int,
    password_hash: str | None,
    *,
    is_admin: bool = False,
    is_guest: bool = False,
    user_type: str | None = None,
    displayname: str | None = None,
    device: NewDevice | None = None,
) -> int | None:
    """Make an account, a profile if it has a name, and a device with its tokens if one is given, in one round
    trip.

    Returns the user's number, or None if the user id is taken.
    """
    tokens = device.tokens if device else None
    user_nid: int | None = await database.fetchval(
        INSERT_ACCOUNT,
        user_id,
        created_ms,
        password_hash,
        is_admin,
        is_guest,
        user_type,
        device.device_id if device else None,
        device.display_name if device else None,
        tokens.access_digest if tokens else None,
        tokens.expires_ms if tokens else None,
        tokens.refresh_digest if tokens else None,
        tokens.refresh_expires_ms if tokens else None,
        displayname,
        words_of(displayname) if displayname else [],
    )
    return user_nid


async def upgrade_guest(database: Pool | Connection, user_nid: int, password_hash: str) -> bool:
    """Make a guest a user with a password; False if the account is no guest any more."""
    return await database.fetchval(UPDATE_GUEST, user_nid, password_hash) is not None


async def set_password_hash(database: Pool | Connection, user_nid: int, password_hash: str) -> None:
    """Replace the password, unless the account is deactivated."""
    await database.execute(UPDATE_PASSWORD, user_nid, password_hash)


async def rehash_password(database: Pool | Connection, user_nid: int, old_hash: str, new_hash: str) -> None:
    """Replace the hash of the same password; nothing happens if the password has changed meanwhile."""
    await database.execute(REHASH_PASSWORD, user_nid, old_hash, new_hash)


async def set_locked(database: Pool | Connection, user_nid: int, locked: bool) -> None:
    """Lock or unlock."""
    await database.execute(UPDATE_LOCKED, user_nid, locked)


async def set_suspended(database: Pool | Connection, user_nid: int, suspended: bool) -> None:
    """Suspend, or end that."""
    await database.execute(UPDATE_SUSPENDED, user_nid, suspended)


async def set_admin(database: Pool | Connection, user_nid: int, admin: bool) -> None:
    """Make an administrator, or end that."""
    await database.execute(UPDATE_ADMIN, user_nid, admin)


async def deactivate(connection: Connection, user_nid: int, erase: bool) -> None:
    """Mark as deactivated, and as departing until `set_departed`; the password is forgotten.

    With ``erase`` the global and rooms' account data go too.
    """
    await connection.execute(DEACTIVATE, user_nid, erase)
    if erase:
        await connection.execute(DELETE_ACCOUNT_DATA, user_nid)


async def fetch_erased(database: Pool | Connection) -> list[str]:
    """User ids of those whose content was to be erased with their account."""
    return [row["user_id"] for row in await database.fetch(SELECT_ERASED)]


async def fetch_departing(database: Pool | Connection) -> list[str]:
    """User ids of deactivated accounts that have rooms still to leave."""
    return [row["user_id"] for row in await database.fetch(SELECT_DEPARTING)]


async def set_departed(database: Pool | Connection, user_id: str) -> None:
    """A deactivated account has left its rooms."""
    await database.execute(UPDATE_DEPARTED, user_id)


async def fetch_guests(database: Pool | Connection, user_ids: Collection[str]) -> list[str]:
    """Those of the users who are guests."""
    return [row["user_id"] for row in await database.fetch(SELECT_GUESTS, list(user_ids))]


def _account(row: Row | None) -> AccountRow | None:
    return AccountRow(*row) if row is not None else None
