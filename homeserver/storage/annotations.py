"""Annotations that a user has made already: rows of event_relations (migrations/0001_engine.sql)."""

from __future__ import annotations

from homeserver.storage.connection import Executor, Row

FIND = """
SELECT e.device_nid, e.txn_id
FROM event_relations r JOIN events e ON e.nid = r.event_nid
WHERE r.relates_to = $1 AND r.rel_type = 'm.annotation' AND r.room_nid = $2 AND r.type = $3
    AND r.sender = $4 AND r.key = $5
LIMIT 1"""


async def find(
    source: Executor, target: str, room_nid: int, event_type: str, sender: str, key: str
) -> Row | None:
    """The device_nid and txn_id of the user's annotation of an event, if there is one."""
    return await source.fetchrow(FIND, target, room_nid, event_type, sender, key)
