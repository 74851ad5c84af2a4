"""Reports of inappropriate content: the schema is migrations/0005_reports.sql."""

from __future__ import annotations

from homeserver.storage.connection import Executor

INSERT = """
INSERT INTO reports (received_ms, reporter_nid, room_nid, event_id, user_nid, reason)
VALUES ($1, $2, $3, $4, $5, $6) RETURNING nid"""
USER_NID = "SELECT nid FROM users WHERE user_id = $1"


async def insert_report(
    database: Executor,
    received_ms: int,
    reporter_nid: int,
    reason: str,
    *,
    room_nid: int | None = None,
    event_id: str | None = None,
    user_nid: int | None = None,
) -> int:
    """Store a report; its number."""
    return int(
        await database.fetchval(INSERT, received_ms, reporter_nid, room_nid, event_id, user_nid, reason)
    )


async def fetch_user_nid(database: Executor, user_id: str) -> int | None:
    """The number of a user whom this node has met, of any server."""
    nid: int | None = await database.fetchval(USER_NID, user_id)
    return nid
