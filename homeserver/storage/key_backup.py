"""Backups of room keys and the sessions in them. Schema: migrations/0010_key_backup.sql.

Source: Client-Server API, "Server-side key backups".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeserver.storage.connection import Connection, Executor

SELECT_BACKUPS = """
SELECT version, etag, session_count, algorithm, auth_data FROM key_backups
WHERE user_nid = $1 AND NOT is_deleted ORDER BY version
"""
SELECT_NEWEST_VERSION = "SELECT coalesce(max(version), 0) FROM key_backups WHERE user_nid = $1"
INSERT_BACKUP = """
INSERT INTO key_backups (user_nid, version, algorithm, auth_data) VALUES ($1, $2, $3, $4)
"""
DELETE_TOMBSTONES = "DELETE FROM key_backups WHERE user_nid = $1 AND is_deleted AND version < $2"
UPDATE_AUTH_DATA = "UPDATE key_backups SET auth_data = $3 WHERE user_nid = $1 AND version = $2"
MARK_DELETED = """
UPDATE key_backups SET is_deleted = true, session_count = 0, auth_data = ''
WHERE user_nid = $1 AND version = $2
"""
DELETE_BACKUP = "DELETE FROM key_backups WHERE user_nid = $1 AND version = $2"
DELETE_BACKUPS_OF_USER = "DELETE FROM key_backups WHERE user_nid = $1"
COUNT_SESSIONS = "SELECT coalesce(sum(session_count), 0)::bigint FROM key_backups WHERE user_nid = $1"
ADD_TO_COUNT = """
UPDATE key_backups SET etag = etag + 1, session_count = session_count + $3
WHERE user_nid = $1 AND version = $2 RETURNING etag, session_count
"""
# "if the keys have different values for is_verified, then it will keep the key that has is_verified set to
# true; if they have the same values for is_verified, then it will keep the key with a lower
# first_message_index; and finally, if is_verified and first_message_index are equal, then it will keep the
# key with a lower forwarded_count."
UPSERT_SESSIONS = """
WITH stored AS (
    INSERT INTO key_backup_sessions AS known (user_nid, version, room_id, session_id, first_message_index,
        forwarded_count, is_verified, session_data)
    SELECT $1, $2, *
    FROM unnest($3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::boolean[], $8::bytea[])
    ON CONFLICT (user_nid, version, room_id, session_id) DO UPDATE SET
        first_message_index = excluded.first_message_index, forwarded_count = excluded.forwarded_count,
        is_verified = excluded.is_verified, session_data = excluded.session_data
    WHERE (excluded.is_verified, -excluded.first_message_index, -excluded.forwarded_count)
        > (known.is_verified, -known.first_message_index, -known.forwarded_count)
    RETURNING xmax = 0 AS is_new
)
SELECT count(*) FILTER (WHERE is_new), count(*) FROM stored
"""
SELECT_SESSIONS_PAGE = """
SELECT room_id, session_id, first_message_index, forwarded_count, is_verified, session_data
FROM key_backup_sessions WHERE user_nid = $1 AND version = $2 AND (room_id, session_id) > ($3, $4)
ORDER BY room_id, session_id LIMIT $5
"""
SELECT_ROOM_PAGE = """
SELECT room_id, session_id, first_message_index, forwarded_count, is_verified, session_data
FROM key_backup_sessions WHERE user_nid = $1 AND version = $2 AND room_id = $3 AND session_id > $4
ORDER BY session_id LIMIT $5
"""
SELECT_SESSION = """
SELECT room_id, session_id, first_message_index, forwarded_count, is_verified, session_data
FROM key_backup_sessions WHERE user_nid = $1 AND version = $2 AND room_id = $3 AND session_id = $4
"""
_DELETED = "WITH gone AS (DELETE FROM key_backup_sessions WHERE user_nid = $1 AND version = $2{} RETURNING 1)"
_COUNT = " SELECT count(*) FROM gone"
DELETE_SESSIONS = _DELETED.format("") + _COUNT
DELETE_ROOM_SESSIONS = _DELETED.format(" AND room_id = $3") + _COUNT
DELETE_SESSION = _DELETED.format(" AND room_id = $3 AND session_id = $4") + _COUNT


@dataclass(frozen=True, slots=True)
class BackupRow:
    """One backup that is not deleted; ``auth_data`` is JSON."""

    version: int
    etag: int
    session_count: int
    algorithm: str
    auth_data: bytes


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One room key in a backup; ``session_data`` is JSON."""

    room_id: str
    session_id: str
    first_message_index: int
    forwarded_count: int
    is_verified: bool
    session_data: bytes


