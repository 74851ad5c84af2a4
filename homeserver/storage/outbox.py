"""What is to be sent to other servers: the schema is migrations/0008_outbox.sql.

Rows are written with what they are about, in the committer's transaction: it locks the stream, so no two of
them give a server a number.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from homeserver.clock import now_ms
from homeserver.storage.connection import Connection, Executor

# Each distinct set of servers is looked up once: $1 and $2 are the sets' numbers and names.
WRITE = """
WITH named AS (
    SELECT * FROM unnest($1::integer[], $2::text[]) AS n (number, server_name)
), added AS (
    INSERT INTO destinations (server_name)
    SELECT DISTINCT server_name FROM named
    WHERE NOT EXISTS (SELECT 1 FROM destinations d WHERE d.server_name = named.server_name)
    RETURNING nid, server_name
), sets AS (
    SELECT named.number, array_agg(found.nid) AS nids FROM named CROSS JOIN LATERAL (
        SELECT d.nid FROM destinations d WHERE d.server_name = named.server_name
        UNION ALL
        SELECT a.nid FROM added a WHERE a.server_name = named.server_name
    ) AS found
    GROUP BY named.number
)
INSERT INTO federation_outbox (position, added_ms, event_nid, edu, edu_replaces, destinations)
SELECT w.position, $3, w.event_nid, w.edu, w.edu_replaces, sets.nids
FROM unnest($4::integer[], $5::bigint[], $6::bigint[], $7::bytea[], $8::text[])
    AS w (number, position, event_nid, edu, edu_replaces)
    JOIN sets USING (number)"""

# What one server is to get, oldest first.
AFTER = """
SELECT o.position, o.added_ms, e.event_id, coalesce(e.json, o.edu) AS json
FROM federation_outbox o
LEFT JOIN LATERAL (SELECT * FROM events WHERE nid = o.event_nid OFFSET 0) AS e ON true
WHERE o.position > $2 AND o.position <= $3 AND coalesce(e.json, o.edu) IS NOT NULL
    AND (SELECT nid FROM destinations WHERE server_name = $1) = ANY(o.destinations)
ORDER BY o.position LIMIT $4"""

_DESTINATION = """
SELECT d.server_name, d.cursor, d.failures, d.retry_at_ms, d.last_success_ms,
    coalesce(w.events, 0) AS events, coalesce(w.edus, 0) AS edus, coalesce(w.oldest_ms, 0) AS oldest_ms
FROM destinations d LEFT JOIN (
    SELECT d.nid, count(o.event_nid) AS events, count(o.edu) AS edus, min(o.added_ms) AS oldest_ms
    FROM federation_outbox o CROSS JOIN LATERAL unnest(o.destinations) AS named (nid)
        JOIN destinations d ON d.nid = named.nid AND d.cursor < o.position
    GROUP BY d.nid
) AS w ON w.nid = d.nid"""
UNFINISHED = f"{_DESTINATION} WHERE d.failures > 0 OR w.nid IS NOT NULL"
ALL = f"{_DESTINATION} ORDER BY d.server_name"

STORE_PROGRESS = """
UPDATE destinations SET cursor = greatest(destinations.cursor, p.cursor), failures = p.failures,
    retry_at_ms = p.retry_at_ms, last_success_ms = greatest(destinations.last_success_ms, p.last_success_ms)
FROM unnest($1::text[], $2::bigint[], $3::integer[], $4::bigint[], $5::bigint[])
    AS p (server_name, cursor, failures, retry_at_ms, last_success_ms)
WHERE destinations.server_name = p.server_name"""

# What all its destinations have.
DELETE_DELIVERED = """
DELETE FROM federation_outbox WHERE position IN (
    SELECT o.position FROM federation_outbox o
    WHERE NOT EXISTS (
        SELECT 1 FROM destinations d WHERE d.nid = ANY(o.destinations) AND d.cursor < o.position)
    ORDER BY o.position LIMIT $1
)"""

# For servers that do not answer: of each room with more events than $3, or of those older than $4, only the
# newest $2 are kept.
SHORTEN_EVENTS = """
WITH waiting AS (
    SELECT o.position, d.nid, o.added_ms,
        row_number() OVER (PARTITION BY d.nid, e.room_nid ORDER BY o.position DESC) AS newer,
        count(*) OVER (PARTITION BY d.nid, e.room_nid) AS total
    FROM destinations d JOIN federation_outbox o ON o.position > d.cursor AND d.nid = ANY(o.destinations)
        JOIN events e ON e.nid = o.event_nid
    WHERE d.server_name = ANY($1::text[])
), lapsed AS (
    SELECT position, array_agg(nid) AS nids FROM waiting
    WHERE newer > $2 AND (total > $3 OR added_ms < $4) GROUP BY position
)
UPDATE federation_outbox o SET destinations = ARRAY(
    SELECT unnest(o.destinations) EXCEPT SELECT unnest(lapsed.nids))
