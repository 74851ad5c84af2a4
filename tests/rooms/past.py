"""The services that read a room's past, over the engine of the tests; and short ways to make one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from homeserver.accounts.profiles import Profiles
from homeserver.commit_log.ephemeral import Ephemeral
from homeserver.config.people import PresenceConfig
from homeserver.filters import ALL_ROOM_EVENTS, RoomEventFilter
from homeserver.requester import Requester
from homeserver.rooms.client_events import ClientEvents
from homeserver.rooms.draft import Draft
from homeserver.rooms.event import Event
from homeserver.rooms.history import History, MessagesQuery
from homeserver.rooms.history_pages import HistoryPages
from homeserver.rooms.membership_history import MembershipHistory
from homeserver.rooms.presence import Presence
from homeserver.rooms.reading import Readers
from homeserver.rooms.relating_events import RelatingEvents, RelationsQuery
from homeserver.rooms.relations import Relations
from homeserver.rooms.reports import Reports
from homeserver.rooms.room import Room
from homeserver.rooms.room_initial_sync import RoomInitialSync
from homeserver.rooms.snapshot_reader import SnapshotReader
from homeserver.rooms.state_reading import StateReading
from homeserver.rooms.threads import Threads
from homeserver.rooms.visibility import Visibility
from homeserver.storage.events import TIMELINE_COLUMNS
from tests.rooms.conftest import Engine

NOW_MS = 1_900_000_000_000
EVENTS_OF_ROOM = f"SELECT {TIMELINE_COLUMNS} FROM events e WHERE e.room_nid = $1 ORDER BY e.nid"


@asynccontextmanager
async def watched(engine: Engine) -> AsyncIterator[tuple[Past, list[str]]]:
    """The services on one connection, with the list of the queries that they make meanwhile."""
    queries: list[str] = []
    async with engine.database.pool.acquire() as connection:
        with connection.query_logger(lambda record: queries.append(record.query)):
            yield Past.over(engine, connection), queries


async def logged() -> None:
    """Wait until the queries made so far are in the list: the driver tells of them a little later."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def no_presence(engine: Engine) -> Presence:
    """Presence, switched off."""
    off, profiles = PresenceConfig(enabled=False), Profiles(engine.database.pool)
    wake = engine.log.notifier.wake
    return Presence(
        off,
        Ephemeral(wake),
        wake,
        engine.log,
        engine.database.pool,
        profiles,
        engine.user_rooms,
        engine.cache,
    )


def clock() -> int:
    """A time at which all is past."""
    return NOW_MS


