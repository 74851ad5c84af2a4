"""Asking for the device lists of other servers' users, where one of them cannot be dealt with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from federation.keys import SigningKey
from homeserver.config.federation import FederationConfig
from homeserver.encryption.device_lists import DeviceLists
from homeserver.encryption.device_numbers import DeviceNumbers
from homeserver.federating.outbound import make_clients
from homeserver.federating.remote_lists import RETRY_MAX_MS, RETRY_MIN_MS, RemoteLists
from homeserver.federating.servers import Servers
from homeserver.metrics import Metrics
from homeserver.storage import remote_devices as sql
from tests.engine.conftest import CACHE_BYTES, SERVER_NAME, Engine

PATIENCE_S = 20.0
BROKEN, OTHER, GONE = "@broken:peer.test", "@other:peer.test", "@gone:peer.test"
# What notes that one user's list is being asked for cannot be written; that it failed can.
BREAK = f"""
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.failures = OLD.failures AND NEW.user_nid = (SELECT nid FROM users WHERE user_id = '{BROKEN}') THEN
        RAISE 'this list cannot be written';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON remote_device_lists FOR EACH ROW EXECUTE FUNCTION refuse();
"""
JOIN = """
INSERT INTO memberships (user_nid, room_nid, event_nid, since, membership) VALUES ($1, $2, 1, 1, 'join')
"""
SELECT_RETRIES = "SELECT user_id, failures, retry_at_ms FROM remote_device_lists JOIN users ON nid = user_nid"


@pytest_asyncio.fixture
async def lists(engine: Engine) -> AsyncIterator[RemoteLists]:
    """Those of a node that talks to no other server."""
    pool, config, metrics = engine.database.pool, FederationConfig(), Metrics()
    servers = Servers(config, metrics.count_federation_refusal)
    client, _ = make_clients(SERVER_NAME, SigningKey.generate("1"), config, servers, metrics)
    numbers = DeviceNumbers(pool, cache_bytes=CACHE_BYTES)
    device_lists = DeviceLists(
        pool, engine.log, engine.rooms, engine.user_rooms, engine.room_cache, numbers, SERVER_NAME
    )
    yield RemoteLists(pool, engine.log, device_lists, client, engine.clock)
    await client.close()


async def test_a_list_that_fails_is_tried_later_and_stops_no_other(
    engine: Engine, lists: RemoteLists
) -> None:
    pool = engine.database.pool
    room = await engine.new_room(await engine.new_user())
    for user_id in (BROKEN, OTHER, GONE):
        known = await sql.begin_asking(pool, user_id)
        if user_id != GONE:
            await pool.execute(JOIN, known.user_nid, room.nid)
    await pool.execute(BREAK)
    now = engine.clock()
    expected = {(BROKEN, 1, now + RETRY_MIN_MS), (OTHER, 1, now + RETRY_MAX_MS)}
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(lists.run())  # what it raises ends the test
        while {tuple(row) for row in await pool.fetch(SELECT_RETRIES)} != expected:
            await asyncio.sleep(0.01)
        running.cancel()
