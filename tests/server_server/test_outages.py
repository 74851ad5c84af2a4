"""A node dies under load, or is away for a while: what it answered for arrives, once, and in order."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp
import asyncpg

from homeserver.clock import now_ms
from tests.api.client import JsonObject, Refused, User
from tests.cli.test_users import veche
from tests.node import Node
from tests.server_server.conftest import GLOBEX, Network

SENDERS = 6
MESSAGES = 40  # of each
KILLS = 3
WAIT_S = 60
HOUR_MS = 3600 * 1000
PUT_OFF = "UPDATE destinations SET retry_at_ms = $1 WHERE failures > 0"


async def send_whatever_happens(user: User, room_id: str, body: str) -> str:
    """Send until there is an answer, as clients do: with the same transaction id."""
    txn_id = user.next_txn_id()
    while True:
        try:
            return await user.send(room_id, body, txn_id=txn_id)
        except aiohttp.ClientError:
            await asyncio.sleep(0.02)  # the node is dead
        except Refused as refusal:
            assert refusal.status in (502, 503), refusal


async def bodies_seen(user: User, room_id: str, wanted: int) -> list[str]:
    """All messages that a user finds in the room, oldest first, once there are as many as wanted."""
    async with asyncio.timeout(WAIT_S):
        while True:
            events: list[JsonObject] = await user.history(room_id)
            bodies = [
                event["content"]["body"] for event in reversed(events) if event["type"] == "m.room.message"
            ]
            if len(bodies) >= wanted:
                return bodies
            await asyncio.sleep(0.1)


async def restart(node: Node) -> None:
    await node.kill()
    await node.start()


async def test_what_a_node_answered_for_arrives_once_though_it_was_killed(
    network: Network, alice: User, bob: User, shared: str
) -> None:
    sent = 0

    async def sender(number: int) -> None:
        nonlocal sent
        for count in range(MESSAGES):
            await send_whatever_happens(alice, shared, f"{number} {count}")
            sent += 1

    async def killer() -> None:
        for kill in range(1, KILLS + 1):
            while sent < kill * SENDERS * MESSAGES // (KILLS + 1):
                await asyncio.sleep(0.005)
            await restart(network.acme)

    async with asyncio.TaskGroup() as group:
        group.create_task(killer())
        for number in range(SENDERS):
            group.create_task(sender(number))
    expected = [f"{number} {count}" for number in range(SENDERS) for count in range(MESSAGES)]
    seen = await bodies_seen(bob, shared, len(expected))
    assert Counter(seen) == Counter(expected)
    for number in range(SENDERS):
        assert [body for body in seen if body.startswith(f"{number} ")] == [
            body for body in expected if body.startswith(f"{number} ")
        ]
    assert seen == await bodies_seen(alice, shared, len(expected))


async def test_who_was_away_gets_everything_when_it_is_back_and_has_said_something(
    network: Network, alice: User, bob: User, shared: str
) -> None:
    await alice.send(shared, "before")
    await bodies_seen(bob, shared, 1)
    await network.globex.kill()
    line = 'federation_destinations{activity="backing_off"}'
    for number in range(120):
        await alice.send(shared, f"{number}")
    async with asyncio.timeout(WAIT_S):
        while await network.metric(network.acme, line) < 1:
            await asyncio.sleep(0.02)
    assert await network.metric(network.acme, "federation_oldest_waiting_seconds") > 0
    assert await network.metric(network.acme, 'queue_depth{queue="federation"}') == 0
    await restart(network.acme)  # what waits, and for how long still, is known to the next process too
    await network.globex.start()
    await bob.send(shared, "here again")
    expected = ["before", *(f"{number}" for number in range(120)), "here again"]
    seen = await bodies_seen(bob, shared, len(expected))
    assert Counter(seen) == Counter(expected)
    assert [body for body in seen if body != "here again"] == expected[:-1]
    assert "here again" in await bodies_seen(alice, shared, len(expected))
    assert await network.metric(network.acme, line) == 0


async def test_an_administrator_has_a_server_tried_again(
    network: Network, alice: User, bob: User, shared: str
) -> None:
    await network.globex.kill()
    await alice.send(shared, "hello")
    line = 'federation_destinations{activity="backing_off"}'
    async with asyncio.timeout(WAIT_S):
        while await network.metric(network.acme, line) < 1:
            await asyncio.sleep(0.02)
    await network.acme.stop()
    connection = await asyncpg.connect(network.acme.database_url)
    await connection.execute(PUT_OFF, now_ms() + HOUR_MS)
    await connection.close()
    await network.globex.start()
    await network.acme.start()
    assert await network.metric(network.acme, line) == 1
    status, _, errors = await veche(
        "federation", "retry", GLOBEX, "--config", str(network.acme.folder / "veche.toml")
    )
    assert status == 0, errors
    assert await bodies_seen(bob, shared, 1) == ["hello"]
