"""Brings a node to the size of a company: 10,000 users, 2,000 rooms, 500,000 events.

    scripts/bench/fill --config CONFIG [--users N] [--rooms N] [--events N] [--seed N]

The node must not run meanwhile, and needs its database running, unless that is the embedded one. The events
go through the node's own engine, so each is authorised, signed and stored as one that a client sent: with
depth, authorisation events, state snapshots, memberships, the sender's device and transaction ID. Users are
`@member-N`, their password is `bench-password`. Takes three to five minutes on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvloop
from msgspec.structs import replace

from federation.keys import SigningKey
from federation.room_versions import ROOM_VERSIONS
from homeserver.accounts.sessions import DeviceWish
from homeserver.app import Node
from homeserver.config.load import load_config
from homeserver.config.secrets import load_signing_key
from homeserver.config.sections import Config
from homeserver.logging import configure_logging
from homeserver.rooms.draft import Draft
from homeserver.storage.database import Database, open_database

MAINTENANCE_S = 600.0
PASSWORD = "bench-password"
VERSION = "12"
ROOM_CACHE_BYTES = 512 * 1024 * 1024  # all rooms stay in memory while they are filled
CONCURRENCY = 16
MESSAGES_AT_ONCE = 25  # of one room, before others get their turn
BIGGEST_ROOM_MEMBERS = 1000
WORDS = ("the", "plan", "for", "next", "week", "is", "ready", "please", "have", "a", "look", "at", "this")
DEVICES = """
    SELECT u.user_id, d.nid FROM devices d JOIN users u ON u.nid = d.user_nid WHERE u.user_id LIKE '@member-%'
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much there is to be in the end."""

    users: int
    rooms: int
    events: int


def members_of(number: int, sizes: Sizes, rng: random.Random) -> list[int]:
    """Who is in a room: one big room, a few of some hundred, most of a team's size."""
    if number == 0:
        count = BIGGEST_ROOM_MEMBERS
    elif number % 100 == 0:
        count = 300
    else:
        count = min(max(2, round(rng.lognormvariate(2.6, 0.8))), 100)
    return rng.sample(range(sizes.users), min(count, sizes.users))


def first_events(creator: str, members: list[str], number: int) -> Iterator[Draft]:
    """The state of a public room with its members in it."""

    def state(kind: str, content: dict[str, object], sender: str = creator, key: str = "") -> Draft:
        return Draft(sender=sender, type=kind, state_key=key, content=content)

    yield state("m.room.create", {"room_version": VERSION})
    yield state("m.room.member", {"membership": "join", "displayname": creator[1:]}, creator, creator)
    yield state("m.room.power_levels", {"users": {}, "events": {"m.room.tombstone": 150}})
    yield state("m.room.join_rules", {"join_rule": "public"})
    yield state("m.room.history_visibility", {"history_visibility": "shared"})
    yield state("m.room.name", {"name": f"Team {number}"})
    for member in members:
        yield state("m.room.member", {"membership": "join", "displayname": member[1:]}, member, member)


def text(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(4, 24)))


async def gather_limited(jobs: Iterator[Awaitable[None]]) -> None:
    """Do all jobs, CONCURRENCY of them at a time."""

    async def work() -> None:
        for job in jobs:
            await job

    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(work())


