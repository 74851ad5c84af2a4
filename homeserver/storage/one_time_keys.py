"""One-time keys, fallback keys, and the claims on them. Schema: migrations/0013_encryption.sql.

Claims are changes of the commit log: a batch of them is one statement, the log's lock lets one batch at a
time at the keys (whichever process writes it), and a claimed key is gone durably before anyone is told.
Source: Client-Server API, "One-time and fallback keys".
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from homeserver.storage.connection import Connection, Executor

# The log's lock lets one batch at a time at the keys: a look before is enough, and costs a fifth less than
# ON CONFLICT. As a subquery it stays a look by the index, whatever the planner thinks of the table.
INSERT = """
INSERT INTO one_time_keys (device_nid, algorithm, key_id, json)
SELECT *
FROM unnest($1::integer[], $2::text[], $3::text[], $4::bytea[]) AS given (device_nid, algorithm, key_id, json)
WHERE (SELECT true FROM one_time_keys o WHERE o.device_nid = given.device_nid
    AND o.algorithm = given.algorithm AND o.key_id = given.key_id) IS NULL
"""
SELECT_DIFFERING = """
SELECT given.algorithm, given.key_id
FROM unnest($1::integer[], $2::text[], $3::text[], $4::bytea[]) AS given (device_nid, algorithm, key_id, json)
JOIN one_time_keys o ON o.device_nid = given.device_nid AND o.algorithm = given.algorithm
    AND o.key_id = given.key_id
WHERE o.json <> given.json LIMIT 1
"""
UPSERT_FALLBACK = """
INSERT INTO fallback_keys (device_nid, algorithm, key_id, json)
SELECT * FROM unnest($1::integer[], $2::text[], $3::text[], $4::bytea[])
ON CONFLICT (device_nid, algorithm) DO UPDATE SET key_id = excluded.key_id, json = excluded.json,
    -- the same key once more is as used as it was
    is_used = fallback_keys.is_used AND fallback_keys.json = excluded.json