@dataclass(kw_only=True)
class Past:
    """The services, wired as `homeserver.app` does, on `pool`: a pool, or one connection to watch."""

    engine: Engine
    visibility: Visibility
    snapshots: SnapshotReader
    relations: Relations
    client_events: ClientEvents
    readers: Readers
    pages: HistoryPages
    history: History
    state: StateReading
    relating: RelatingEvents
    threads: Threads
    initial: RoomInitialSync
    reports: Reports

    @classmethod
    def over(cls, engine: Engine, pool: Any = None) -> Past:
        pool = pool or engine.database.pool
        memberships = MembershipHistory(pool)
        visibility = Visibility(pool, memberships)
        relations = Relations(pool, visibility, memberships, clock)
        client_events = ClientEvents(pool, visibility, relations, clock)
        readers = Readers(engine.rooms, engine.user_rooms, memberships)
        pages = HistoryPages(pool, visibility)
        snapshots = SnapshotReader(pool)
        account_data = engine.account_data
        history = History(
            pool, engine.rooms, readers, pages, visibility, snapshots, client_events, account_data
        )
        state = StateReading(pool, engine.rooms, readers, pages, snapshots, client_events)
        return cls(
            engine=engine,
            visibility=visibility,
            snapshots=snapshots,
            relations=relations,
            client_events=client_events,
            readers=readers,
            pages=pages,
            history=history,
            state=state,
            relating=RelatingEvents(pool, readers, pages, visibility, client_events, account_data, history),
            threads=Threads(pool, readers, visibility, relations, client_events, account_data),
            initial=RoomInitialSync(
                pool,
                engine.log,
                readers,
                pages,
                state,
                client_events,
                account_data,
                engine.publication,
                no_presence(engine),
            ),
            reports=Reports(pool, engine.rooms, history, clock),
        )

    # -- making a past --

    async def room(self, creator: Requester, *members: Requester, visibility: str = "shared") -> Room:
        """A public room with this history visibility from the start, which the members have joined."""
        room = await self.engine.create(
            creator,
            preset="public_chat",
            initial_state=[
                {
                    "type": "m.room.history_visibility",
                    "state_key": "",
                    "content": {"history_visibility": visibility},
                }
            ],
        )
        for member in members:
            await self.member(room, member, "join")
        return room

    async def put(
        self, room: Room, sender: Requester, type: str, content: dict[str, Any], state_key: str = ""
    ) -> Event:
        """Set a piece of state."""
        return await self.engine.rooms.send(
            room.room_id, Draft(sender=sender.user_id, type=type, content=content, state_key=state_key)
        )

    async def member(
        self, room: Room, user: Requester, membership: str, *, by: Requester | None = None, **content: Any
    ) -> Event:
        """Change a membership."""
        content = {"membership": membership, **content}
        return await self.put(room, by or user, "m.room.member", content, user.user_id)

    async def say(self, room: Room, sender: Requester, body: str = "hello", **more: Any) -> Event:
        """Send a message; `more` are further keys of its content."""
        return await self.send(room, sender, "m.room.message", {"msgtype": "m.text", "body": body, **more})

    async def send(
        self, room: Room, sender: Requester, type: str, content: dict[str, Any], **draft: Any
    ) -> Event:
        """Send an event that is no state."""
        return await self.engine.rooms.send(
            room.room_id, Draft(sender=sender.user_id, type=type, content=content, **draft)
        )

    async def relate(
        self, room: Room, sender: Requester, rel_type: str, target: Event, **content: Any
    ) -> Event:
        """Send a message that relates to another."""
        relates_to = {"rel_type": rel_type, "event_id": target.event_id}
        return await self.say(room, sender, **{"m.relates_to": relates_to, **content})

    async def redact(self, room: Room, sender: Requester, target: Event) -> Event:
        return await self.send(room, sender, "m.room.redaction", {}, redacts=target.event_id)

    async def events(self, room: Room) -> list[Event]:
        """All events of the room, as read from storage, oldest first."""
        rows = await self.engine.database.pool.fetch(EVENTS_OF_ROOM, room.nid)
        return [Event.of_timeline_row(row) for row in rows]

    # -- reading --

    async def messages(
        self,
        requester: Requester,
        room: Room,
        *,
        backwards: bool = True,
        start: str | None = None,
        to: str | None = None,
        limit: int = 100,
        filter: RoomEventFilter = ALL_ROOM_EVENTS,
    ) -> Any:
        """The answer of `getRoomEvents`."""
        query = MessagesQuery(backwards=backwards, start=start, to=to, limit=limit, filter=filter)
        return orjson.loads(await self.history.messages(requester, room.room_id, query))

    async def seen(self, requester: Requester, room: Room, **query: Any) -> list[str]:
        """The ids of all events that paging shows."""
        ids: list[str] = []
        while True:
            page = await self.messages(requester, room, **query)
            ids += [event["event_id"] for event in page["chunk"]]
            if "end" not in page:
                return ids
            query["start"] = page["end"]

    async def bundle(self, requester: Requester, room: Room, event: Event, ignored: Any = ()) -> Any:
        """What `unsigned["m.relations"]` of an event is; None where it has none."""
        stored = [each for each in await self.events(room) if each.event_id == event.event_id]
        bundles = await self.relations.bundles(room, requester, stored, frozenset(ignored))
        return orjson.loads(bundles[event.event_id]) if bundles else None

    async def related(self, requester: Requester, room: Room, event: Event, **query: Any) -> Any:
        """The answer of `getRelatingEvents`."""
        return orjson.loads(
            await self.relating.page(requester, room.room_id, event.event_id, RelationsQuery(**query))
        )