class Progress:
    """Says on standard error how far a step is, every tenth of it."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._done = name, total, 0

    def advance(self, count: int = 1) -> None:
        tenths = self._done * 10 // self._total
        self._done += count
        if self._done * 10 // self._total > tenths:
            print(f"{self._name}: {self._done} of {self._total}", file=sys.stderr, flush=True)


class Filler:
    """Fills one node that does not listen."""

    def __init__(self, node: Node, sizes: Sizes, seed: int) -> None:
        self._node, self._sizes = node, sizes
        self._rng = random.Random(seed)
        self._domain = node.engine.config.server.server_name
        self._devices: dict[str, int] = {}
        self._rooms: list[tuple[str, list[str]]] = []
        self._txn = 0

    def _user_id(self, number: int) -> str:
        return f"@member-{number}:{self._domain}"

    async def users(self, database: Database) -> None:
        """Accounts, each with a device."""
        progress = Progress("users", self._sizes.users)
        registration = self._node.services.registration

        async def register(number: int) -> None:
            await registration.register(f"member-{number}", PASSWORD, DeviceWish(device_id=f"DEVICE{number}"))
            progress.advance()

        await gather_limited(register(number) for number in range(self._sizes.users))
        rows = await database.pool.fetch(DEVICES)
        self._devices = {row["user_id"]: row["nid"] for row in rows}

    async def rooms(self) -> int:
        """Rooms with their members; returns how many events that took."""
        progress = Progress("rooms", self._sizes.rooms)
        engine = self._node.services.rooms
        count = 0

        async def create(number: int) -> None:
            nonlocal count
            members = [self._user_id(each) for each in members_of(number, self._sizes, self._rng)]
            drafts = list(first_events(members[0], members[1:], number))
            room = await engine.create(ROOM_VERSIONS[VERSION], "", drafts)
            self._rooms.append((room.room_id, members))
            count += len(drafts)
            progress.advance()

        await gather_limited(create(number) for number in range(self._sizes.rooms))
        return count

    async def messages(self, count: int) -> None:
        """Messages, a few of one room and then of another, as they come in life."""
        progress = Progress("messages", count)
        engine = self._node.services.rooms
        now_ms = time.time_ns() // 1_000_000

        async def chat(room_id: str, members: list[str], first: int, amount: int) -> None:
            drafts = []
            for number in range(first, first + amount):
                sender = self._rng.choice(members)
                content = {"msgtype": "m.text", "body": text(self._rng)}
                drafts.append(
                    Draft(
                        sender=sender,
                        type="m.room.message",
                        content=content,
                        device_nid=self._devices[sender],
                        txn_id=f"m{number}",
                        origin_server_ts=now_ms - (count - number) * 60,
                    )
                )
            await engine.send_all(room_id, drafts)
            progress.advance(amount)

        def jobs() -> Iterator[Awaitable[None]]:
            for first in range(0, count, MESSAGES_AT_ONCE):
                room_id, members = self._rng.choice(self._rooms)
                yield chat(room_id, members, first, min(MESSAGES_AT_ONCE, count - first))

        await gather_limited(jobs())


async def fill(config: Config, key: SigningKey, sizes: Sizes, seed: int) -> None:
    """Fill the node of ``config``, which must be new and must not run."""
    database = await open_database(config.database, Path(config.server.data_dir))
    try:
        node = await Node.build(config, key, database)
        node.engine.supervisor.start("committer", node.engine.committer.run)
        started = time.monotonic()
        try:
            filler = Filler(node, sizes, seed)
            await filler.users(database)
            await filler.messages(max(0, sizes.events - await filler.rooms()))
        finally:
            await node.engine.committer.drain()
            await node.engine.supervisor.stop()
            await node.engine.client.close()
        # What the database would do in its own time, and what would be measured as the node's otherwise.
        for statement in ("VACUUM (ANALYZE)", "CHECKPOINT"):
            await database.pool.execute(statement, timeout=MAINTENANCE_S)
        print(f"{sizes.events} events in {time.monotonic() - started:.0f} s", file=sys.stderr)
    finally:
        await database.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="the node's TOML file")
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--rooms", type=int, default=2_000)
    parser.add_argument("--events", type=int, default=500_000, help="joins and other state included")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    config = load_config(options.config)
    cheapest = replace(config.auth, argon2_time_cost=1, argon2_memory_kib=8, argon2_parallelism=1)
    limits = replace(config.limits, room_cache_bytes=ROOM_CACHE_BYTES)
    config = replace(config, auth=cheapest, limits=limits)
    configure_logging(config.logging)
    key = load_signing_key(Path(config.server.signing_key_file))
    uvloop.run(fill(config, key, Sizes(options.users, options.rooms, options.events), options.seed))


if __name__ == "__main__":
    main()
