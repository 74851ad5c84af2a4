"""Thread subscriptions: schema in migrations/0016_thread_subscriptions.sql. Source: MSC4306."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

from homeserver.storage.connection import Connection, Pool

_COLUMNS = "t.position, r.room_id, t.root_id, t.is_subscribed, t.is_automatic"
_FROM = "FROM thread_subscriptions t JOIN rooms r ON r.nid = t.room_nid"
SELECT_ONE = f"SELECT {_COLUMNS} {_FROM} WHERE t.user_nid = $1 AND t.room_nid = $2 AND t.root_id = $3"
SELECT_NEWEST = f"""
SELECT {_COLUMNS} {_FROM} WHERE t.user_nid = $1 AND t.position > $2 AND t.position <= $3
ORDER BY t.position DESC LIMIT $4"""
COUNT = "SELECT count(*) FROM (SELECT 1 FROM thread_subscriptions WHERE user_nid = $1 LIMIT $2) AS counted"
UPSERT = """
INSERT INTO thread_subscriptions (position, user_nid, room_nid, is_subscribed, is_automatic, root_id)
SELECT * FROM unnest($1::bigint[], $2::integer[], $3::integer[], $4::boolean[], $5::boolean[], $6::text[])
ON CONFLICT (user_nid, room_nid, root_id) DO UPDATE SET position = excluded.position,
    is_subscribed = excluded.is_subscribed, is_automatic = excluded.is_automatic"""


@dataclass(frozen=True, slots=True)
class ThreadSubscription:
    """What a user has last said of a thread, at a position of the log."""

    position: int
    room_id: str
    root_id: str
    is_subscribed: bool
    is_automatic: bool


@dataclass(slots=True, eq=False)
class ThreadSubscriptionChange:
    """A user subscribes to a thread, or unsubscribes from it."""

    owner: str
    user_nid: int
    room_nid: int
    root_id: str
    is_subscribed: bool
    is_automatic: bool
    position: int = 0
    is_visible: ClassVar[bool] = True
    size_bytes: ClassVar[int] = 400

    @property
    def audience(self) -> Collection[str]:
        return (self.owner,)

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[ThreadSubscriptionChange]) -> None:
        """Store the changes; the last one of a thread holds."""
        rows = {(change.user_nid, change.room_nid, change.root_id): change for change in changes}.values()
        await connection.execute(
            UPSERT,
            [change.position for change in rows],
            [change.user_nid for change in rows],
            [change.room_nid for change in rows],
            [change.is_subscribed for change in rows],
            [change.is_automatic for change in rows],
            [change.root_id for change in rows],
        )


async def fetch_subscription(
    source: Connection | Pool, user_nid: int, room_nid: int, root_id: str
) -> ThreadSubscription | None:
    """What a user last said of a thread; None if nothing."""
    row = await source.fetchrow(SELECT_ONE, user_nid, room_nid, root_id)
    return ThreadSubscription(*row) if row is not None else None


async def fetch_newest_subscriptions(
    source: Connection | Pool, user_nid: int, after: int, upto: int, limit: int
) -> list[ThreadSubscription]:
    """Of what a user said between two positions, the newest, which come first."""
    rows = await source.fetch(SELECT_NEWEST, user_nid, after, upto, limit)
    return [ThreadSubscription(*row) for row in rows]


async def count_subscriptions(source: Connection | Pool, user_nid: int, *, most: int) -> int:
    """Of how many threads the user has said something, counted up to ``most``."""
    return int(await source.fetchval(COUNT, user_nid, most))
