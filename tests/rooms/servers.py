"""Engines of several servers in one process, and events carried between them by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from federation.building import build_event
from federation.event import PDU, parse_pdu
from federation.hashing import reference_hash
from federation.keys import SigningKey
from federation.room_versions import RoomVersion, room_version
from homeserver.commit_log.committer import Committer, CommitterMetrics
from homeserver.commit_log.live_tail import LiveTail
from homeserver.commit_log.log import CommitLog
from homeserver.commit_log.notifier import Notifier
from homeserver.config.node import DatabaseConfig
from homeserver.rooms.auth_chains import AuthChains
from homeserver.rooms.branch_states import BranchStates
from homeserver.rooms.draft import Draft
from homeserver.rooms.event import FLAG_OUTLIER, FLAG_REJECTED, Event
from homeserver.rooms.loading import RoomCache
from homeserver.rooms.past_events import PastEvents
from homeserver.rooms.receiving import Receiving
from homeserver.rooms.room import Room
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.snapshot_reader import SnapshotReader
from homeserver.rooms.user_rooms import UserRooms
from homeserver.storage.database import Database, open_pool
from tests.postgres import TestCluster

CACHE_BYTES = 4 * 1024 * 1024
EVENTS = "SELECT event_id, flags, json FROM events WHERE room_nid = $1"
BY_ID = "SELECT json FROM events WHERE event_id = $1"


@dataclass(kw_only=True)
class Server:
    """The engine of one server, wired as `homeserver.app` does."""

    name: str
    key: SigningKey
    database: Database
    log: CommitLog
    cache: RoomCache
    rooms: Rooms
    user_rooms: UserRooms
    snapshots: SnapshotReader
    chains: AuthChains
    branches: BranchStates
    receiving: Receiving
    past: PastEvents

    def user(self, name: str) -> str:
        return f"@{name}:{self.name}"

    async def create_room(
        self, creator: str, version: str, *, name: str | None = None, **power_levels: Any
    ) -> Room:
        """A public room with its creator in it. `name` is for its id, where that is free."""
        users = {} if room_version(version).privileged_creators else {creator: 100}
        power = {"users": {**users, **power_levels.pop("users", {})}, **power_levels}
        drafts = [
            Draft(sender=creator, type="m.room.create", content={"room_version": version}, state_key=""),
            Draft(sender=creator, type="m.room.member", content={"membership": "join"}, state_key=creator),
            Draft(sender=creator, type="m.room.power_levels", content=power, state_key=""),
            Draft(sender=creator, type="m.room.join_rules", content={"join_rule": "public"}, state_key=""),
        ]
        if room_version(version).creator_in_content:
            drafts[0] = Draft(
                sender=creator,
                type="m.room.create",
                content={"room_version": version, "creator": creator},
                state_key="",
            )
        nid = await self.rooms.next_nid()
        return await self.rooms.create(room_version(version), f"!{name or nid}:{self.name}", drafts, nid=nid)

    async def send(
        self, room_id: str, sender: str, type: str, content: dict[str, Any], state_key: str | None = None,
        *, redacts: str | None = None, ts: int | None = None,
    ) -> PDU:  # fmt: skip
        """Send as a user of this server; the event as others get it."""
        draft = Draft(
            sender=sender, type=type, content=content, state_key=state_key, redacts=redacts,
            origin_server_ts=ts,
        )  # fmt: skip
        event = await self.rooms.send(room_id, draft)
        return await self.pdu(event.event_id, room_id)

    async def say(self, room_id: str, sender: str, body: str = "hello") -> PDU:
        return await self.send(room_id, sender, "m.room.message", {"msgtype": "m.text", "body": body})

    async def pdu(self, event_id: str, room_id: str) -> PDU:
        """One of this server's events, as others get it. Raises KeyError if it has none."""
        json = await self.database.pool.fetchval(BY_ID, event_id)
        if json is None:
            raise KeyError(event_id)
        version = (await self.rooms.get(room_id)).version
        return parse_pdu(orjson.loads(json), version, event_id=None if version.event_id_is_hash else event_id)

    def build(
        self, version: RoomVersion, room_id: str, sender: str, type: str, content: dict[str, Any],
        *, prev: Sequence[PDU], auth: Sequence[PDU], state_key: str | None = None, depth: int | None = None,
        ts: int = 1_800_000_000_000, redacts: str | None = None,
    ) -> PDU:  # fmt: skip
        """An event of this server's, whatever its rooms say."""
        hashes = {each.event_id: reference_hash(each.json, version) for each in (*prev, *auth)}
        pdu, _ = build_event(
            version=version, room_id=room_id, type=type, state_key=state_key, sender=sender, content=content,
            prev_events=[each.event_id for each in prev], auth_events=[each.event_id for each in auth],
            depth=depth or max((each.depth for each in prev), default=0) + 1, origin_server_ts=ts,
            redacts=redacts, server_name=self.name, key=self.key,
            reference_hashes=None if version.event_id_is_hash else hashes,
        )  # fmt: skip
        return pdu

    async def auth_for(
        self, room_id: str, sender: str, type: str, content: dict[str, Any], state_key: str | None = None
    ) -> list[PDU]:
        """What an event of this shape would name as its auth events now."""
        room = await self.rooms.get(room_id)
        ids = room.auth_event_ids(type, state_key, sender, content)
        return [await self.pdu(event_id, room_id) for event_id in ids]

    async def state_pdus(self, room_id: str) -> list[PDU]:
        room = await self.rooms.get(room_id)
        return [event.pdu(room.version) for event in room.state.values()]

    async def auth_chain(self, room_id: str, pdus: Sequence[PDU]) -> list[PDU]:
        """The events behind these, without them."""
        chain: dict[str, PDU] = {}
        pending = [event_id for pdu in pdus for event_id in pdu.auth_events]
        while pending:
            event_id = pending.pop()
            if event_id not in chain:
                chain[event_id] = await self.pdu(event_id, room_id)
                pending += chain[event_id].auth_events
        return list(chain.values())

    async def join_from(self, resident: Server, room_id: str, user_id: str) -> PDU:
        """Join a room of another server's, as make_join and send_join do."""
        room = await resident.rooms.get(room_id)
        state = await resident.state_pdus(room_id)
        newest = [await resident.pdu(event.event_id, room_id) for event in room.extremities]
        content = {"membership": "join"}
        auth = await resident.auth_for(room_id, user_id, "m.room.member", content, user_id)
        join = self.build(
            room.version, room_id, user_id, "m.room.member", content, prev=newest, auth=auth,
            state_key=user_id,
        )  # fmt: skip
        [result] = await resident.receiving.receive(room_id, [join])
        assert result.outcome.value == "accepted", result
        await self.past.install(room.version, state, await resident.auth_chain(room_id, state), join)
        return join

    # -- what it has --

    async def state_ids(self, room_id: str) -> dict[tuple[str, str], str]:
        room = await self.rooms.get(room_id)
        return {key: event.event_id for key, event in room.state.items()}

    async def events(self, room_id: str) -> dict[str, int]:
        """The flags of the room's events but outliers, by id."""
        room = await self.rooms.get(room_id)
        rows = await self.database.pool.fetch(EVENTS, room.nid)
        return {row["event_id"]: row["flags"] for row in rows if not row["flags"] & FLAG_OUTLIER}

    async def accepted(self, room_id: str) -> set[str]:
        events = await self.events(room_id)
        return {event_id for event_id, flags in events.items() if not flags & FLAG_REJECTED}

    async def stored_event(self, event_id: str) -> Event:
        rows = await self.database.pool.fetch(
            "SELECT e.*, NULL AS replaced_json, NULL AS redaction_json FROM events e WHERE event_id = $1",
            event_id,
        )
        return Event.of_row(rows[0])

    async def reload(self, room_id: str) -> Room:
        """The room as it is stored."""
        loaded = self.cache.loaded(room_id)
        if loaded is not None:
            await self.rooms.settle_whole(loaded)
            self.cache.drop(loaded)
        return await self.rooms.get(room_id)


