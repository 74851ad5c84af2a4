"""Device lists of other servers' users. Schema: migrations/0015_remote_devices.sql.

A list holds as long as its server tells this node of every change, which is as long as the user shares a
room with somebody here. So it counts only if a membership of theirs and one of ours in the same room are
both older than the list: whoever parted and met again meanwhile may have missed something.
Source: Server-Server API, "Device Management".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from homeserver.storage.connection import Connection, Executor
from homeserver.storage.events import INTERN_USERS

_SHARED_SINCE = """
EXISTS (
    SELECT 1 FROM memberships theirs
    JOIN memberships ours ON ours.room_nid = theirs.room_nid AND ours.membership = 'join'
    JOIN accounts ON accounts.user_nid = ours.user_nid
    WHERE theirs.user_nid = {user} AND theirs.membership = 'join'
        AND theirs.since <= {position} AND ours.since <= {position})
"""
_EVER = "9223372036854775807"
SELECT_KNOWN = f"""
SELECT u.user_id, l.user_nid FROM users u JOIN remote_device_lists l ON l.user_nid = u.nid
WHERE u.user_id = ANY($1::text[]) AND NOT l.is_stale
    AND {_SHARED_SINCE.format(user="l.user_nid", position="l.position")}
"""
SELECT_SHARING = f"""
SELECT u.user_id FROM users u
WHERE u.user_id = ANY($1::text[]) AND {_SHARED_SINCE.format(user="u.nid", position=_EVER)}
"""
_LIST = "l.stream_id, l.snapshot_id, l.position, l.updates, l.is_stale"
SELECT_LIST = f"""
SELECT u.nid, {_SHARED_SINCE.format(user="u.nid", position=_EVER)} AS is_shared, {_LIST}
FROM users u LEFT JOIN remote_device_lists l ON l.user_nid = u.nid WHERE u.user_id = $1
"""
SELECT_DEVICES = "SELECT user_nid, device_id, json FROM remote_devices WHERE user_nid = ANY($1::integer[])"
COUNT_DEVICES = "SELECT count(*) FROM remote_devices WHERE user_nid = $1"
# One list a statement, and of the user's row no more than a foreign key needs: it waits for the commit log's
# transaction, which may want that row or another list next, with nothing locked.
WANT = f"""
INSERT INTO remote_device_lists AS l (user_nid) SELECT nid FROM users WHERE user_id = $1
ON CONFLICT (user_nid) DO UPDATE SET is_stale = true
RETURNING l.user_nid, true, {_LIST}
"""
SELECT_DUE = f"""
SELECT u.user_id, {_SHARED_SINCE.format(user="l.user_nid", position=_EVER)}
FROM remote_device_lists l JOIN users u ON u.nid = l.user_nid
WHERE l.is_stale AND l.retry_at_ms <= $1 ORDER BY l.retry_at_ms LIMIT $2
"""
SELECT_NEXT_DUE = "SELECT min(retry_at_ms) FROM remote_device_lists WHERE is_stale"
NOTE_FAILURE = """
UPDATE remote_device_lists l SET failures = failures + 1, retry_at_ms = $2
FROM users u WHERE u.nid = l.user_nid AND u.user_id = $1 AND is_stale
"""
SELECT_FAILURES = """
SELECT failures FROM remote_device_lists l JOIN users u ON u.nid = l.user_nid WHERE u.user_id = $1
"""
FORGET = "DELETE FROM remote_device_lists USING users WHERE nid = user_nid AND user_id = $1"

TOUCH = """
UPDATE remote_device_lists l SET updates = updates + 1, is_stale = is_stale OR touched.makes_stale,
    retry_at_ms = CASE WHEN touched.makes_stale AND NOT is_stale THEN 0 ELSE retry_at_ms END
FROM (
    SELECT user_nid, bool_or(makes_stale) AS makes_stale
    FROM unnest($1::integer[], $2::boolean[]) AS each (user_nid, makes_stale) GROUP BY user_nid
) AS touched
WHERE l.user_nid = touched.user_nid
"""
ADVANCE = """
UPDATE remote_device_lists SET stream_id = $3 WHERE user_nid = $1 AND stream_id = $2 AND NOT is_stale
RETURNING 1
"""
UPSERT_DEVICE = """
INSERT INTO remote_devices (user_nid, device_id, json) VALUES ($1, $2, $3)
ON CONFLICT (user_nid, device_id) DO UPDATE SET json = excluded.json
"""
DELETE_DEVICE = "DELETE FROM remote_devices WHERE user_nid = $1 AND device_id = $2"
COMPLETE = """
UPDATE remote_device_lists SET position = $3, stream_id = $4, snapshot_id = $4, failures = 0, retry_at_ms = 0,
    is_stale = false
