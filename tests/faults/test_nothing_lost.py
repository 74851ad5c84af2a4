"""Whatever was answered with 200 survives the sudden death of the node, and of its database.

VECHE_FAULTS_KILLS sets how often the node is killed, VECHE_FAULTS_SEED repeats a run's random choices.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import statistics
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.api.client import Api, JsonObject, User, http_session, state_of
from tests.conformance import Exchanges
from tests.faults.load import Actor, Follower, Ledger, Lost, WhileFailing, answered
from tests.node import Node
from tests.postgres import make_data_dir

KILLS = int(os.environ.get("VECHE_FAULTS_KILLS", "50"))
DATABASE_KILL_EVERY = 8
BOTH_KILLED_EVERY = 13
WORK_S = (0.02, 0.8)
"""For how long, between these, the node works before the next death."""

ROOMS, SENDERS, WANDERERS, FOLLOWERS = 4, 8, 2, 2
RECOVERY_TIMEOUT_S = 30.0
POLL_S = 0.02


@pytest_asyncio.fixture
async def mortal() -> AsyncIterator[Node]:
    """A node on its own embedded PostgreSQL, with the durable settings that everybody has."""
    folder = make_data_dir()
    node = Node(folder)
    try:
        await node.start()
        yield node
        await node.stop()
        assert not (folder / "data" / "postgres" / "postmaster.pid").exists(), "the database was left running"
    finally:
        await node.kill()
        if (pid := database_pid(node)) is not None:
            os.kill(pid, signal.SIGQUIT)
        shutil.rmtree(folder)


def database_pid(node: Node) -> int | None:
    """The embedded PostgreSQL's main process, if it runs."""
    try:
        lines = (node.folder / "data" / "postgres" / "postmaster.pid").read_text().split("\n")
        pid = int(lines[0])
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


@pytest.mark.slow
async def test_nothing_that_was_answered_is_lost(
    mortal: Node, exchanges: Exchanges, figures: list[str]
) -> None:
    seed = int(os.environ.get("VECHE_FAULTS_SEED") or random.randrange(2**32))
    print(f"VECHE_FAULTS_SEED={seed}")
    rng = random.Random(seed)
    started = time.monotonic()
    async with http_session() as http:
        api = Api(http, mortal.url, mortal.server_name, WhileFailing(exchanges))
        users, rooms = await settle(api)
        alive = asyncio.Event()
        alive.set()
        ledger = Ledger.of(rooms)
        followers = [Follower(user, rooms, alive) for user in users[:FOLLOWERS]]
        for follower in followers:
            await follower.begin()
        actors = [
            Actor(user, rooms, ledger, alive, random.Random(rng.random()), wanders=number >= SENDERS)
            for number, user in enumerate(users[FOLLOWERS:])
        ]
        database_kills = await work_and_die(mortal, actors, followers, alive, rng)
        for follower in followers:
            while await follower.step(timeout_ms=0):
                pass
        for room in rooms:
            await check_room(room, ledger, followers)
        await check_memberships(users, rooms)
    restarts = mortal.start_seconds[1:]
    figures.append(
        f"nothing lost: {KILLS} kills of the node, {database_kills} of the database, "
        f"{ledger.event_count} events answered, {ledger.lost_count} answers lost, "
        f"{ledger.repeated_count} repeated after their answer; a restart takes "
        f"{statistics.median(restarts):.2f} s, the longest {max(restarts):.2f} s; "
        f"{time.monotonic() - started:.0f} s in all; VECHE_FAULTS_SEED={seed}"
    )


async def settle(api: Api) -> tuple[list[User], list[str]]:
    """Users (followers first, wanderers last) and rooms with all of them in."""
    users = [await api.register(name) for name in ["bob"] * FOLLOWERS + ["alice"] * (SENDERS + WANDERERS)]
    rooms = [
        await users[0].create_room(power_level_content_override={"state_default": 0}) for _ in range(ROOMS)
    ]
    await asyncio.gather(*(user.join(room) for user in users[1:] for room in rooms))
    return users, rooms