@asynccontextmanager
async def running_server(postgres: TestCluster, name: str, seed: int) -> AsyncIterator[Server]:
    """A server on a database of its own."""
    url = await postgres.create_database()
    database = Database(await open_pool(url, DatabaseConfig(connections_min=1)), None)
    quiet = CommitterMetrics(lambda changes, seconds: None, lambda length: None, lambda: None)
    committer = Committer(database, 0, quiet, queue_max=1000)
    log = CommitLog(committer, LiveTail(0, CACHE_BYTES), Notifier())
    running = asyncio.create_task(committer.run())
    key = SigningKey.from_seed("1", bytes([seed]) * 32)
    cache = RoomCache(database, name, CACHE_BYTES)
    rooms = Rooms(database, log, cache, name, key)
    user_rooms = UserRooms(database)
    log.subscribe(user_rooms.follow)
    for user in ("alice", "bob"):
        await database.pool.execute("INSERT INTO users (user_id) VALUES ($1)", f"@{user}:{name}")
    snapshots = SnapshotReader(database.pool)
    chains = AuthChains(database.pool)
    branches = BranchStates(database.pool, snapshots, chains)
    receiving = Receiving(database.pool, rooms, branches)
    try:
        yield Server(
            name=name,
            key=key,
            database=database,
            log=log,
            cache=cache,
            rooms=rooms,
            user_rooms=user_rooms,
            snapshots=snapshots,
            chains=chains,
            branches=branches,
            receiving=receiving,
            past=PastEvents(database.pool, rooms, branches, receiving),
        )
        await committer.drain()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await database.close()
        await postgres.drop_database(url)
