"""Which rooms a user is in, while that changes."""

from __future__ import annotations

import asyncio

from homeserver.config.node import DatabaseConfig
from homeserver.rooms.user_rooms import UserRooms
from homeserver.storage.database import Database, open_pool
from tests.engine.conftest import Engine


async def test_what_becomes_durable_while_rooms_are_read_is_among_them(
    engine: Engine, database_url: str
) -> None:
    alice, bob = await engine.new_user("alice"), await engine.new_user("bob")
    pool = await open_pool(database_url, DatabaseConfig(connections_min=1, connections_max=1))
    user_rooms = UserRooms(Database(pool, None))
    engine.log.subscribe(user_rooms.follow)
    async with pool.acquire():  # the only connection: reading has to wait for it
        reading = asyncio.ensure_future(user_rooms.get(bob.user_id))
        await asyncio.sleep(0)
        room = await engine.new_room(alice, bob)
    found = await reading
    await pool.close()
    assert found[room.nid].membership == "join"
    assert found[room.nid].room_id == room.room_id