WHERE user_nid = $1 AND updates = $2
RETURNING 1
"""
DELETE_DEVICES = "DELETE FROM remote_devices WHERE user_nid = $1"
INSERT_DEVICES = """
INSERT INTO remote_devices (user_nid, device_id, json)
SELECT $1, * FROM unnest($2::text[], $3::bytea[])
"""


class ListMoved(Exception):
    """The list changed since it was read: read it again."""


@dataclass(frozen=True, slots=True)
class RemoteList:
    """What is known of a user of another server. `stream_id` is None where no list is kept."""

    user_nid: int
    is_shared: bool
    stream_id: int | None
    snapshot_id: int | None
    position: int | None
    updates: int | None
    is_stale: bool | None


@dataclass(slots=True, eq=False)
class RemoteListTouched:
    """Something came that says that a list changed, without being taken into it. With `makes_stale` the list
    has to be asked for; in any case an answer that is on its way may be older than what came."""

    user_nid: int
    makes_stale: bool
    position: int = 0
    is_visible: ClassVar[bool] = False

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[RemoteListTouched]) -> None:
        await connection.execute(
            TOUCH, [change.user_nid for change in changes], [change.makes_stale for change in changes]
        )


@dataclass(slots=True, eq=False)
class RemoteDeviceChange:
    """An update of one device, after the one with `after`; without `json` the device is gone, or has no keys.

    Raises ListMoved if the list is not where it was.
    """

    user_nid: int
    after: int
    stream_id: int
    device_id: str
    json: bytes | None
    position: int = 0
    is_visible: ClassVar[bool] = False

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[RemoteDeviceChange]) -> None:
        for change in changes:  # seldom more than one
            user_nid = change.user_nid
            if not await connection.fetchval(ADVANCE, user_nid, change.after, change.stream_id):
                raise ListMoved
            if change.json is None:
                await connection.execute(DELETE_DEVICE, user_nid, change.device_id)
            else:
                await connection.execute(UPSERT_DEVICE, user_nid, change.device_id, change.json)


@dataclass(slots=True, eq=False)
class RemoteListChange:
    """A user's whole list, asked for at a position of the log, when `updates` were counted.

    Raises ListMoved if something came meanwhile.
    """

    user_nid: int
    updates: int
    asked_at: int
    stream_id: int
    devices: Mapping[str, bytes]
    position: int = 0
    is_visible: ClassVar[bool] = False

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[RemoteListChange]) -> None:
        for change in changes:
            user_nid = change.user_nid
            if not await connection.fetchval(
                COMPLETE, user_nid, change.updates, change.asked_at, change.stream_id
            ):
                raise ListMoved
            await connection.execute(DELETE_DEVICES, user_nid)
            await connection.execute(
                INSERT_DEVICES, user_nid, list(change.devices), list(change.devices.values())
            )


async def fetch_known_lists(database: Executor, user_ids: Collection[str]) -> dict[str, int]:
    """The numbers of those of the users whose lists are known and up to date."""
    return {row[0]: row[1] for row in await database.fetch(SELECT_KNOWN, list(user_ids))}


async def fetch_sharing(database: Executor, user_ids: Collection[str]) -> set[str]:
    """Those of the users who share a room with somebody of this node."""
    return {row[0] for row in await database.fetch(SELECT_SHARING, list(user_ids))}


async def fetch_list(database: Executor, user_id: str) -> RemoteList | None:
    """What is known of a user's list; None of a user whom this node never met."""
    row = await database.fetchrow(SELECT_LIST, user_id)
    return RemoteList(*row) if row is not None else None


async def fetch_remote_devices(database: Executor, user_nids: Collection[int]) -> dict[int, dict[str, bytes]]:
    """Devices' keys, JSON, by user and device."""
    found: dict[int, dict[str, bytes]] = {}
    for user_nid, device_id, json in await database.fetch(SELECT_DEVICES, list(user_nids)):
        found.setdefault(user_nid, {})[device_id] = json
    return found


async def count_remote_devices(database: Executor, user_nid: int) -> int:
    """How many devices a user has."""
    return int(await database.fetchval(COUNT_DEVICES, user_nid))


async def begin_asking(database: Executor, user_id: str) -> RemoteList:
    """Note that a user's list is to be asked for; what is known of it."""
    row = await database.fetchrow(WANT, user_id)
    if row is None:  # a user whom this node never met
        await database.execute(INTERN_USERS, [user_id])
        row = await database.fetchrow(WANT, user_id)
    if row is None:
        raise RuntimeError("the row was written")
    return RemoteList(*row)


async def want_lists(database: Executor, user_ids: Collection[str]) -> None:
    """Note that users' lists are to be asked for; of users whom this node never met there are none."""
    for user_id in user_ids:
        await database.execute(WANT, user_id)


async def fetch_due(database: Executor, now_ms: int, limit: int) -> list[tuple[str, bool]]:
    """Users whose lists are to be asked for now, and whether they share a room with somebody here."""
    return [(row[0], row[1]) for row in await database.fetch(SELECT_DUE, now_ms, limit)]


async def fetch_next_due_ms(database: Executor) -> int | None:
    """When the next list is to be asked for, if any is."""
    due: int | None = await database.fetchval(SELECT_NEXT_DUE)
    return due


async def fetch_failures(database: Executor, user_id: str) -> int:
    """How often asking for a user's list has failed in a row."""
    return int(await database.fetchval(SELECT_FAILURES, user_id) or 0)


async def note_failure(database: Executor, user_id: str, retry_at_ms: int) -> None:
    """Asking failed: when to try again."""
    await database.execute(NOTE_FAILURE, user_id, retry_at_ms)


async def forget_list(database: Executor, user_id: str) -> None:
    """Keep no list of a user."""
    await database.execute(FORGET, user_id)
