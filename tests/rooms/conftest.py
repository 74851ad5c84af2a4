"""The engine and the services of rooms on a real database, without HTTP."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest_asyncio

from federation.keys import SigningKey
from homeserver.accounts.account_data import AccountData
from homeserver.accounts.profiles import Profiles
from homeserver.accounts.push_rules import PushRules
from homeserver.accounts.tags import Tags
from homeserver.commit_log.committer import Committer, CommitterMetrics
from homeserver.commit_log.live_tail import LiveTail
from homeserver.commit_log.log import CommitLog
from homeserver.commit_log.notifier import Notifier
from homeserver.config.node import DatabaseConfig
from homeserver.config.rooms import RoomsConfig
from homeserver.requester import Requester
from homeserver.rooms.aliases import Aliases, Publication
from homeserver.rooms.auth_chains import AuthChains
from homeserver.rooms.branch_states import BranchStates
from homeserver.rooms.creation import Creation
from homeserver.rooms.creation_request import CreationRequest
from homeserver.rooms.elsewhere import NowhereElse
from homeserver.rooms.inviting import Inviting
from homeserver.rooms.joining import Joining
from homeserver.rooms.leaving import Leaving
from homeserver.rooms.loading import RoomCache
from homeserver.rooms.moderation import RoomModeration
from homeserver.rooms.receiving import Receiving
from homeserver.rooms.room import Room
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.sending import Sending
from homeserver.rooms.snapshot_reader import SnapshotReader
from homeserver.rooms.state_setting import StateSetting
from homeserver.rooms.succession import Succession
from homeserver.rooms.third_party_invites import AddressProofs, InvitingByAddress
from homeserver.rooms.upgrading import Upgrading
from homeserver.rooms.user_rooms import UserRooms
from homeserver.storage.database import Database, open_pool
from tests.postgres import TestCluster
from tests.rooms.alone import Alone
from tests.rooms.servers import Server, running_server

SERVER_NAME = "veche.test"
NOTICES = f"@notices:{SERVER_NAME}"
KEY = SigningKey.from_seed("1", bytes(range(32)))
CACHE_BYTES = 1024 * 1024

INSERT_USER = "INSERT INTO users (user_id) VALUES ($1) RETURNING nid"
INSERT_ACCOUNT = "INSERT INTO accounts (user_nid, created_ms, is_guest) VALUES ($1, 0, $2)"
INSERT_PROFILE = "INSERT INTO profiles (user_nid, displayname) VALUES ($1, $2)"
INSERT_DEVICE = """
INSERT INTO devices (user_nid, created_ms, device_id) VALUES ($1, 0, 'DEVICE') RETURNING nid
"""


@dataclass(kw_only=True)
class Engine:
    """Services wired as `homeserver.app` does; `reload` forgets all rooms in memory."""

    database: Database
    log: CommitLog
    cache: RoomCache
    rooms: Rooms
    user_rooms: UserRooms
    tags: Tags
    push_rules: PushRules
    account_data: AccountData
    aliases: Aliases
    publication: Publication
    joining: Joining
    inviting: Inviting
    leaving: Leaving
    moderation: RoomModeration
    sending: Sending
    state: StateSetting
    creation: Creation
    upgrading: Upgrading
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def user(self, name: str, *, is_guest: bool = False, is_admin: bool = False) -> Requester:
        """A new user, with a display name and a device."""
        user_id = f"@{name}{next(self.numbers)}:{SERVER_NAME}"
        pool = self.database.pool
        user_nid = await pool.fetchval(INSERT_USER, user_id)
        await pool.execute(INSERT_ACCOUNT, user_nid, is_guest)
        await pool.execute(INSERT_PROFILE, user_nid, name.title())
        device_nid = await pool.fetchval(INSERT_DEVICE, user_nid)
        return Requester(
            user_id=user_id,
            user_nid=user_nid,
            device_id="DEVICE",
            device_nid=device_nid,
            token_nid=0,
            is_guest=is_guest,
            is_admin=is_admin,
        )

    async def create(self, creator: Requester, **body: Any) -> Room:
        """A new room, from the body of `createRoom`."""
        return await self.rooms.get(await self.creation.create(creator, CreationRequest.of_body(body)))

    async def reload(self, room_id: str) -> Room:
        """The room as it is stored."""
        loaded = self.cache.loaded(room_id)
        if loaded is not None:
            self.cache.drop(loaded)
        return await self.rooms.get(room_id)

    async def stored_types(self, room_id: str) -> list[str]:
        """The types of a room's events, oldest first."""
        room = await self.rooms.get(room_id)
        rows = await self.database.pool.fetch(
            "SELECT type FROM events WHERE room_nid = $1 ORDER BY nid", room.nid
        )
        return [row["type"] for row in rows]


