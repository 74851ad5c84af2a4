"""Events that users have scheduled. Schema: migrations/0012_delayed_events.sql. Source: MSC4140."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from homeserver.storage.connection import Connection, Executor, Row
from homeserver.storage.events import COLUMNS

_FROM = """
SELECT d.nid, d.delay_id, d.send_at_ms, d.started_ms, d.delay_ms, d.position, d.room_nid, rooms.room_id,
    d.type, d.state_key, d.content, d.user_nid, users.user_id, d.device_nid, accounts.is_guest,
    accounts.is_suspended OR accounts.is_locked
FROM delayed_events d JOIN rooms ON rooms.nid = d.room_nid JOIN users ON users.nid = d.user_nid
JOIN accounts ON accounts.user_nid = d.user_nid
"""
SELECT_DUE = f"""{_FROM}
WHERE d.send_at_ms <= $1 AND d.room_nid <> ALL($2::integer[]) ORDER BY d.send_at_ms, d.nid LIMIT $3
"""
SELECT_ONE = f"{_FROM} WHERE d.delay_id = $1"
SELECT_OF_USER = f"{_FROM} WHERE d.user_nid = $1 ORDER BY d.send_at_ms, d.nid"
SELECT_OF_TRANSACTION = """
SELECT delay_id FROM delayed_events WHERE device_nid = $1 AND txn_id = $2 AND room_nid = $3 AND type = $4
"""
SELECT_NEXT = "SELECT min(send_at_ms) FROM delayed_events WHERE room_nid <> ALL($1::integer[])"
SELECT_USE = "SELECT count(*), min(send_at_ms) FROM delayed_events WHERE user_nid = $1"
INSERT = """
INSERT INTO delayed_events (send_at_ms, started_ms, delay_ms, position, user_nid, device_nid, room_nid,
    delay_id, type, state_key, txn_id, content)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""
RESTART = """
UPDATE delayed_events SET started_ms = $2, send_at_ms = $2 + delay_ms WHERE nid = $1
"""
SET_TIME = "UPDATE delayed_events SET send_at_ms = $2 WHERE nid = $1"
DELETE = "DELETE FROM delayed_events WHERE nid = ANY($1::bigint[])"
DELETE_OF_USER = "DELETE FROM delayed_events WHERE user_nid = $1"
NEWER_STATE = f"""
SELECT {COLUMNS} FROM events e
WHERE e.room_nid = $1 AND e.type = $2 AND e.state_key = $3 AND e.nid > $4 AND e.flags = 0
ORDER BY e.nid DESC LIMIT $5
"""


@dataclass(frozen=True, slots=True)
class DelayedEventRow:
    """One scheduled event, and its sender's account; ``content`` is JSON, ``state_key`` None for messages.

    `is_suspended` is of locked accounts too: neither may send anything.
    """

    nid: int
    delay_id: str
    send_at_ms: int
    started_ms: int
    delay_ms: int
    position: int
    room_nid: int
    room_id: str
    type: str
    state_key: str | None
    content: bytes
    user_nid: int
    user_id: str
    device_nid: int
    is_guest: bool
    is_suspended: bool


async def fetch_due(
    source: Executor, now_ms: int, but_rooms: Collection[int], limit: int
) -> list[DelayedEventRow]:
    """What is to be sent by now into other rooms than these, in order."""
    rows = await source.fetch(SELECT_DUE, now_ms, list(but_rooms), limit)
    return [DelayedEventRow(*row) for row in rows]


async def fetch_next_ms(source: Executor, but_rooms: Collection[int]) -> int | None:
    """When the next one is due in another room than these; None if there is none."""
    next_ms: int | None = await source.fetchval(SELECT_NEXT, list(but_rooms))
    return next_ms


async def fetch_one(source: Executor, delay_id: str) -> DelayedEventRow | None:
    row = await source.fetchrow(SELECT_ONE, delay_id)
    return DelayedEventRow(*row) if row is not None else None


async def fetch_of_user(source: Executor, user_nid: int) -> list[DelayedEventRow]:
    """All of a user's, the next one first."""
    return [DelayedEventRow(*row) for row in await source.fetch(SELECT_OF_USER, user_nid)]


async def fetch_of_transaction(
    source: Executor, device_nid: int, txn_id: str, room_nid: int, event_type: str
) -> str | None:
    """The delay id of what was scheduled with a transaction id, as long as it waits."""
    delay_id: str | None = await source.fetchval(
        SELECT_OF_TRANSACTION, device_nid, txn_id, room_nid, event_type
    )
    return delay_id


async def fetch_use(source: Executor, user_nid: int) -> tuple[int, int | None]:
    """How many of a user's wait, and when the next one is due."""
    [(count, next_ms)] = await source.fetch(SELECT_USE, user_nid)
    return int(count), next_ms


async def insert(
    connection: Connection,
    *,
    send_at_ms: int,
    started_ms: int,
    position: int,
    user_nid: int,
    device_nid: int,
    room_nid: int,
    delay_id: str,
    event_type: str,
    state_key: str | None,
    txn_id: str | None,
    content: bytes,
) -> None:
    await connection.execute(
        INSERT,
        send_at_ms,
        started_ms,
        send_at_ms - started_ms,
        position,
        user_nid,
        device_nid,
        room_nid,
        delay_id,
        event_type,
        state_key,
        txn_id,
        content,
    )


async def restart(source: Executor, nid: int, now_ms: int) -> None:
    """Let the delay begin again now."""
    await source.execute(RESTART, nid, now_ms)


async def set_time(source: Executor, nid: int, send_at_ms: int) -> None:
    """Let it be due at another time, without restarting its delay."""
    await source.execute(SET_TIME, nid, send_at_ms)


async def delete(source: Executor, nids: Collection[int]) -> None:
    await source.execute(DELETE, list(nids))


async def delete_of_user(connection: Connection, user_nid: int) -> None:
    """For the end of the account."""
    await connection.execute(DELETE_OF_USER, user_nid)


async def fetch_newer_state(
    source: Executor, room_nid: int, event_type: str, state_key: str, position: int, limit: int
) -> list[Row]:
    """State events of one key after a position, the newest first."""
    return await source.fetch(NEWER_STATE, room_nid, event_type, state_key, position, limit)
