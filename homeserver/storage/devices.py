"""Devices of this node's users. Schema: migrations/0002_accounts.sql."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from homeserver.storage.connection import Connection, Pool

_COLUMNS = "nid, device_id, display_name, last_seen_ms, last_seen_address, last_seen_agent"
SELECT_DEVICES = f"SELECT {_COLUMNS} FROM devices WHERE user_nid = $1 ORDER BY nid"
SELECT_DEVICE = f"SELECT {_COLUMNS} FROM devices WHERE user_nid = $1 AND device_id = $2"
# Devices are noted with their deletion, so that whoever tracks them is told, whatever happens next.
_NOTE_UNTOLD = """
INSERT INTO untold_devices (user_nid, device_id) SELECT user_nid, device_id FROM changed
ON CONFLICT DO NOTHING
"""
# What has no foreign key goes with its device here; what came at the same moment is swept (`sweep_orphans`).
_OF_DEVICES = ("to_device_messages", "one_time_keys", "claimed_keys", "fallback_keys")
_DELETE_ALL_OF = ", ".join(
    f"{table}_gone AS (DELETE FROM {table} t USING changed WHERE t.device_nid = changed.nid)"
    for table in _OF_DEVICES
)
SWEEP_ORPHANS = tuple(
    f"DELETE FROM {table} t WHERE NOT EXISTS (SELECT FROM devices d WHERE d.nid = t.device_nid)"
    for table in _OF_DEVICES
)
_RETURNING = "RETURNING nid, user_nid, device_id"
UPDATE_DISPLAY_NAME = f"""
WITH changed AS (
    UPDATE devices SET display_name = $3 WHERE user_nid = $1 AND device_id = $2 {_RETURNING}
), noted AS ({_NOTE_UNTOLD})
SELECT nid FROM changed
"""
DELETE_DEVICES = f"""
WITH changed AS (
    DELETE FROM devices WHERE user_nid = $1 AND device_id = ANY($2::text[]) {_RETURNING}
), {_DELETE_ALL_OF}
{_NOTE_UNTOLD}
"""
DELETE_OTHER_DEVICES = f"""
WITH changed AS (DELETE FROM devices WHERE user_nid = $1 AND nid <> $2 {_RETURNING}), {_DELETE_ALL_OF}
{_NOTE_UNTOLD}
"""
UPDATE_LAST_SEEN = """
UPDATE devices SET last_seen_ms = seen.ms, last_seen_address = seen.address, last_seen_agent = seen.agent
FROM unnest($1::integer[], $2::bigint[], $3::text[], $4::text[]) AS seen (nid, ms, address, agent)
WHERE devices.nid = seen.nid
"""


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device; what was last seen of it is a few minutes behind."""

    nid: int
    device_id: str
    display_name: str | None
    last_seen_ms: int | None
    last_seen_address: str | None
    last_seen_agent: str | None


@dataclass(frozen=True, slots=True)
class Sighting:
    """When and from where a device was last heard of."""

    device_nid: int
    seen_ms: int
    address: str
    agent: str


async def fetch_devices(database: Pool | Connection, user_nid: int) -> list[DeviceRow]:
    """All devices of a user, the oldest first."""
    return [DeviceRow(*row) for row in await database.fetch(SELECT_DEVICES, user_nid)]


async def fetch_device(database: Pool | Connection, user_nid: int, device_id: str) -> DeviceRow | None:
    """One device of a user."""
    row = await database.fetchrow(SELECT_DEVICE, user_nid, device_id)
    return DeviceRow(*row) if row is not None else None


async def set_display_name(
    database: Pool | Connection, user_nid: int, device_id: str, display_name: str
) -> bool:
    """Name a device; False if there is no such device."""
    nid = await database.fetchval(UPDATE_DISPLAY_NAME, user_nid, device_id, display_name)
    return nid is not None


async def delete_devices(database: Pool | Connection, user_nid: int, device_ids: Collection[str]) -> None:
    """Delete devices with all that is theirs; those that do not exist are passed over."""
    await database.execute(DELETE_DEVICES, user_nid, list(device_ids))


async def delete_other_devices(database: Pool | Connection, user_nid: int, but_device_nid: int) -> None:
    """Delete all devices of a user with all that is theirs, but one; 0 spares none."""
    await database.execute(DELETE_OTHER_DEVICES, user_nid, but_device_nid)


async def sweep_orphans(database: Pool | Connection) -> None:
    """Delete what was written for devices that went at the same moment."""
    for statement in SWEEP_ORPHANS:
        await database.execute(statement)


async def write_sightings(database: Pool | Connection, sightings: Sequence[Sighting]) -> None:
    """Note when and from where devices were last heard of; devices that are gone are passed over."""
    await database.execute(
        UPDATE_LAST_SEEN,
        [sighting.device_nid for sighting in sightings],
        [sighting.seen_ms for sighting in sightings],
        [sighting.address for sighting in sightings],
        [sighting.agent for sighting in sightings],
    )