async def fetch_backups(source: Executor, user_nid: int) -> list[BackupRow]:
    """The user's backups, the current one last."""
    return [BackupRow(*row) for row in await source.fetch(SELECT_BACKUPS, user_nid)]


async def fetch_newest_version(source: Executor, user_nid: int) -> int:
    """The newest version that there ever was, deleted ones among them; 0 if there was none."""
    return int(await source.fetchval(SELECT_NEWEST_VERSION, user_nid))


async def insert_backup(
    connection: Connection, user_nid: int, version: int, algorithm: str, auth_data: bytes
) -> None:
    """A new backup, newer than all others."""
    await connection.execute(INSERT_BACKUP, user_nid, version, algorithm, auth_data)
    await connection.execute(DELETE_TOMBSTONES, user_nid, version)


async def set_auth_data(connection: Connection, user_nid: int, version: int, auth_data: bytes) -> None:
    await connection.execute(UPDATE_AUTH_DATA, user_nid, version, auth_data)


async def delete_backup(connection: Connection, user_nid: int, version: int, *, is_newest: bool) -> None:
    """Delete a backup with its sessions; of the newest one the version stays known."""
    if is_newest:
        await connection.fetchval(DELETE_SESSIONS, user_nid, version)
        await connection.execute(MARK_DELETED, user_nid, version)
    else:
        await connection.execute(DELETE_BACKUP, user_nid, version)


async def delete_backups(connection: Connection, user_nid: int) -> None:
    """Delete all backups of a user, for the end of the account."""
    await connection.execute(DELETE_BACKUPS_OF_USER, user_nid)


async def count_sessions(source: Executor, user_nid: int) -> int:
    """How many sessions the user has in all backups together."""
    return int(await source.fetchval(COUNT_SESSIONS, user_nid))


async def upsert_sessions(
    connection: Connection, user_nid: int, version: int, sessions: Sequence[SessionRow]
) -> tuple[int, int]:
    """Store sessions, each named once, that are better than those stored: how many are new, and changed.

    What is new counts as changed too.
    """
    [(new, changed)] = await connection.fetch(
        UPSERT_SESSIONS,
        user_nid,
        version,
        [session.room_id for session in sessions],
        [session.session_id for session in sessions],
        [session.first_message_index for session in sessions],
        [session.forwarded_count for session in sessions],
        [session.is_verified for session in sessions],
        [session.session_data for session in sessions],
    )
    return int(new), int(changed)


async def add_to_count(connection: Connection, user_nid: int, version: int, added: int) -> tuple[int, int]:
    """The keys have changed: the new etag, and how many sessions there are now."""
    [(etag, count)] = await connection.fetch(ADD_TO_COUNT, user_nid, version, added)
    return int(etag), int(count)


async def fetch_page(
    source: Executor,
    user_nid: int,
    version: int,
    room_id: str | None,
    after: tuple[str, str],
    limit: int,
) -> list[SessionRow]:
    """Sessions by room and id, the first ``limit`` after a (room id, session id); of one room if given."""
    if room_id is not None:
        rows = await source.fetch(SELECT_ROOM_PAGE, user_nid, version, room_id, after[1], limit)
    else:
        rows = await source.fetch(SELECT_SESSIONS_PAGE, user_nid, version, *after, limit)
    return [SessionRow(*row) for row in rows]


async def fetch_session(
    source: Executor, user_nid: int, version: int, room_id: str, session_id: str
) -> SessionRow | None:
    row = await source.fetchrow(SELECT_SESSION, user_nid, version, room_id, session_id)
    return SessionRow(*row) if row is not None else None


async def delete_sessions(
    connection: Connection, user_nid: int, version: int, room_id: str | None, session_id: str | None
) -> int:
    """Delete all sessions, those of a room, or one: how many there were."""
    if room_id is None:
        return int(await connection.fetchval(DELETE_SESSIONS, user_nid, version))
    if session_id is None:
        return int(await connection.fetchval(DELETE_ROOM_SESSIONS, user_nid, version, room_id))
    return int(await connection.fetchval(DELETE_SESSION, user_nid, version, room_id, session_id))
