"""One-time keys, fallback keys, and the claims on them. Schema: migrations/0013_encryption.sql, 0020.

Claims are changes of the commit log: a batch of them is one statement, the log's lock lets one batch at a
time at the keys (whichever process writes it), and a claimed key is gone durably before anyone is told.

Keys are claimed in the order of their numbers, so a claim touches none: it moves on the number up to which a
device's keys are claimed (`claimed_keys`).
Source: Client-Server API, "One-time and fallback keys".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
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
SELECT device_nid, algorithm, CASE WHEN upto_nid IS NULL THEN amount ELSE (
    SELECT count(*) FROM one_time_keys o
    WHERE o.device_nid = stored.device_nid AND o.algorithm = stored.algorithm AND nid > upto_nid AND nid > 0
) END
FROM (
    SELECT device_nid, algorithm, count(*) AS amount FROM one_time_keys
    WHERE device_nid = ANY($1::integer[]) AND nid > 0 GROUP BY device_nid, algorithm
) AS stored
LEFT JOIN LATERAL (
    SELECT upto_nid FROM claimed_keys c
    WHERE c.device_nid = stored.device_nid AND c.algorithm = stored.algorithm LIMIT 1
) AS claimed ON true
UNION ALL
SELECT device_nid, algorithm, NULL FROM fallback_keys WHERE device_nid = ANY($1::integer[]) AND NOT is_used
ORDER BY algorithm
"""
# The keys come in order, with the place of what they are for. A scan looks at all entries of an index page
# that are in its range: so keys are looked for among the next numbers first, where those of one upload are,
# and beyond only if these are not enough: LIMIT stops at what it has. "LIMIT 1" keeps the planner from joins.
CLAIM = """
WITH found AS MATERIALIZED (
    SELECT place, wanted.device_nid, wanted.algorithm, k.*
    FROM unnest(
        string_to_array($1, ',')::integer[], string_to_array($2, E'\\n'), string_to_array($3, ',')::integer[]
    ) WITH ORDINALITY AS wanted (device_nid, algorithm, amount, place)
    LEFT JOIN LATERAL (
        SELECT upto_nid FROM claimed_keys c
        WHERE c.device_nid = wanted.device_nid AND c.algorithm = wanted.algorithm LIMIT 1
    ) AS claimed ON true
    CROSS JOIN LATERAL (
        (SELECT nid, key_id, json FROM one_time_keys o
        WHERE o.device_nid = wanted.device_nid AND o.algorithm = wanted.algorithm AND nid > 0
            AND nid > upto_nid AND nid <= upto_nid + amount
        ORDER BY nid)
        UNION ALL
        (SELECT nid, key_id, json FROM one_time_keys o
        WHERE o.device_nid = wanted.device_nid AND o.algorithm = wanted.algorithm AND nid > 0
            AND nid > coalesce(upto_nid + amount, 0)
        ORDER BY nid)
        LIMIT amount
    ) AS k
), moved AS (
    INSERT INTO claimed_keys (device_nid, algorithm, upto_nid)
    SELECT device_nid, algorithm, max(nid) FROM found GROUP BY device_nid, algorithm
    ON CONFLICT (device_nid, algorithm) DO UPDATE SET upto_nid = excluded.upto_nid
)
SELECT place, key_id, json FROM found
"""
SELECT_FALLBACK = """
SELECT device_nid, algorithm, key_id, json, is_used FROM fallback_keys
WHERE (device_nid, algorithm) IN (SELECT * FROM unnest($1::integer[], $2::text[]))
"""
USE_FALLBACK = """
UPDATE fallback_keys SET is_used = true
WHERE (device_nid, algorithm) IN (SELECT * FROM unnest($1::integer[], $2::text[]))
"""
# What had been claimed when it was noted, if that was before $1.
FORGET_CLAIMED = """
DELETE FROM one_time_keys o USING claimed_keys c
WHERE c.noted_ms < $1 AND o.device_nid = c.device_nid AND o.algorithm = c.algorithm AND o.nid <= c.noted_nid
"""
# Note how much is claimed by now, or that nothing is but what was forgotten. Waits for no claim, which may be
# waiting for this.
NOTE_CLAIMED = """
UPDATE claimed_keys c SET noted_nid = upto_nid, noted_ms = CASE WHEN upto_nid > noted_nid THEN $2::bigint END
FROM (
    SELECT device_nid, algorithm FROM claimed_keys
    WHERE noted_ms < $1 OR noted_ms IS NULL AND upto_nid > noted_nid
    FOR UPDATE SKIP LOCKED
) AS due
WHERE c.device_nid = due.device_nid AND c.algorithm = due.algorithm
"""