async def work_and_die(
    node: Node, actors: list[Actor], followers: list[Follower], alive: asyncio.Event, rng: random.Random
) -> int:
    """Let everybody work while the node is killed and started again and again; how often the database was."""
    database_kills = 0
    async with asyncio.TaskGroup() as group:
        for worker in (*(actor.work() for actor in actors), *(follower.follow() for follower in followers)):
            group.create_task(worker)
        for number in range(1, KILLS + 1):
            await asyncio.sleep(rng.uniform(*WORK_S))
            if number % DATABASE_KILL_EVERY == 0:
                kill_database(node)
                database_kills += 1
                await until_answering(followers[0].user, followers[0].rooms[0])
                await asyncio.sleep(rng.uniform(*WORK_S))
            alive.clear()
            if number % BOTH_KILLED_EVERY == 0:
                kill_database(node)
                database_kills += 1
            await node.kill()
            await node.start()
            alive.set()
        await asyncio.sleep(max(WORK_S))
        for actor in actors:
            actor.working = False
        for follower in followers:
            follower.working = False
    return database_kills


def kill_database(node: Node) -> None:
    pid = database_pid(node)
    assert pid is not None, "the database does not run"
    os.kill(pid, signal.SIGKILL)


async def until_answering(user: User, room: str) -> None:
    """Wait until the node carries out what needs its database."""
    deadline = time.monotonic() + RECOVERY_TIMEOUT_S
    while True:
        try:
            await answered(lambda: user.set_state(room, "test.veche.probe", {"at": time.time_ns() // 1000}))
            return
        except Lost:
            assert time.monotonic() < deadline, f"the node did not recover within {RECOVERY_TIMEOUT_S:.0f} s"
            await asyncio.sleep(POLL_S)


async def check_room(room: str, ledger: Ledger, followers: list[Follower]) -> None:
    """History, sync, state and redactions of one room agree with each other and with what was answered."""
    user = followers[0].user
    history = (await user.history(room))[::-1]
    ids = [event["event_id"] for event in history]
    assert len(ids) == len(set(ids)), f"{room}: events twice in its history"
    assert ledger.events[room] <= set(ids), f"{room}: lost {sorted(ledger.events[room] - set(ids))}"

    check_messages(room, history, ledger)
    for follower in followers:
        seen = [event["event_id"] for event in follower.seen[room]]
        assert len(seen) == len(set(seen)), f"{room}: events twice in sync"
        expected = set(ids) - follower.seen_before[room]
        assert set(seen) == expected, f"{room}: sync showed other events than its history"

    replayed = {key: event["event_id"] for key, event in state_of(history).items()}
    current = await user.get("/v3/rooms/{}/state", room)
    assert {key: event["event_id"] for key, event in state_of(current).items()} == replayed
    joined = {key for (kind, key), event in state_of(history).items()
              if kind == "m.room.member" and event["content"]["membership"] == "join"}  # fmt: skip
    assert set((await user.get("/v3/rooms/{}/joined_members", room))["joined"]) == joined


def check_messages(room: str, history: list[JsonObject], ledger: Ledger) -> None:
    """Each message is there once, under the ID that was answered, and without content if it was redacted."""
    messages = {event["event_id"]: event for event in history if event["type"] == "m.room.message"}
    bodies = [event["content"]["body"] for event in messages.values() if "body" in event["content"]]
    assert len(bodies) == len(set(bodies)), f"{room}: a message was sent twice"
    assert set(messages) == set(ledger.bodies[room].values()), f"{room}: messages that nobody was told of"
    for body, event_id in ledger.bodies[room].items():
        if event_id in ledger.redacted[room]:
            assert messages[event_id]["content"] == {}
            assert messages[event_id]["unsigned"]["redacted_because"]["type"] == "m.room.redaction"
        else:
            assert messages[event_id]["content"]["body"] == body


async def check_memberships(users: list[User], rooms: list[str]) -> None:
    """What each user's first sync says of their memberships is what the rooms say."""
    joined = {
        room: set((await users[0].get("/v3/rooms/{}/joined_members", room))["joined"]) for room in rooms
    }
    for user in users:
        expected = {room for room in rooms if user.user_id in joined[room]}
        sync = await user.sync(filter={"room": {"timeline": {"limit": 1}}})
        assert set(sync.get("rooms", {}).get("join", {})) == expected
        assert set((await user.get("/v3/joined_rooms"))["joined_rooms"]) == expected
