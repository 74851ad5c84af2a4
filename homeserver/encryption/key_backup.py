"""Server-side key backups. Source: Client-Server API, "Server-side key backups".

Backups are no part of the commit log: no sync tells of them, clients compare etags. Whoever changes a user's
backups holds the account's row until the transaction ends, so that two devices that upload at the same time
follow each other, and a key is never written to a backup that is being replaced.

What clients seal is theirs: "define how the keys are to be encrypted through the backup's `auth_data`",
"Algorithm-dependent data" (key_backup.yaml, of `auth_data` and of `session_data`). The server can read none
of it and acts on none of it; what it compares stands beside it. So any name of an algorithm is taken, though
the document lists the one of today, and any JSON for the data, as the next algorithm may have it: all of it
comes back as it was. Sizes are bounded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

from federation.event import JsonObject
from homeserver.encryption.backup_upload import read_sessions
from homeserver.errors import InvalidParam, LimitExceeded, NotFound, TooLarge, WrongRoomKeysVersion
from homeserver.requester import Requester
from homeserver.storage import key_backup as sql
from homeserver.storage.accounts import lock_account
from homeserver.storage.connection import Connection, Pool
from homeserver.storage.key_backup import BackupRow, SessionRow

ALGORITHM_BYTES_MAX = 255
AUTH_DATA_BYTES_MAX = 64 * 1024
BACKUPS_MAX = 20  # of one user; clients delete the one that they replace
SESSIONS_MAX = 1_000_000  # of one user, in all backups
BATCH = 200  # sessions written by one statement: that takes the event loop a few milliseconds
PAGE = 1000
UPLOAD_BYTES_MAX = 128 * 1024 * 1024  # 100,000 sessions
LARGE_BYTES = 1024 * 1024
LARGE_UPLOADS_MAX = 2  # at a time: each takes its size in memory
RETRY_AFTER_MS = 5000

NO_BACKUP = "There is no such backup"


@dataclass(frozen=True, slots=True)
class KeyBackups:
    """The backups of all users."""

    pool: Pool
    large_uploads: set[int] = field(default_factory=set)
    """Users who are sending a large body."""

    # -- versions --

    async def create(self, requester: Requester, algorithm: str, auth_data: Any) -> str:
        """`postRoomKeysVersion`: the version of a new backup, which is the current one from now on.

        Raises InvalidParam, TooLarge.
        """
        if not 1 <= len(algorithm.encode()) <= ALGORITHM_BYTES_MAX:
            raise InvalidParam(f"'algorithm' must have 1 to {ALGORITHM_BYTES_MAX} bytes")
        encoded = _encode_auth_data(auth_data)
        user_nid = requester.user_nid
        async with self.pool.acquire() as connection, connection.transaction():
            await lock_account(connection, user_nid)
            if len(await sql.fetch_backups(connection, user_nid)) >= BACKUPS_MAX:
                raise TooLarge(f"A user may have {BACKUPS_MAX} backups at most: delete older ones")
            version = await sql.fetch_newest_version(connection, user_nid) + 1
            await sql.insert_backup(connection, user_nid, version, algorithm, encoded)
        return str(version)

    async def get(self, requester: Requester, version: str | None) -> JsonObject:
        """`getRoomKeysVersion`; without a version `getRoomKeysVersionCurrent`. Raises NotFound."""
        backups = await sql.fetch_backups(self.pool, requester.user_nid)
        backup = _current(backups) if version is None else _find(backups, version)
        return {
            "algorithm": backup.algorithm,
            "auth_data": orjson.loads(backup.auth_data),
            "count": backup.session_count,
            "etag": str(backup.etag),
            "version": str(backup.version),
        }

    async def update(self, requester: Requester, version: str, algorithm: str, auth_data: Any) -> None:
        """`putRoomKeysVersion`. Raises NotFound, InvalidParam, TooLarge."""
        encoded = _encode_auth_data(auth_data)
        user_nid = requester.user_nid
        async with self.pool.acquire() as connection, connection.transaction():
            await lock_account(connection, user_nid)
            backup = _find(await sql.fetch_backups(connection, user_nid), version)
            if algorithm != backup.algorithm:
                raise InvalidParam("Algorithm does not match: only 'auth_data' of a backup can be changed")
            await sql.set_auth_data(connection, user_nid, backup.version, encoded)

    async def delete(self, requester: Requester, version: str) -> None:
        """`deleteRoomKeysVersion`, also of what was deleted before. Raises NotFound."""
        number, user_nid = _number(version), requester.user_nid
        async with self.pool.acquire() as connection, connection.transaction():
            await lock_account(connection, user_nid)
            newest = await sql.fetch_newest_version(connection, user_nid)
            if number is None or not 1 <= number <= newest:
                raise NotFound(NO_BACKUP)
            await sql.delete_backup(connection, user_nid, number, is_newest=number == newest)

    # -- keys --

    def begin_upload(self, requester: Requester, size_bytes: int | None) -> None:
        """Make room for a body of this size, not known where None. Raises LimitExceeded.

        `end_upload` is called once the body is stored or refused.
        """
        if size_bytes is not None and size_bytes <= LARGE_BYTES:
            return
        if requester.user_nid in self.large_uploads or len(self.large_uploads) >= LARGE_UPLOADS_MAX:
            raise LimitExceeded(RETRY_AFTER_MS)
        self.large_uploads.add(requester.user_nid)

    def end_upload(self, requester: Requester, size_bytes: int | None) -> None:
        if size_bytes is None or size_bytes > LARGE_BYTES:
            self.large_uploads.discard(requester.user_nid)

    async def put(
        self,
        requester: Requester,
        version: str,
        body: bytes | bytearray,
        *,
        room_id: str | None = None,
        session_id: str | None = None,
    ) -> JsonObject:
        """`putRoomKeys`, `putRoomKeysByRoomId` or `putRoomKeyBySessionId`: all of the body or nothing.

        Raises NotFound, WrongRoomKeysVersion, TooLarge, and as `read_sessions`.
        """
        user_nid = requester.user_nid
        sessions = read_sessions(body, room_id, session_id)
        # Read before the account is locked: nearly always this is all there is.
        batch = _next_batch(sessions)
        async with self.pool.acquire() as connection, connection.transaction():
            await lock_account(connection, user_nid)
            backups = await sql.fetch_backups(connection, user_nid)
            current = _current(backups)
            if _find(backups, version).version != current.version:
                raise WrongRoomKeysVersion(
                    "This is not the current backup: keys go into the newest one",
                    current_version=str(current.version),
                )
            added = changed = 0
            while batch:
                new, stored = await sql.upsert_sessions(connection, user_nid, current.version, batch)
                added, changed = added + new, changed + stored
                batch = _next_batch(sessions)
            return await _changed(connection, user_nid, current, added, changed)

    async def sessions(
        self, requester: Requester, version: str, room_id: str | None = None
    ) -> AsyncIterator[bytes]:
        """`getRoomKeys` and `getRoomKeysByRoomId`: the answer, in pieces. Raises NotFound at once."""
        backup = _find(await sql.fetch_backups(self.pool, requester.user_nid), version)
        if room_id is not None:
            return self._write_room(requester.user_nid, backup.version, room_id)
        return self._write_rooms(requester.user_nid, backup.version)

    async def session(self, requester: Requester, version: str, room_id: str, session_id: str) -> bytes:
        """`getRoomKeyBySessionId`, as JSON. Raises NotFound."""
        backup = _find(await sql.fetch_backups(self.pool, requester.user_nid), version)
        row = await sql.fetch_session(self.pool, requester.user_nid, backup.version, room_id, session_id)
        if row is None:
            raise NotFound("The backup does not hold this key")
        return _encode(row)

    async def delete_sessions(
        self,
        requester: Requester,
        version: str,
        *,
        room_id: str | None = None,
        session_id: str | None = None,
    ) -> JsonObject:
        """`deleteRoomKeys`, `deleteRoomKeysByRoomId` and `deleteRoomKeyBySessionId`. Raises NotFound."""
        user_nid = requester.user_nid
        async with self.pool.acquire() as connection, connection.transaction():
            await lock_account(connection, user_nid)
            backup = _find(await sql.fetch_backups(connection, user_nid), version)
            gone = await sql.delete_sessions(connection, user_nid, backup.version, room_id, session_id)
            return await _changed(connection, user_nid, backup, -gone, gone)

    async def _pages(
        self, user_nid: int, version: int, room_id: str | None
    ) -> AsyncIterator[list[SessionRow]]:
        after = ("", "")
        while True:
            rows = await sql.fetch_page(self.pool, user_nid, version, room_id, after, PAGE)
            if rows:
                yield rows
                after = (rows[-1].room_id, rows[-1].session_id)
            if len(rows) < PAGE:
                return

    async def _write_room(self, user_nid: int, version: int, room_id: str) -> AsyncIterator[bytes]:
        separator = b'{"sessions":{'
        async for rows in self._pages(user_nid, version, room_id):
            yield separator + b",".join(_member(row) for row in rows)
            separator = b","
        yield (b"" if separator == b"," else separator) + b"}}"

    async def _write_rooms(self, user_nid: int, version: int) -> AsyncIterator[bytes]:
        yield b'{"rooms":{'
        room_id: str | None = None
        async for rows in self._pages(user_nid, version, None):
            pieces: list[bytes] = []
            for row in rows:
                if row.room_id == room_id:
                    pieces.append(b",")
                else:
                    if room_id is not None:
                        pieces.append(b"}},")
                    pieces.append(orjson.dumps(row.room_id) + b':{"sessions":{')
                    room_id = row.room_id
                pieces.append(_member(row))
            yield b"".join(pieces)
        yield b"}}" if room_id is None else b"}}}}"


async def _changed(
    connection: Connection, user_nid: int, backup: BackupRow, added: int, changed: int
) -> JsonObject:
    """Count what was stored or deleted; the answer that tells of it."""
    if not changed:
        return {"count": backup.session_count, "etag": str(backup.etag)}
    etag, count = await sql.add_to_count(connection, user_nid, backup.version, added)
    if added > 0 and await sql.count_sessions(connection, user_nid) > SESSIONS_MAX:
        raise TooLarge(f"A user may have {SESSIONS_MAX} keys in backups at most")
    return {"count": count, "etag": str(etag)}


def _next_batch(sessions: Iterator[SessionRow]) -> list[SessionRow]:
    # A key that a body names twice counts as its last, as everywhere in JSON.
    batch = {(session.room_id, session.session_id): session for session in islice(sessions, BATCH)}
    return list(batch.values())


def _member(row: SessionRow) -> bytes:
    return orjson.dumps(row.session_id) + b":" + _encode(row)


def _encode(row: SessionRow) -> bytes:
    """As definitions/key_backup_data.yaml has it; what is stored as JSON is not parsed."""
    return b'{"first_message_index":%d,"forwarded_count":%d,"is_verified":%s,"session_data":%s}' % (
        row.first_message_index,
        row.forwarded_count,
        b"true" if row.is_verified else b"false",
        row.session_data,
    )


def _encode_auth_data(auth_data: Any) -> bytes:
    encoded = orjson.dumps(auth_data)
    if len(encoded) > AUTH_DATA_BYTES_MAX:
        raise TooLarge(f"'auth_data' may have {AUTH_DATA_BYTES_MAX} bytes at most")
    return encoded


def _number(version: str) -> int | None:
    """A version as this server writes it, or None."""
    return int(version) if version.isascii() and version.isdigit() and len(version) <= 18 else None


def _current(backups: list[BackupRow]) -> BackupRow:
    if not backups:
        raise NotFound("No current backup version")
    return backups[-1]


def _find(backups: list[BackupRow], version: str) -> BackupRow:
    number = _number(version)
    for backup in backups:
        if backup.version == number:
            return backup
    raise NotFound(NO_BACKUP)
