"""Unread counts that are made while the user reads."""

from __future__ import annotations

import asyncio

from homeserver.storage.receipts import READ, UNTHREADED, Receipt, ReceiptChange
from homeserver.sync.unread import UnreadCounts
from tests.engine.conftest import Engine

PATIENCE_S = 10.0
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'events'::regclass"


async def test_a_receipt_that_comes_while_counting_is_counted(engine: Engine) -> None:
    alice, bob = await engine.new_user(), await engine.new_user("bob")
    room = await engine.new_room(alice, bob)
    event_id = await engine.say(room, bob)
    unread = UnreadCounts(engine.database.pool, engine.log, engine.push_rules)
    engine.log.tail.start = upto = engine.log.position  # so that storage is asked

    async def load() -> None:
        await unread.load(alice.user_id, alice.user_nid, [(room, 0)], upto)

    await load()
    counter = unread.cached(alice.user_id, room, upto)
    assert counter is not None
    assert counter.threads["main"].notifications == 1

    unread = UnreadCounts(engine.database.pool, engine.log, engine.push_rules)
    pool = engine.database.pool
    async with asyncio.timeout(PATIENCE_S), pool.acquire() as connection:
        async with connection.transaction():
            await connection.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
            loading = asyncio.create_task(load())
            while not await connection.fetchval(WAITING):
                await asyncio.sleep(0)
            receipt = Receipt(alice.user_id, READ, UNTHREADED, event_id, upto, 0)
            await engine.log.commit(ReceiptChange(room.nid, alice.user_nid, receipt, ()))
        await loading
    await load()
    counter = unread.cached(alice.user_id, room, upto)
    assert counter is not None
    assert not counter.threads
