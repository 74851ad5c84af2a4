"""Account data: what a user's clients keep on the node, of the account (room 0) or of one room.

Source: Client-Server API, "Client Config".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

import orjson

from homeserver.storage.connection import Connection, Pool

SELECT_ONE = "SELECT position, content FROM account_data WHERE user_nid = $1 AND room_nid = $2 AND type = $3"
SELECT_SINCE = """
SELECT room_nid, position, type, content FROM account_data
WHERE user_nid = $1 AND position > $2 ORDER BY position
"""
# The same for several users. In each one's order, by the index.
SELECT_SINCE_EACH = """
SELECT wanted.user_nid, wanted.since, found.*
FROM unnest($1::integer[], $2::bigint[]) AS wanted (user_nid, since)
CROSS JOIN LATERAL (
    SELECT room_nid, position, type, content FROM account_data a
    WHERE a.user_nid = wanted.user_nid AND position > since ORDER BY position
) AS found
"""
SELECT_OF_TYPES = """
SELECT room_nid, position, type, content FROM account_data WHERE user_nid = $1 AND type = ANY($2::text[])
"""
SELECT_OF_ROOMS = """
SELECT room_nid, position, type, content FROM account_data
WHERE user_nid = $1 AND room_nid = ANY($2::integer[]) ORDER BY position
"""
SELECT_OF_TYPE = """
SELECT users.user_id, account_data.content FROM users
LEFT JOIN account_data ON account_data.user_nid = users.nid AND account_data.room_nid = 0
    AND account_data.type = $2
WHERE users.user_id = ANY($1::text[])
"""
COUNT_OTHERS = """
SELECT count(*), coalesce(sum(octet_length(content)), 0) FROM (
    SELECT content FROM account_data WHERE user_nid = $1 AND (room_nid, type) <> ($2, $3) LIMIT $4
) AS others
"""
COUNT_CONFLICTS = """
SELECT count(*) FROM unnest($1::int[], $2::int[], $3::text[], $4::bigint[])
    AS expected (user_nid, room_nid, type, position)
LEFT JOIN account_data USING (user_nid, room_nid, type)
WHERE coalesce(account_data.position, 0) <> expected.position
"""
UPSERT = """
INSERT INTO account_data (user_nid, room_nid, position, type, content)
SELECT * FROM unnest($1::int[], $2::int[], $3::bigint[], $4::text[], $5::bytea[])
ON CONFLICT (user_nid, room_nid, type)
DO UPDATE SET position = excluded.position, content = excluded.content
"""

Key = tuple[int, int, str]


class AccountDataConflict(Exception):
    """The row changed since it was read (`AccountDataChange.replaces`): read it again."""


@dataclass(frozen=True, slots=True)
class AccountDataRow:
    """One stored entry; ``content`` is JSON."""

    room_nid: int
    position: int
    type: str
    content: bytes


def encode_event(event_type: str, content: bytes) -> bytes:
    """The event that clients get for an entry; ``content`` is JSON."""
    return b'{"type":' + orjson.dumps(event_type) + b',"content":' + content + b"}"


@dataclass(slots=True, eq=False)
class AccountDataChange:
    """A new entry, or a new value of one.

    ``content`` is what to store, ``event`` what clients get (`encode_event`): the two differ where
    only the difference from a default is stored. ``replaces`` is the position that the stored row
    must still have, 0 if there must be none; None writes unconditionally.
    """

    owner: str
    user_nid: int
    room_nid: int
    type: str
    content: bytes
    event: bytes
    replaces: int | None = None
    position: int = 0
    is_visible: ClassVar[bool] = True

    @property
    def audience(self) -> Collection[str]:
        return (self.owner,)

    @property
    def size_bytes(self) -> int:
        return 400 + len(self.content) + len(self.event)

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[AccountDataChange]) -> None:
        """Store the changes. Raises AccountDataConflict if one replaces what is no longer there."""
        last: dict[Key, AccountDataChange] = {}
        conditional: list[AccountDataChange] = []
        for change in changes:
            key = (change.user_nid, change.room_nid, change.type)
            if change.replaces is not None:
                if key in last:  # of the same batch, so not yet seen when this one was made
                    raise AccountDataConflict
                conditional.append(change)
            last[key] = change
        if conditional:
            conflicts = await connection.fetchval(
                COUNT_CONFLICTS,
                [change.user_nid for change in conditional],
                [change.room_nid for change in conditional],
                [change.type for change in conditional],
                [change.replaces for change in conditional],
            )
            if conflicts:
                raise AccountDataConflict
        await connection.execute(
            UPSERT,
            [change.user_nid for change in last.values()],
            [change.room_nid for change in last.values()],
            [change.position for change in last.values()],
            [change.type for change in last.values()],
            [change.content for change in last.values()],
        )


async def fetch_entry(
    source: Connection | Pool, user_nid: int, room_nid: int, event_type: str
) -> AccountDataRow | None:
    """One entry, or None."""
    row = await source.fetchrow(SELECT_ONE, user_nid, room_nid, event_type)
    return AccountDataRow(room_nid, row["position"], event_type, row["content"]) if row else None


async def fetch_entries_since(
    source: Connection | Pool, user_nid: int, position: int
) -> list[AccountDataRow]:
    """All entries of a user that changed after ``position``, the oldest first; 0 gives all there are."""
    rows = await source.fetch(SELECT_SINCE, user_nid, position)
    return [AccountDataRow(*row) for row in rows]


async def fetch_entries_since_each(
    source: Connection | Pool, wanted: Collection[tuple[int, int]]
) -> dict[tuple[int, int], list[AccountDataRow]]:
    """As `fetch_entries_since`, for several (user, position)."""
    found: dict[tuple[int, int], list[AccountDataRow]] = {key: [] for key in wanted}
    rows = await source.fetch(SELECT_SINCE_EACH, *(list(column) for column in zip(*wanted, strict=True)))
    for user_nid, since, *entry in rows:
        found[user_nid, since].append(AccountDataRow(*entry))
    return found


async def fetch_entries_of_types(
    source: Connection | Pool, user_nid: int, types: Sequence[str]
) -> list[AccountDataRow]:
    """A user's entries of some types, of the account and of all rooms."""
    return [AccountDataRow(*row) for row in await source.fetch(SELECT_OF_TYPES, user_nid, types)]


async def fetch_entries_of_rooms(
    source: Connection | Pool, user_nid: int, room_nids: Collection[int]
) -> list[AccountDataRow]:
    """A user's entries of some rooms, the oldest first; room 0 is the account."""
    return [AccountDataRow(*row) for row in await source.fetch(SELECT_OF_ROOMS, user_nid, list(room_nids))]


async def fetch_of_users(
    source: Connection | Pool, user_ids: Collection[str], event_type: str
) -> dict[str, bytes | None]:
    """The global entry of one type of each of the users who are known here; None where there is none."""
    return {row[0]: row[1] for row in await source.fetch(SELECT_OF_TYPE, list(user_ids), event_type)}


async def count_other_entries(
    source: Connection | Pool, user_nid: int, room_nid: int, event_type: str, *, most: int
) -> tuple[int, int]:
    """How many other entries the user has, counted up to ``most``, and the bytes of their content."""
    [(count, size_bytes)] = await source.fetch(COUNT_OTHERS, user_nid, room_nid, event_type, most)
    return int(count), int(size_bytes)