@pytest_asyncio.fixture(scope="module")
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """The engine, on a database of the module's own."""
    database = Database(await open_pool(database_url, DatabaseConfig(connections_min=1)), None)
    pool = database.pool
    quiet = CommitterMetrics(lambda changes, seconds: None, lambda length: None, lambda: None)
    committer = Committer(database, 0, quiet, queue_max=1000)
    log = CommitLog(committer, LiveTail(0, CACHE_BYTES), Notifier())
    running = asyncio.create_task(committer.run())
    cache = RoomCache(database, SERVER_NAME, CACHE_BYTES)
    rooms = Rooms(database, log, cache, SERVER_NAME, KEY)
    user_rooms = UserRooms(database)
    log.subscribe(user_rooms.follow)
    profiles = Profiles(pool)
    push_rules = PushRules(pool, log, cache_bytes=CACHE_BYTES)
    account_data = AccountData(pool, log, cache_bytes=CACHE_BYTES)
    tags = Tags(pool, log, account_data)
    aliases, publication = Aliases(pool, SERVER_NAME), Publication(pool)
    succession = Succession(pool, log, rooms, tags, push_rules, aliases, publication)
    joining = Joining(
        rooms, user_rooms, profiles, aliases, succession, NowhereElse(), AddressProofs(NowhereElse())
    )
    inviting = Inviting(account_data, SERVER_NAME, rooms, profiles, NowhereElse())
    leaving = Leaving(rooms, user_rooms, NOTICES, NowhereElse())
    moderation = RoomModeration(rooms)
    receiving = Receiving(pool, rooms, BranchStates(pool, SnapshotReader(pool), AuthChains(pool)))
    yield Engine(
        database=database,
        log=log,
        cache=cache,
        rooms=rooms,
        user_rooms=user_rooms,
        tags=tags,
        push_rules=push_rules,
        account_data=account_data,
        aliases=aliases,
        publication=publication,
        joining=joining,
        inviting=inviting,
        leaving=leaving,
        moderation=moderation,
        sending=Sending(pool, rooms),
        state=StateSetting(pool, rooms, Alone(aliases), joining, inviting, leaving, moderation),
        creation=Creation(
            rooms,
            profiles,
            inviting,
            InvitingByAddress(rooms, profiles, inviting, NowhereElse()),
            aliases,
            publication,
            RoomsConfig(),
            SERVER_NAME,
        ),
        upgrading=Upgrading(rooms, receiving, profiles, aliases, publication, succession, SERVER_NAME),
    )
    await committer.drain()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await database.close()


@pytest_asyncio.fixture
async def alice(engine: Engine) -> Requester:
    """A new user."""
    return await engine.user("alice")


@pytest_asyncio.fixture
async def bob(engine: Engine) -> Requester:
    """Another new user."""
    return await engine.user("bob")


@pytest_asyncio.fixture(scope="module")
async def here(postgres: TestCluster) -> AsyncIterator[Server]:
    """The server under test."""
    async with running_server(postgres, "here.test", 1) as server:
        yield server


@pytest_asyncio.fixture(scope="module")
async def there(postgres: TestCluster) -> AsyncIterator[Server]:
    """Another, with which it shares rooms."""
    async with running_server(postgres, "there.test", 2) as server:
        yield server


@pytest_asyncio.fixture(scope="module")
async def third(postgres: TestCluster) -> AsyncIterator[Server]:
    """One more."""
    async with running_server(postgres, "third.test", 3) as server:
        yield server