"""
# Counts of one-time keys, and NULL for an unused fallback key.
COUNT_UNCLAIMED = """
SELECT device_nid, algorithm, count(*) FROM one_time_keys
WHERE device_nid = ANY($1::integer[]) AND claimed_ms IS NULL GROUP BY device_nid, algorithm
UNION ALL
SELECT device_nid, algorithm, NULL FROM fallback_keys WHERE device_nid = ANY($1::integer[]) AND NOT is_used
ORDER BY algorithm
"""
# No row is locked: the log's lock lets one batch of claims at a time at the keys.
CLAIM = """
UPDATE one_time_keys SET claimed_ms = $4 WHERE ctid = ANY(ARRAY(
    SELECT k.ctid
    FROM unnest($1::integer[], $2::text[], $3::integer[]) AS wanted (device_nid, algorithm, amount)
    CROSS JOIN LATERAL (
        SELECT ctid FROM one_time_keys o
        WHERE o.device_nid = wanted.device_nid AND o.algorithm = wanted.algorithm AND o.claimed_ms IS NULL
        ORDER BY nid LIMIT wanted.amount
    ) AS k
))
RETURNING nid, device_nid, algorithm, key_id, json
"""
SELECT_FALLBACK = """
SELECT device_nid, algorithm, key_id, json, is_used FROM fallback_keys
WHERE (device_nid, algorithm) IN (SELECT * FROM unnest($1::integer[], $2::text[]))
"""
USE_FALLBACK = """
UPDATE fallback_keys SET is_used = true
WHERE (device_nid, algorithm) IN (SELECT * FROM unnest($1::integer[], $2::text[]))
"""
FORGET_CLAIMED = "DELETE FROM one_time_keys WHERE claimed_ms < $1"

STORED_KEYS_MAX = 5000  # unclaimed one-time keys of a device

KeyName = tuple[str, str]
"""Algorithm and key id."""


class OneTimeKeyDiffers(Exception):
    """The device uploaded another one-time key under the same name before."""


class TooManyOneTimeKeys(Exception):
    """The device has more than STORED_KEYS_MAX keys that are not claimed."""


@dataclass(slots=True)
class StoredCounts:
    """Of one device: unclaimed one-time keys by algorithm, and algorithms with an unused fallback key."""

    one_time: dict[str, int] = field(default_factory=dict)
    unused_fallback: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class OneTimeKeysChange:
    """Keys that a device uploaded, by algorithm and key id, as JSON.

    When it is written, `added` says how many of each algorithm are new; or `counts`, how many there are then:
    where it ``is_counted``, with fallback keys, and where some were there already. Raises OneTimeKeyDiffers,
    TooManyOneTimeKeys (as far as they are counted).
    """

    device_nid: int
    keys: Mapping[KeyName, bytes]
    fallback: Mapping[KeyName, bytes]
    is_counted: bool = False
    added: Mapping[str, int] = field(default_factory=dict)
    counts: StoredCounts | None = None
    position: int = 0
    is_visible: ClassVar[bool] = False  # the device has the answer to its request

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[OneTimeKeysChange]) -> None:
        keys = [(change.device_nid, *name, json) for change in changes for name, json in change.keys.items()]
        all_new = await _insert(connection, keys) if keys else True
        # A row can be written once a statement, so the last key of a batch stands for all.
        last = {
            (change.device_nid, name[0]): (change.device_nid, *name, json)
            for change in changes
            for name, json in change.fallback.items()
        }
        if last:
            await connection.execute(UPSERT_FALLBACK, *_columns(list(last.values())))
        counted = [change for change in changes if change.is_counted or change.fallback or not all_new]
        if counted:
            await _count(connection, counted)
        for change in changes:
            change.added = Counter(algorithm for algorithm, _ in change.keys)


async def _insert(connection: Connection, keys: Sequence[tuple[int, str, str, bytes]]) -> bool:
    """Whether all keys were new."""
    columns = _columns(keys)
    status = await connection.execute(INSERT, *columns)
    if status == f"INSERT 0 {len(keys)}":
        return True
    for name in await connection.fetch(SELECT_DIFFERING, *columns):
        raise OneTimeKeyDiffers(":".join(name))
    return False


async def _count(connection: Connection, changes: Sequence[OneTimeKeysChange]) -> None:
    counts = await fetch_counts(connection, [change.device_nid for change in changes])
    for change in changes:
        change.counts = counts[change.device_nid]
        if sum(change.counts.one_time.values()) > STORED_KEYS_MAX:
            raise TooManyOneTimeKeys


@dataclass(slots=True, eq=False)
class ClaimChange:
    """A claim on a key of a device. `key` is what it got: the key id and the JSON, or None."""

    owner: str
    device_nid: int
    algorithm: str
    claimed_ms: int
    key: tuple[str, bytes] | None = None
    is_fallback: bool = False
    position: int = 0
    is_visible: ClassVar[bool] = True
    room_nid: ClassVar[int] = 0

    @property
    def audience(self) -> Collection[str]:
        return (self.owner,) if self.key is not None else ()

    @property
    def size_bytes(self) -> int:
        return 300 + (len(self.key[1]) if self.key is not None else 0)

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[ClaimChange]) -> None:
        amounts = Counter((change.device_nid, change.algorithm) for change in changes)
        rows = await connection.fetch(
            CLAIM,
            [nid for nid, _ in amounts],
            [algorithm for _, algorithm in amounts],
            list(amounts.values()),
            changes[0].claimed_ms,
        )
        found: dict[tuple[int, str], deque[tuple[str, bytes]]] = {}
        for row in sorted(rows, key=lambda row: int(row["nid"])):
            found.setdefault((row["device_nid"], row["algorithm"]), deque()).append(
                (row["key_id"], row["json"])
            )
        unmet: list[ClaimChange] = []
        for change in changes:
            keys = found.get((change.device_nid, change.algorithm))
            change.key = keys.popleft() if keys else None
            change.is_fallback = False
            if change.key is None:
                unmet.append(change)
        if unmet:
            await _claim_fallback(connection, unmet)


async def _claim_fallback(connection: Connection, changes: Sequence[ClaimChange]) -> None:
    wanted = list({(change.device_nid, change.algorithm) for change in changes})
    rows = await connection.fetch(
        SELECT_FALLBACK, [nid for nid, _ in wanted], [algorithm for _, algorithm in wanted]
    )
    keys = {(row["device_nid"], row["algorithm"]): (row["key_id"], row["json"]) for row in rows}
    for change in changes:
        change.key = keys.get((change.device_nid, change.algorithm))
        change.is_fallback = True
    unused = [(row["device_nid"], row["algorithm"]) for row in rows if not row["is_used"]]
    if unused:
        await connection.execute(
            USE_FALLBACK, [nid for nid, _ in unused], [algorithm for _, algorithm in unused]
        )


async def fetch_counts(database: Executor, device_nids: Collection[int]) -> dict[int, StoredCounts]:
    """The counts of each of some devices."""
    found = {nid: StoredCounts() for nid in device_nids}
    for nid, algorithm, count in await database.fetch(COUNT_UNCLAIMED, list(device_nids)):
        if count is None:
            found[nid].unused_fallback.append(algorithm)
        else:
            found[nid].one_time[algorithm] = count
    return found


async def forget_claimed(database: Executor, before_ms: int) -> None:
    """Delete keys that were claimed before a time."""
    await database.execute(FORGET_CLAIMED, before_ms)


def _columns(
    rows: Sequence[tuple[int, str, str, bytes]],
) -> tuple[list[int], list[str], list[str], list[bytes]]:
    return (
        [row[0] for row in rows],
        [row[1] for row in rows],
        [row[2] for row in rows],
        [row[3] for row in rows],
    )