STORED_KEYS_MAX = 5000  # unclaimed one-time keys of a device

KeyName = tuple[str, str]
"""Algorithm and key id."""
WantedKey = tuple[int, str]
"""Number of the device, and algorithm, which is printable."""
ClaimedKey = tuple[str, bytes, bool]
"""Key id, the key as JSON, and whether it is a fallback key."""


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
    """The claims of one request, each on a key of another device.

    `owners` are the users of the devices that are `wanted`. When it is written, `keys` is what each of them
    got, in the same order, or None where there was nothing.
    """

    wanted: Sequence[WantedKey]
    owners: Sequence[str]
    keys: Sequence[ClaimedKey | None] = ()
    audience: Collection[str] = ()
    position: int = 0
    is_visible: ClassVar[bool] = True
    room_nid: ClassVar[int] = 0
    owner: ClassVar[None] = None
    size_bytes: ClassVar[int] = 300  # without what `forget` drops

    def forget(self) -> None:
        """The tail keeps the change: what it brought is of no interest there."""
        self.wanted, self.owners, self.keys, self.audience = (), (), (), ()

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[ClaimChange]) -> None:
        amounts = Counter(chain.from_iterable(change.wanted for change in changes))
        nids, algorithms = zip(*amounts, strict=True)
        rows = await connection.fetch(
            CLAIM,
            ",".join(map(str, nids)),  # arrays cost the driver more
            "\n".join(algorithms),
            ",".join(map(str, amounts.values())),
        )
        found: list[list[ClaimedKey]] = [[] for _ in amounts]
        for place, key_id, json in rows:
            found[place - 1].append((key_id, json, False))
        left = {wanted: iter(keys) for wanted, keys in zip(amounts, found, strict=True)}
        fallback: Mapping[WantedKey, ClaimedKey] = {}
        if len(rows) < amounts.total():
            pairs = zip(amounts.items(), found, strict=True)
            unmet = [wanted for (wanted, amount), keys in pairs if len(keys) < amount]
            fallback = await _claim_fallback(connection, unmet)
        for change in changes:
            change.keys = [next(left[wanted], None) or fallback.get(wanted) for wanted in change.wanted]
            change.audience = {
                owner for owner, key in zip(change.owners, change.keys, strict=True) if key is not None
            }


async def _claim_fallback(
    connection: Connection, wanted: Sequence[WantedKey]
) -> Mapping[WantedKey, ClaimedKey]:
    rows = await connection.fetch(SELECT_FALLBACK, *zip(*wanted, strict=True))
    unused = [(nid, algorithm) for nid, algorithm, _, _, is_used in rows if not is_used]
    if unused:
        await connection.execute(USE_FALLBACK, *zip(*unused, strict=True))
    return {(nid, algorithm): (key_id, json, True) for nid, algorithm, key_id, json, _ in rows}


async def fetch_counts(database: Executor, device_nids: Collection[int]) -> dict[int, StoredCounts]:
    """The counts of each of some devices."""
    found = {nid: StoredCounts() for nid in device_nids}
    for nid, algorithm, count in await database.fetch(COUNT_UNCLAIMED, list(device_nids)):
        if count is None:
            found[nid].unused_fallback.append(algorithm)
        elif count > 0:
            found[nid].one_time[algorithm] = count
    return found


async def forget_claimed(database: Executor, before_ms: int, now_ms: int) -> None:
    """Delete keys of which it was noted before a time that they were claimed, and note what is by now."""
    await database.execute(FORGET_CLAIMED, before_ms)
    await database.execute(NOTE_CLAIMED, before_ms, now_ms)


def _columns(
    rows: Sequence[tuple[int, str, str, bytes]],
) -> tuple[list[int], list[str], list[str], list[bytes]]:
    return (
        [row[0] for row in rows],
        [row[1] for row in rows],
        [row[2] for row in rows],
        [row[3] for row in rows],
    )
