"""When each user's device list changed, and who is concerned. Schema: migrations/0013_encryption.sql.

A device list is a user's devices, those with identity keys and others, and the user's cross-signing keys.
Source: Client-Server API, "Tracking the device list for a user".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

from homeserver.storage.connection import Connection, Executor

WRITE = """
WITH told AS (
    DELETE FROM untold_devices USING unnest($4::integer[], $5::text[]) AS told (user_nid, device_id)
    WHERE untold_devices.user_nid = told.user_nid AND untold_devices.device_id = told.device_id
)
INSERT INTO device_lists (user_nid, position, stream_id)
SELECT user_nid, position,
    CASE WHEN stream_id < 0 THEN nextval('device_list_stream_ids') ELSE stream_id END
FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) AS given (user_nid, position, stream_id)
ON CONFLICT (user_nid) DO UPDATE
SET position = excluded.position, stream_id = greatest(device_lists.stream_id, excluded.stream_id)
"""
SELECT_UNTOLD = """
SELECT d.user_nid, u.user_id, d.device_id FROM untold_devices d JOIN users u ON u.nid = d.user_nid
ORDER BY d.user_nid LIMIT $1
"""
SELECT_UNTOLD_OF_USER = """
SELECT d.user_nid, u.user_id, d.device_id FROM untold_devices d JOIN users u ON u.nid = d.user_nid
WHERE d.user_nid = $1
"""
# The user's rooms in which memberships or the encryption changed after a position. Most did not, and are not
# looked at any further.
_MOVED = """
moved AS (
    SELECT m.room_nid, m.membership, m.since FROM memberships m
    WHERE m.user_nid = $1 AND m.membership IN ('join', 'leave', 'ban') AND (
        m.since > $2
        OR m.membership = 'join' AND EXISTS (
            SELECT FROM events e WHERE e.room_nid = m.room_nid AND e.nid > $2 AND e.state_key IS NOT NULL
                AND e.type IN ('m.room.member', 'm.room.encryption'))
        OR m.membership = 'join' AND EXISTS (
            SELECT FROM state_changes c WHERE c.room_nid = m.room_nid AND c.position > $2))
)
"""
# Those who are in a room with the user now: whose list changed, or who came into the room or was invited, or
# whose room became encrypted; or into whose room the user came. And those whose keys the user has signed.
SELECT_CHANGED = f"""
WITH {_MOVED}
SELECT u.user_id FROM device_lists d JOIN users u ON u.nid = d.user_nid
WHERE d.position > $2 AND (d.user_nid = $1 OR EXISTS (
    SELECT 1 FROM memberships theirs
    JOIN memberships mine ON mine.room_nid = theirs.room_nid AND mine.user_nid = $1
    WHERE theirs.user_nid = d.user_nid AND theirs.membership = 'join' AND mine.membership = 'join'))
UNION
SELECT u.user_id FROM user_signatures s JOIN users u ON u.nid = s.target_nid
WHERE s.signer_nid = $1 AND s.position > $2
UNION
SELECT u.user_id FROM moved mine
JOIN memberships theirs ON theirs.room_nid = mine.room_nid
JOIN users u ON u.nid = theirs.user_nid
WHERE mine.membership = 'join' AND theirs.membership IN ('join', 'invite') AND theirs.user_nid <> $1
    AND (theirs.since > $2 OR mine.since > $2 OR EXISTS (
        SELECT 1 FROM events e WHERE e.room_nid = mine.room_nid AND e.type = 'm.room.encryption'
            AND e.state_key = '' AND e.nid > $2))
"""
# Those who were in a room with the user, of whom one has left, and who are in none any more.
SELECT_LEFT = f"""
WITH {_MOVED}
SELECT DISTINCT u.user_id FROM moved mine
JOIN memberships theirs ON theirs.room_nid = mine.room_nid
JOIN users u ON u.nid = theirs.user_nid
WHERE theirs.user_nid <> $1
    AND (mine.membership = 'join' AND theirs.membership IN ('leave', 'ban') AND theirs.since > $2
        OR mine.membership IN ('leave', 'ban') AND mine.since > $2
            AND (theirs.membership = 'join' OR theirs.membership IN ('leave', 'ban') AND theirs.since > $2))
    AND NOT EXISTS (
        SELECT 1 FROM memberships ours
        JOIN memberships others ON others.room_nid = ours.room_nid AND others.user_nid = theirs.user_nid
        WHERE ours.user_nid = $1 AND ours.membership = 'join' AND others.membership = 'join')
"""
SELECT_STRANGERS = """
SELECT wanted.user_id FROM unnest($2::text[]) AS wanted (user_id) WHERE NOT EXISTS (
    SELECT 1 FROM users u
    JOIN memberships theirs ON theirs.user_nid = u.nid AND theirs.membership = 'join'
    JOIN memberships mine ON mine.room_nid = theirs.room_nid AND mine.membership = 'join'
    WHERE u.user_id = wanted.user_id AND mine.user_nid = $1)
