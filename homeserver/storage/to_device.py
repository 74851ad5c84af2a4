"""Messages waiting for devices. Schema: migrations/0013_encryption.sql, 0015_remote_devices.sql.

A message's position in the commit log is its place in its device's queue, and what a client acknowledges
by the token of its next sync. Source: Client-Server API, "Send-to-Device messaging".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import asyncpg

from homeserver.storage.connection import Connection, Executor

INSERT = """
INSERT INTO to_device_messages (device_nid, position, event)
SELECT * FROM unnest(string_to_array($1, ',')::integer[], string_to_array($2, ',')::bigint[], $3::bytea[])
"""
INSERT_TRANSACTIONS = """
INSERT INTO to_device_transactions (device_nid, sent_ms, type, txn_id)
SELECT * FROM unnest($1::integer[], $2::bigint[], $3::text[], $4::text[])
"""
SELECT_MESSAGES = """
SELECT position, event FROM to_device_messages
WHERE device_nid = $1 AND position > $2 AND position <= $3 ORDER BY position LIMIT $4
"""
# The same for several devices. In one piece each: a row for each message costs the driver as much as the rest
# of a sync. The rows come in order.
SELECT_FIRST = """
SELECT device_nid, after, upto, amount, found.*
FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bigint[])
    AS wanted (device_nid, after, upto, amount)
CROSS JOIN LATERAL (
    SELECT count(*), max(position), string_agg(event, ',') FROM (
        SELECT position, event FROM to_device_messages m
        WHERE m.device_nid = wanted.device_nid AND position > after AND position <= upto
        ORDER BY position LIMIT amount
    ) AS first
) AS found
"""
DELETE_DELIVERED = """
DELETE FROM to_device_messages m USING unnest($1::integer[], $2::bigint[]) AS delivered (device_nid, position)
WHERE m.device_nid = delivered.device_nid AND m.position <= delivered.position
"""
# Of each device with more than $1 bytes, the oldest beyond that. Such a queue is long, since a message has $2
# bytes at most: how long they are the index tells, a twentieth of the table, and only the long ones are read.
SHORTEN_QUEUES = """
WITH long AS (
    SELECT device_nid FROM to_device_messages GROUP BY device_nid HAVING count(*) * $2::bigint > $1::bigint
), waiting AS (
    SELECT device_nid, found.* FROM long CROSS JOIN LATERAL (
        SELECT position, sum(octet_length(event)) OVER (ORDER BY position DESC) AS newer_bytes
        FROM to_device_messages m WHERE m.device_nid = long.device_nid
    ) AS found
)
DELETE FROM to_device_messages m USING waiting w
WHERE m.device_nid = w.device_nid AND m.position = w.position AND w.newer_bytes > $1
"""
FORGET_TRANSACTIONS = "DELETE FROM to_device_transactions WHERE sent_ms < $1"


INSERT_RECEIVED = """
INSERT INTO received_messages (received_ms, origin, message_id)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[])
"""
FORGET_RECEIVED = "DELETE FROM received_messages WHERE received_ms < $1"


WantedMessages = tuple[int, int, int, int]
"""Of which device, after which position and up to which, and how many at most."""
FirstMessages = tuple[int, int, bytes]
"""How many messages there are, the last one's position, and all as members of a JSON list."""
NO_MESSAGES: FirstMessages = (0, 0, b"")


class TransactionKnown(Exception):
    """A request with this transaction id was done before."""


@dataclass(slots=True, eq=False)
class ToDeviceChange:
    """A message to one device; `event` is JSON as the device is shown it."""

    owner: str
    device_nid: int
    event: bytes
    position: int = 0
    is_visible: ClassVar[bool] = True
    room_nid: ClassVar[int] = 0

    @property
    def audience(self) -> Collection[str]:
        return (self.owner,)

    @property
    def size_bytes(self) -> int:
        return 250 + len(self.event)

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[ToDeviceChange]) -> None:
        await connection.execute(
            INSERT,
            ",".join([str(change.device_nid) for change in changes]),  # arrays cost the driver more
            ",".join([str(change.position) for change in changes]),
            [change.event for change in changes],
        )


@dataclass(slots=True, eq=False)
class ToDeviceTransaction:
    """That a device's request to send messages is done. Raises TransactionKnown if it was before."""

    device_nid: int
    sent_ms: int
    type: str
    txn_id: str
    position: int = 0
    is_visible: ClassVar[bool] = False

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[ToDeviceTransaction]) -> None:
        try:
            await connection.execute(
                INSERT_TRANSACTIONS,
                [change.device_nid for change in changes],
                [change.sent_ms for change in changes],
                [change.type for change in changes],
                [change.txn_id for change in changes],
            )
        except asyncpg.UniqueViolationError as cause:
            raise TransactionKnown from cause


@dataclass(slots=True, eq=False)
class ReceivedMessage:
    """That an EDU with messages was taken in. Raises TransactionKnown if it was before."""

    origin: str
    message_id: str
    received_ms: int
    position: int = 0
    is_visible: ClassVar[bool] = False

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[ReceivedMessage]) -> None:
        try:
            await connection.execute(
                INSERT_RECEIVED,
                [change.received_ms for change in changes],
                [change.origin for change in changes],
                [change.message_id for change in changes],
            )
        except asyncpg.UniqueViolationError as cause:
            raise TransactionKnown from cause


async def fetch_messages(
    database: Executor, device_nid: int, after: int, upto: int, limit: int
) -> list[tuple[int, bytes]]:
    """(position, event) of a device's messages after one position and up to another, in order."""
    rows = await database.fetch(SELECT_MESSAGES, device_nid, after, upto, limit)
    return [(row[0], row[1]) for row in rows]


async def fetch_first_messages(
    database: Executor, wanted: Collection[WantedMessages]
) -> dict[WantedMessages, FirstMessages]:
    """The first messages of several devices."""
    rows = await database.fetch(SELECT_FIRST, *(list(column) for column in zip(*wanted, strict=True)))
    return {
        (row[0], row[1], row[2], row[3]): (row[4], row[5], row[6]) if row[4] else NO_MESSAGES for row in rows
    }


async def delete_delivered(database: Executor, delivered: Mapping[int, int]) -> None:
    """Delete, of each device by number, the messages up to a position."""
    await database.execute(DELETE_DELIVERED, list(delivered), list(delivered.values()))


async def shorten_queues(database: Executor, bytes_max: int, *, event_bytes_max: int) -> int:
    """Delete of what waits for each device the oldest beyond so many bytes; how many messages.

    No message has more than ``event_bytes_max``.
    """
    return int((await database.execute(SHORTEN_QUEUES, bytes_max, event_bytes_max)).rpartition(" ")[2])


async def forget_transactions(database: Executor, before_ms: int) -> None:
    """Delete what is known of requests before a time."""
    await database.execute(FORGET_TRANSACTIONS, before_ms)


async def forget_received(database: Executor, before_ms: int) -> None:
    """Delete what is known of EDUs that came before a time."""
    await database.execute(FORGET_RECEIVED, before_ms)
