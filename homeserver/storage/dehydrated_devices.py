"""Devices that nobody is logged in on (MSC3814). Schema: migrations/0013_encryption.sql."""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.storage.connection import Connection, Executor
from homeserver.storage.devices import delete_devices

INSERT_DEVICE = """
INSERT INTO devices (user_nid, created_ms, device_id, display_name) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING RETURNING nid
"""
INSERT = "INSERT INTO dehydrated_devices (user_nid, device_nid, data) VALUES ($1, $2, $3)"
SELECT = """
SELECT d.nid, d.device_id, h.data FROM dehydrated_devices h JOIN devices d ON d.nid = h.device_nid
WHERE h.user_nid = $1
"""
LOCK_ACCOUNT = "SELECT FROM accounts WHERE user_nid = $1 FOR NO KEY UPDATE"


@dataclass(frozen=True, slots=True)
class DehydratedRow:
    """A user's dehydrated device; ``data`` is JSON that only its owner can read."""

    nid: int
    device_id: str
    data: bytes


async def fetch_dehydrated(database: Executor, user_nid: int) -> DehydratedRow | None:
    """A user's dehydrated device, if there is one."""
    row = await database.fetchrow(SELECT, user_nid)
    return DehydratedRow(*row) if row is not None else None


async def delete_dehydrated(connection: Connection, user_nid: int) -> str | None:
    """Delete a user's dehydrated device with all that is its; the id, if there was one."""
    await connection.execute(LOCK_ACCOUNT, user_nid)
    known = await fetch_dehydrated(connection, user_nid)
    if known is None:
        return None
    await delete_devices(connection, user_nid, (known.device_id,))
    return known.device_id


async def insert_dehydrated(
    connection: Connection, user_nid: int, now_ms: int, device_id: str, name: str | None, data: bytes
) -> int | None:
    """Make a dehydrated device; its number, or None if the user has a device of this id. `delete_dehydrated`
    comes before, in the same transaction."""
    nid: int | None = await connection.fetchval(INSERT_DEVICE, user_nid, now_ms, device_id, name)
    if nid is not None:
        await connection.execute(INSERT, user_nid, nid, data)
    return nid