FROM lapsed WHERE o.position = lapsed.position"""

# The same of EDUs: of more than $2 that later ones may replace, those are dropped that are replaced; of all
# others, the oldest beyond $3 bytes.
SHORTEN_EDUS = """
WITH waiting AS (
    SELECT o.position, d.nid, o.edu_replaces IS NULL AS counts,
        row_number() OVER (PARTITION BY d.nid, o.edu_replaces ORDER BY o.position DESC) AS newer,
        count(*) OVER (PARTITION BY d.nid, o.edu_replaces IS NULL) AS total,
        sum(octet_length(o.edu)) OVER (
            PARTITION BY d.nid, o.edu_replaces IS NULL ORDER BY o.position DESC) AS newer_bytes
    FROM destinations d JOIN federation_outbox o ON o.position > d.cursor AND d.nid = ANY(o.destinations)
    WHERE d.server_name = ANY($1::text[]) AND o.edu IS NOT NULL
), lapsed AS (
    SELECT position, array_agg(nid) AS nids, bool_or(counts) AS counts FROM waiting
    WHERE CASE WHEN counts THEN newer_bytes > $3 ELSE newer > 1 AND total > $2 END
    GROUP BY position
), shortened AS (
    UPDATE federation_outbox o SET destinations = ARRAY(
        SELECT unnest(o.destinations) EXCEPT SELECT unnest(lapsed.nids))
    FROM lapsed WHERE o.position = lapsed.position
)
SELECT count(*) FILTER (WHERE counts), count(*) FILTER (WHERE NOT counts) FROM lapsed"""

# An administrator's word: the running node looks for it.
RETRY = "UPDATE destinations SET retry_at_ms = 0 WHERE server_name = $1 AND failures > 0 RETURNING 1"
TO_RETRY = "SELECT server_name FROM destinations WHERE failures > 0 AND retry_at_ms = 0"


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """What some servers are to get: an event, by its number, or an EDU.

    ``edu_replaces`` is what the EDU is about, where it makes those before that are about it superfluous.
    """

    position: int
    destinations: Collection[str]
    event_nid: int | None = None
    edu: bytes | None = None
    edu_replaces: str | None = None


async def write(connection: Connection, rows: Sequence[OutboxRow]) -> None:
    """Put rows into the outbox, each with at least one destination."""
    numbers: dict[frozenset[str], int] = {}
    of_rows = [numbers.setdefault(frozenset(row.destinations), len(numbers)) for row in rows]
    named = [(number, server_name) for servers, number in numbers.items() for server_name in servers]
    await connection.execute(
        WRITE,
        [number for number, _ in named],
        [server_name for _, server_name in named],
        now_ms(),
        of_rows,
        [row.position for row in rows],
        [row.event_nid for row in rows],
        [row.edu for row in rows],
        [row.edu_replaces for row in rows],
    )


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """Something that a server has not got yet: an event, or an EDU (``event_id`` is None)."""

    position: int
    added_ms: int
    event_id: str | None
    json: bytes


@dataclass(frozen=True, slots=True)
class DestinationRow:
    """How sending to a server fares, and what waits for it; ``oldest_ms`` is 0 if nothing does."""

    server_name: str
    cursor: int
    failures: int
    retry_at_ms: int
    last_success_ms: int
    events: int
    edus: int
    oldest_ms: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What has changed of a server. A cursor only moves forward."""

    server_name: str
    cursor: int
    failures: int
    retry_at_ms: int
    last_success_ms: int


async def after(source: Executor, server_name: str, cursor: int, upto: int, limit: int) -> list[WaitingRow]:
    """The oldest of what a server is to get, with cursor < position <= upto."""
    return [WaitingRow(*row) for row in await source.fetch(AFTER, server_name, cursor, upto, limit)]


async def unfinished(source: Executor) -> list[DestinationRow]:
    """Servers for which something waits, or that failed last."""
    return [DestinationRow(*row) for row in await source.fetch(UNFINISHED)]


async def all_destinations(source: Executor) -> list[DestinationRow]:
    """All servers that anything was ever sent to, by name."""
    return [DestinationRow(*row) for row in await source.fetch(ALL)]


async def store_progress(source: Executor, progress: Sequence[Progress]) -> None:
    """Keep how far servers are."""
    await source.execute(
        STORE_PROGRESS,
        [each.server_name for each in progress],
        [each.cursor for each in progress],
        [each.failures for each in progress],
        [each.retry_at_ms for each in progress],
        [each.last_success_ms for each in progress],
    )


async def delete_delivered(source: Executor, limit: int) -> int:
    """Delete rows that all their destinations have; how many there were, at most ``limit``."""
    return _count(await source.execute(DELETE_DELIVERED, limit))


async def shorten_events(
    source: Executor, server_names: Sequence[str], *, keep: int, events_max: int, older_than_ms: int
) -> int:
    """Let servers that do not answer miss events that are too many or too old; how many rows it concerned."""
    return _count(await source.execute(SHORTEN_EVENTS, server_names, keep, events_max, older_than_ms))


async def shorten_edus(
    source: Executor, server_names: Sequence[str], *, replaceable_max: int, bytes_max: int
) -> tuple[int, int]:
    """Drop EDUs for servers that do not answer: those that later ones replace, where there are many, and what
    is too much. How many rows are lost to somebody, and how many are replaced.
    """
    [(lost, replaced)] = await source.fetch(SHORTEN_EDUS, server_names, replaceable_max, bytes_max)
    return int(lost), int(replaced)


async def retry(source: Executor, server_name: str) -> bool:
    """Have the running node try a server at once; False if it has not failed."""
    return await source.fetchval(RETRY, server_name) is not None


async def to_retry(source: Executor) -> list[str]:
    """Servers that an administrator wants tried at once."""
    return [row["server_name"] for row in await source.fetch(TO_RETRY)]


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])
