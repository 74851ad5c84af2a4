"""Messages do not make the state grow: what a room costs in bytes rises by the messages alone."""

from __future__ import annotations

import asyncio
import itertools
import os

import asyncpg
import pytest

from tests.api.client import Api, User
from tests.node import Node

MEMBERS = int(os.environ.get("VECHE_FLAT_MEMBERS", "1000"))
MESSAGES = int(os.environ.get("VECHE_FLAT_MESSAGES", "20000"))
SENDERS = 32
BYTES_PER_MESSAGE_MAX = 1500
CONCURRENCY = 16

# Tables with their indexes and oversized values; what is left of old row versions counts too.
TOTAL_BYTES = """
    SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""
SNAPSHOT_ROWS = "SELECT count(*) FROM state_snapshots"


async def fill(api: Api) -> tuple[str, list[User]]:
    """A room with all members in it, and some of them."""
    creator = await api.register()
    room = await creator.create_room()
    numbers = iter(range(MEMBERS - 1))
    users = [creator]

    async def join() -> None:
        for _ in numbers:
            user = await api.register("bob")
            await user.join(room)
            users.append(user)

    await asyncio.gather(*(join() for _ in range(CONCURRENCY)))
    return room, users[:SENDERS]


async def send(room: str, senders: list[User]) -> None:
    numbers = itertools.count()

    async def chat(user: User) -> None:
        while (number := next(numbers)) < MESSAGES:
            await user.send(room, f"message {number}: of the length that people usually write")

    await asyncio.gather(*map(chat, senders))


@pytest.mark.slow
async def test_messages_add_no_snapshots_and_few_bytes(
    api: Api, node: Node, database_url: str, figures: list[str]
) -> None:
    room, senders = await fill(api)
    database = await asyncpg.connect(database_url)
    try:
        snapshots, before_bytes = await database.fetchval(SNAPSHOT_ROWS), await database.fetchval(TOTAL_BYTES)
        await send(room, senders)
        assert await database.fetchval(SNAPSHOT_ROWS) == snapshots
        per_message = (await database.fetchval(TOTAL_BYTES) - before_bytes) / MESSAGES
    finally:
        await database.close()
    figures.append(
        f"flat state: {MESSAGES} messages to {MEMBERS} members added no snapshot rows "
        f"and {per_message:.0f} bytes a message, indexes included"
    )
    assert per_message < BYTES_PER_MESSAGE_MAX
    assert len((await senders[0].get("/v3/rooms/{}/joined_members", room))["joined"]) == MEMBERS
