"""The engine and the services over it in the test's own process, on a database of the module's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count

import pytest_asyncio

from federation.keys import SigningKey
from federation.room_versions import room_version
from homeserver.accounts.account_data import AccountData
from homeserver.accounts.filters import Filters
from homeserver.accounts.profiles import Profiles
from homeserver.accounts.push_rules import PushRules
from homeserver.accounts.tags import Tags
from homeserver.commit_log.committer import Committer, CommitterMetrics
from homeserver.commit_log.ephemeral import Ephemeral
from homeserver.commit_log.live_tail import LiveTail
from homeserver.commit_log.log import CommitLog
from homeserver.commit_log.notifier import Notifier
from homeserver.config.node import DatabaseConfig
from homeserver.requester import Requester
from homeserver.rooms.draft import Draft
from homeserver.rooms.loading import RoomCache
from homeserver.rooms.receipts import Receipts
from homeserver.rooms.room import Room
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.user_rooms import UserRooms
from homeserver.storage.accounts import insert_account
from homeserver.storage.database import Database, open_pool

SERVER_NAME = "veche.test"
CACHE_BYTES = 1_000_000


@dataclass(slots=True)
class Clock:
    """A clock that a test moves."""

    now: int = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now


@dataclass(slots=True)
class Engine:
    """The engine, and the services that need nothing else."""

    database: Database
    log: CommitLog
    rooms: Rooms
    room_cache: RoomCache
    user_rooms: UserRooms
    clock: Clock = field(default_factory=Clock)
    names: count[int] = field(default_factory=lambda: count(1))
    profiles: Profiles = field(init=False)
    account_data: AccountData = field(init=False)
    tags: Tags = field(init=False)
    filters: Filters = field(init=False)
    push_rules: PushRules = field(init=False)
    receipts: Receipts = field(init=False)

    def __post_init__(self) -> None:
        pool = self.database.pool
        self.profiles = Profiles(pool)
        self.push_rules = PushRules(pool, self.log, cache_bytes=CACHE_BYTES)
        self.account_data = AccountData(pool, self.log, cache_bytes=CACHE_BYTES)
        self.tags = Tags(pool, self.log, self.account_data)
        self.filters = Filters(pool, cache_bytes=CACHE_BYTES)
        self.receipts = Receipts(pool, self.log, self.rooms, self.clock)

    def new_ephemeral(self) -> Ephemeral:
        return Ephemeral(self.log.notifier.wake, clock=self.clock)

    async def new_user(self, name: str = "alice", *, is_guest: bool = False) -> Requester:
        """A new account whose localpart begins with ``name``, as who makes a request."""
        user_id = f"@{name}-{next(self.names)}:{SERVER_NAME}"
        nid = await insert_account(self.database.pool, user_id, 0, None, is_guest=is_guest)
        assert nid is not None
        return Requester(
            user_id=user_id, user_nid=nid, device_id="D", device_nid=nid, token_nid=nid, is_guest=is_guest
        )

    async def new_room(self, creator: Requester, *members: Requester, join_rule: str = "invite") -> Room:
        """A room whose creator has invited the members, all of whom have joined."""
        user_id = creator.user_id
        drafts = [
            Draft(sender=user_id, type="m.room.create", state_key="", content={"room_version": "12"}),
            Draft(sender=user_id, type="m.room.member", state_key=user_id, content={"membership": "join"}),
            Draft(sender=user_id, type="m.room.join_rules", state_key="", content={"join_rule": join_rule}),
        ]
        room = await self.rooms.create(room_version("12"), "", drafts)
        for member in members:
            for sender, membership in ((user_id, "invite"), (member.user_id, "join")):
                await self.rooms.send(
                    room.room_id,
                    Draft(
                        sender=sender,
                        type="m.room.member",
                        state_key=member.user_id,
                        content={"membership": membership},
                    ),
                )
        return room

    async def say(self, room: Room, sender: Requester, **content: object) -> str:
        """The id of a new message; ``content`` may hold its relation."""
        event = await self.rooms.send(
            room.room_id,
            Draft(
                sender=sender.user_id,
                type="m.room.message",
                content={"msgtype": "m.text", "body": "hello", **content},
            ),
        )
        return event.event_id


@pytest_asyncio.fixture(scope="module")
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """An engine on an empty database."""
    pool = await open_pool(database_url, DatabaseConfig(connections_min=1, connections_max=6))
    database = Database(pool, None)
    metrics = CommitterMetrics(lambda changes, seconds: None, lambda length: None, lambda: None)
    committer = Committer(database, 0, metrics)
    log = CommitLog(committer, LiveTail(0, CACHE_BYTES), Notifier())
    cache = RoomCache(database, SERVER_NAME, 16 * CACHE_BYTES)
    user_rooms = UserRooms(database)
    log.subscribe(user_rooms.follow)
    rooms = Rooms(database, log, cache, SERVER_NAME, SigningKey.generate("1"))
    running = asyncio.get_running_loop().create_task(committer.run())
    try:
        yield Engine(database, log, rooms, cache, user_rooms)
    finally:
        await committer.drain()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await database.close()
