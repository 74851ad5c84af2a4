"""Identity keys of this node's devices. Schema: migrations/0013_encryption.sql.

A device's row is locked against deletion before its keys are written (`ALIVE`), so that one that goes at the
same moment fails nobody's batch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

from homeserver.storage.connection import Connection, Executor

ALIVE = "alive AS (SELECT nid FROM devices WHERE nid = ANY($1::integer[]) ORDER BY nid FOR KEY SHARE)"
UPSERT = f"""
WITH {ALIVE}
INSERT INTO device_keys (device_nid, json)
SELECT given.device_nid, given.json FROM unnest($1::integer[], $2::bytea[]) AS given (device_nid, json)
JOIN alive ON alive.nid = given.device_nid
ON CONFLICT (device_nid) DO UPDATE SET json = excluded.json
"""
SELECT_IDENTITIES = """
SELECT device_nid, user_nid, (SELECT json FROM device_keys k WHERE k.device_nid = wanted.device_nid),
    ARRAY(SELECT json FROM cross_signing_keys c WHERE c.user_nid = wanted.user_nid)
FROM unnest($1::integer[], $2::integer[]) AS wanted (device_nid, user_nid)
"""
SELECT_OF_USERS = """
SELECT u.user_id, d.device_id, k.json, d.display_name
FROM users u JOIN devices d ON d.user_nid = u.nid JOIN device_keys k ON k.device_nid = d.nid
WHERE u.user_id = ANY($1::text[])
ORDER BY d.nid
"""
SELECT_KNOWN = "SELECT user_id FROM users JOIN accounts ON user_nid = nid WHERE user_id = ANY($1::text[])"
SELECT_DEVICES = """
SELECT u.user_id, d.device_id, d.nid FROM users u JOIN devices d ON d.user_nid = u.nid
WHERE u.user_id = ANY($1::text[])
ORDER BY d.nid
"""
SELECT_PUBLISHED = """
SELECT d.device_id, d.display_name, k.json FROM devices d LEFT JOIN device_keys k ON k.device_nid = d.nid
WHERE d.user_nid = $1 AND d.device_id = ANY($2::text[])
"""
SELECT_NIDS = "SELECT nid FROM devices WHERE user_nid = $1 AND device_id = ANY($2::text[])"


@dataclass(slots=True, eq=False)
class DeviceKeysChange:
    """A device's identity keys, new or with other signatures; ``json`` has no ``unsigned``."""

    device_nid: int
    device_id: str
    json: bytes
    position: int = 0
    is_visible: ClassVar[bool] = False  # of this the DeviceListChange beside it tells

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[DeviceKeysChange]) -> None:
        last = {change.device_nid: change.json for change in changes}
        await connection.execute(UPSERT, list(last), list(last.values()))


Identity = tuple[bytes | None, list[bytes]]


@dataclass(frozen=True, slots=True)
class DeviceKeysRow:
    """One device's identity keys."""

    user_id: str
    device_id: str
    json: bytes
    display_name: str | None


async def fetch_identities(
    database: Executor, devices: Collection[tuple[int, int]]
) -> dict[tuple[int, int], Identity]:
    """By numbers of device and user: the device's identity keys, and its user's cross-signing keys, JSON."""
    rows = await database.fetch(SELECT_IDENTITIES, [nid for nid, _ in devices], [nid for _, nid in devices])
    return {(row[0], row[1]): (row[2], row[3]) for row in rows}


async def fetch_keys_of_users(database: Executor, user_ids: Collection[str]) -> list[DeviceKeysRow]:
    """The identity keys of all devices of this node's users among those named."""
    return [DeviceKeysRow(*row) for row in await database.fetch(SELECT_OF_USERS, list(user_ids))]


async def fetch_known_users(database: Executor, user_ids: Collection[str]) -> list[str]:
    """Those of the users who have an account here."""
    return [row[0] for row in await database.fetch(SELECT_KNOWN, list(user_ids))]


async def fetch_device_nids(database: Executor, user_ids: Collection[str]) -> dict[str, dict[str, int]]:
    """Numbers of all devices of this node's users among those named, by user id and device id."""
    found: dict[str, dict[str, int]] = {}
    for user_id, device_id, nid in await database.fetch(SELECT_DEVICES, list(user_ids)):
        found.setdefault(user_id, {})[device_id] = nid
    return found


async def fetch_published(
    database: Executor, user_nid: int, device_ids: Collection[str]
) -> dict[str, tuple[str | None, bytes | None]]:
    """Name and identity keys of those of a user's devices that there are."""
    rows = await database.fetch(SELECT_PUBLISHED, user_nid, list(device_ids))
    return {row[0]: (row[1], row[2]) for row in rows}


async def have_devices(database: Executor, user_nid: int, device_ids: Collection[str]) -> bool:
    """Whether a user has a device of one of these ids."""
    return await database.fetchval(SELECT_NIDS, user_nid, list(device_ids)) is not None