"""
SELECT_LOCAL_MEMBERS = """
SELECT DISTINCT u.user_id FROM memberships m
JOIN accounts a ON a.user_nid = m.user_nid JOIN users u ON u.nid = m.user_nid
WHERE m.room_nid = ANY($1::integer[]) AND m.membership = 'join'
"""
SELECT_SERVERS = """
SELECT DISTINCT substr(u.user_id, strpos(u.user_id, ':') + 1) FROM memberships m
JOIN users u ON u.nid = m.user_nid LEFT JOIN accounts a ON a.user_nid = m.user_nid
WHERE m.room_nid = ANY($1::integer[]) AND m.membership = 'join' AND a.user_nid IS NULL
"""
SELECT_DEVICES_WITH_KEYS = """
SELECT u.nid, d.device_id FROM users u LEFT JOIN (
    devices d JOIN device_keys k ON k.device_nid = d.nid
) ON d.user_nid = u.nid
WHERE u.user_id = $1 ORDER BY d.nid
"""
SELECT_STREAM_ID = "SELECT stream_id FROM device_lists WHERE user_nid = $1"
NEXT_STREAM_IDS = "SELECT nextval('device_list_stream_ids') FROM generate_series(1, $1)"

NEXT = -1  # a list that changed has another id, also where nobody is told
NOBODY: frozenset[str] = frozenset()
NO_ROOMS: frozenset[int] = frozenset()


@dataclass(slots=True, eq=False)
class DeviceListChange:
    """Some of a user's devices, their keys or the user's cross-signing keys changed.

    `rooms` are the numbers of those that the user is joined to, and `audience` the local users in them:
    both are set when the change becomes durable, so that whoever came in just before is told.
    `devices` are the ids of those concerned, whether they are there or not; `stream_id` is that of the last
    update sent to other servers with it, NEXT where none is sent, 0 where no device is concerned.
    With `is_private` the user's own devices alone are told, as long as it is remembered in memory.
    """

    user_id: str
    user_nid: int
    devices: tuple[str, ...] = ()
    stream_id: int = 0
    rooms: frozenset[int] = NO_ROOMS
    audience: Collection[str] = NOBODY
    is_private: bool = False
    position: int = 0
    is_visible: ClassVar[bool] = True
    room_nid: ClassVar[int] = 0
    owner: ClassVar[None] = None

    @property
    def size_bytes(self) -> int:
        return 400 + 40 * len(self.rooms)

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[DeviceListChange]) -> None:
        last: dict[int, DeviceListChange] = {}
        for change in changes:
            known = last.get(change.user_nid)
            if known is not None:
                change.stream_id = known.stream_id if change.stream_id == 0 else change.stream_id
            last[change.user_nid] = change
        told = [(change.user_nid, device_id) for change in changes for device_id in change.devices]
        await connection.execute(
            WRITE,
            list(last),
            [change.position for change in last.values()],
            [change.stream_id for change in last.values()],
            [nid for nid, _ in told],
            [name for _, name in told],
        )


@dataclass(frozen=True, slots=True)
class UntoldDevice:
    """A device that is new, or was deleted or renamed, which nobody was told of."""

    user_nid: int
    user_id: str
    device_id: str


async def fetch_untold(database: Executor, limit: int) -> list[UntoldDevice]:
    """Devices that nobody was told of, those of one user beside each other."""
    return [UntoldDevice(*row) for row in await database.fetch(SELECT_UNTOLD, limit)]


async def fetch_untold_of_user(database: Executor, user_nid: int) -> list[UntoldDevice]:
    """As `fetch_untold`, all of one user."""
    return [UntoldDevice(*row) for row in await database.fetch(SELECT_UNTOLD_OF_USER, user_nid)]


async def fetch_changed(database: Executor, user_nid: int, position: int) -> list[str]:
    """Users whose device lists are news to a user after a position: see SELECT_CHANGED."""
    return [row[0] for row in await database.fetch(SELECT_CHANGED, user_nid, position)]


async def fetch_left(database: Executor, user_nid: int, position: int) -> list[str]:
    """Users with whom a user has stopped sharing rooms after a position."""
    return [row[0] for row in await database.fetch(SELECT_LEFT, user_nid, position)]


async def fetch_strangers(database: Executor, user_nid: int, user_ids: Collection[str]) -> list[str]:
    """Those of some users with whom a user shares no room."""
    return [row[0] for row in await database.fetch(SELECT_STRANGERS, user_nid, list(user_ids))]


async def fetch_local_members(database: Executor, room_nids: Collection[int]) -> set[str]:
    """This node's users who are joined to any of some rooms."""
    return {row[0] for row in await database.fetch(SELECT_LOCAL_MEMBERS, list(room_nids))}


async def fetch_servers(database: Executor, room_nids: Collection[int]) -> set[str]:
    """The other servers with joined members in any of some rooms."""
    return {row[0] for row in await database.fetch(SELECT_SERVERS, list(room_nids))}


async def fetch_devices_with_keys(database: Executor, user_id: str) -> tuple[int, list[str]]:
    """A user's number, and the ids of the devices that have keys."""
    rows = await database.fetch(SELECT_DEVICES_WITH_KEYS, user_id)
    return int(rows[0][0]), [row[1] for row in rows if row[1] is not None]


async def fetch_stream_id(database: Executor, user_nid: int) -> int:
    """The id of the last update of a user's list that other servers were sent; 0 if there was none."""
    return int(await database.fetchval(SELECT_STREAM_ID, user_nid) or 0)


async def next_stream_ids(database: Executor, count: int) -> list[int]:
    """Ids for updates to send, ascending."""
    return sorted(int(row[0]) for row in await database.fetch(NEXT_STREAM_IDS, count))
