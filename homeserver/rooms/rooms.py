"""The engine's front door: get a room, send into it. See README.md for the life of a send."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import structlog

from federation.event import PDU
from federation.keys import SigningKey
from federation.policy_server import POLICY_KEY, needs_recommendation
from federation.room_versions import RoomVersion
from homeserver.commit_log.change import Change
from homeserver.commit_log.committer import ChainBroken
from homeserver.commit_log.log import CommitLog
from homeserver.errors import Forbidden, NotFound, Unavailable
from homeserver.keyed_locks import KeyedLocks
from homeserver.rooms.appending import Appending
from homeserver.rooms.changes import RoomEventChange, RoomWrittenElsewhere
from homeserver.rooms.draft import Draft
from homeserver.rooms.event import Event
from homeserver.rooms.loading import RoomCache
from homeserver.rooms.partial_state import Completions
from homeserver.rooms.policy import PolicySigner, policy_of, signed_event
from homeserver.rooms.redacting import redact_durably
from homeserver.rooms.room import Room
from homeserver.rooms.sent_transactions import SentTransactions
from homeserver.storage import events as event_sql
from homeserver.storage import rooms as room_sql
from homeserver.storage.database import Database

log = structlog.get_logger()

BUILT_AT_ONCE = 50  # events of a new room, before others on the event loop get their turn
LOADED_AT_ONCE = 8  # rooms that are read side by side
ATTEMPTS = 5  # of a send whose room turns out to be behind
CHECK_ATTEMPTS = 10  # likewise, where a policy server is asked meanwhile
BATCHES_UNHELD = 3  # of local sends, before they wait for whoever needs a settled room


class Rooms:
    """All rooms of the node."""

    def __init__(
        self,
        database: Database,
        commit_log: CommitLog,
        cache: RoomCache,
        server_name: str,
        key: SigningKey,
        policy_signer: PolicySigner | None = None,
    ) -> None:
        self._database = database
        self._log = commit_log
        self._cache = cache
        self._server_name = server_name
        self._appending = Appending(server_name, key, self.is_durable)
        self._policy_signer = policy_signer
        self._checking: KeyedLocks[str] = KeyedLocks()
        self._last_creation_ms = 0
        self.completions = Completions()
        self._transactions = SentTransactions(database.pool)

    # -- getting --

    async def find(self, room_id: str) -> Room | None:
        """The room, or None if this node does not know it."""
        return self._cache.loaded(room_id) or await self._cache.get(room_id)

    async def get(self, room_id: str) -> Room:
        """The room. Raises NotFound if this node does not know it."""
        room = await self.find(room_id)
        if room is None:
            raise NotFound("This server does not know the room")
        return room

    async def get_by_nid(self, nid: int) -> Room:
        """The room of this number. Raises NotFound."""
        room = self._cache.loaded_nid(nid) or await self._cache.get_nid(nid)
        if room is None:
            raise NotFound("This server does not know the room")
        return room

    async def get_by_nids(self, nids: Sequence[int]) -> dict[int, Room]:
        """The rooms of these numbers; those that are not in memory are read side by side. Raises NotFound."""
        rooms: dict[int, Room] = {}
        missing: list[int] = []
        for nid in nids:
            room = self.loaded_nid(nid)
            if room is not None:
                rooms[nid] = room
            else:
                missing.append(nid)
        for start in range(0, len(missing), LOADED_AT_ONCE):
            batch = missing[start : start + LOADED_AT_ONCE]
            for room in await asyncio.gather(*map(self.get_by_nid, batch)):
                rooms[room.nid] = room
        return rooms

    def loaded_nid(self, nid: int) -> Room | None:
        """The room of this number if it is in memory."""
        return self._cache.loaded_nid(nid)

    async def get_joined(self, room_id: str, user_id: str) -> Room:
        """A room that the user has joined. Raises Forbidden otherwise, whether it exists or not."""
        room = await self.find(room_id)
        if room is None or room.membership(user_id) != "join":
            raise Forbidden("You are not in this room: join it first")
        return room

    async def whole(self, room_id: str) -> Room:
        """A room when all its members are known: see `partial_rooms`. Raises NotFound, Unavailable."""
        room = await self.get(room_id)
        while room.partial_servers is not None:
            await self.completions.wait(room.nid)
            room = await self.get(room_id)
        return room

    @property
    def position(self) -> int:
        """The newest position of the log that readers may see."""
        return self._log.position

    def is_durable(self, event: Event) -> bool:
        """Whether an event of a room's state is stored, so that its existence may be answered for."""
        return event.nid != 0 and event.nid <= self._log.position

    # -- sending --

    async def send(self, room_id: str, draft: Draft) -> Event:
        """Authorise, sign and append an event; it is durable when this returns.

        With a transaction id, sending again gives the same event. A state event equal to the current
        one is not sent again. Raises Forbidden, NotFound, BadJson, TooLarge, Unavailable.
        """
        if draft.txn_id is None or draft.device_nid is None:
            return await self._send_one(room_id, draft)
        room = self._cache.loaded(room_id) or await self.get(room_id)
        transaction = (draft.device_nid, draft.txn_id, room.nid, draft.type)
        return await self._transactions.once(transaction, lambda: self._send_one(room_id, draft))

    async def send_all(self, room_id: str, drafts: Sequence[Draft]) -> list[Event]:
        """Send several events in order, all or none. Raises as `send`."""
        return await self._send_now(room_id, drafts)

    async def _send_one(self, room_id: str, draft: Draft) -> Event:
        return (await self._send_now(room_id, (draft,)))[0]

    async def _send_now(self, room_id: str, drafts: Sequence[Draft]) -> list[Event]:
        for _ in range(ATTEMPTS):
            room = self._cache.loaded(room_id) or await self.get(room_id)
            targets = {
                draft.redacts: await self._target(room, draft.redacts) for draft in drafts if draft.redacts
            }
            if room.held is not None:
                await room.held.wait()
                continue
            if room.stale or (targets and self._cache.loaded(room_id) is not room):
                continue  # while we looked for the targets it was let go: others may hold another copy
            if POLICY_KEY in room.state and policy_of(room) is not None:
                return await self._send_checked(room_id, drafts)
            changes = self.append(room, drafts, targets)
            events = [change.event for change in changes]
            if not changes:
                return [room.state[(draft.type, draft.state_key or "")] for draft in drafts]
            try:
                await self.commit(room, changes)
            except (ChainBroken, RoomWrittenElsewhere):
                continue
            return events
        raise Unavailable("The room is too busy: try again")

    # -- rooms with a policy server --

    async def _send_checked(self, room_id: str, drafts: Sequence[Draft]) -> list[Event]:
        """As `_send_now`, where each event is signed by the room's policy server before it counts.

        One after the other: if one is refused, those before it have been sent. Raises what asking does.
        """
        async with self._checking.hold(room_id):
            return [await self._send_one_checked(room_id, draft) for draft in drafts]

    async def _send_one_checked(self, room_id: str, draft: Draft) -> Event:
        for _ in range(CHECK_ATTEMPTS):
            room = await self.get(room_id)
            targets = {draft.redacts: await self._target(room, draft.redacts)} if draft.redacts else {}
            newest = room.extremities
            policy = policy_of(room)
            signed = None
            if policy is not None and needs_recommendation(draft.type, draft.state_key):
                pdu, _ = self.propose(room, draft)
                signed = await signed_event(self._policy_signer, policy, pdu)
            if room.held is not None:
                await room.held.wait()
                continue
            if room.stale or room.extremities is not newest or self._cache.loaded(room_id) is not room:
                continue  # others wrote meanwhile, so the event would not come after theirs
            changes = self.append(room, (draft,), targets, signed)
            if not changes:
                return room.state[(draft.type, draft.state_key or "")]
            try:
                await self.commit(room, changes)
            except (ChainBroken, RoomWrittenElsewhere):
                continue
            return changes[0].event
        raise Unavailable("The room is too busy: try again")

    # -- making durable --

    async def commit(self, room: Room, changes: Sequence[Change]) -> None:
        """Make appended changes durable. Raises ChainBroken if what they were built on was lost, Unavailable.

        A caller that is cancelled leaves them to be written all the same.
        """
        await asyncio.shield(self.submit(room, changes))

    def submit(self, room: Room, changes: Sequence[Change]) -> asyncio.Future[None]:
        """As `commit`, without waiting: the future is done when the changes are durable."""
        self._cache.count(room)
        try:
            future = self._log.submit(changes, room)
        except Unavailable:
            room.stale = True  # it holds what nobody will write
            self._cache.drop(room)
            raise
        room.pending += 1
        room.last_commit = future
        future.add_done_callback(lambda _: self._committed(room, changes, future))
        return future

    async def settle_whole(self, room: Room) -> None:
        """Wait until nothing is pending. Raises ChainBroken if some of it was lost.

        Where people go on talking that moment would not come: after a few batches local sends wait for it.
        """
        held, batches = None, 0
        try:
            while room.pending and room.last_commit is not None:
                if batches == BATCHES_UNHELD and room.held is None:
                    held = room.held = asyncio.Event()
                await asyncio.wait((room.last_commit,))
                await asyncio.sleep(0)
                batches += 1
        finally:
            if held is not None:
                held.set()
                if room.held is held:
                    room.held = None
        if room.stale:
            raise ChainBroken

    def _committed(self, room: Room, changes: Sequence[Change], future: asyncio.Future[None]) -> None:
        room.pending -= 1
        if room.last_commit is future:
            room.last_commit = None
        if room.stale:
            self._cache.drop(room)
        if future.cancelled() or future.exception() is not None:  # cancelled: the node is ending
            return
        for change in changes:
            if not isinstance(change, RoomEventChange):
                continue
            if change.merge is not None and change.merge.state:
                room.resolved_at = max(room.resolved_at, change.position)
            if change.redaction is not None:
                redact_durably(self._log.tail, room, change.redaction)
            change.release()

    async def settle(self, room: Room) -> None:
        """Wait until all that is being committed of a room is durable, or has failed."""
        if room.last_commit is not None:
            await asyncio.wait((room.last_commit,))

    async def next_nid(self) -> int:
        """A number for a room to be created."""
        return await room_sql.next_nid(self._database.pool)

    def unknown(self, nid: int, room_id: str, version: RoomVersion) -> Room:
        """An empty room, for one that was created elsewhere: its first change stores it. See `adopt`."""
        room = Room(nid=nid, room_id=room_id, version=version, server_name=self._server_name)
        room.is_new = True
        return room

    def adopt(self, room: Room) -> None:
        """Keep an `unknown` room, when its first change is about to be submitted."""
        self._cache.add(room)

    async def create(
        self, version: RoomVersion, room_id: str, drafts: Sequence[Draft], *, nid: int | None = None
    ) -> Room:
        """A new room with its first events, `m.room.create` first; durable when this returns.

        `room_id` is ignored where the room version derives it from the create event. `nid` is one of
        `next_nid`, for whoever needed it before. Raises as `send`.
        """
        if nid is None:
            nid = await self.next_nid()
        room = Room(nid=nid, room_id=room_id, version=version, server_name=self._server_name)
        if version.room_id_is_create_hash:
            room.room_id = ""
        room.is_new = True
        # Where the room's id is its create event's hash, two rooms that a user creates in one
        # millisecond would be the same one.
        self._last_creation_ms = max(self._last_creation_ms + 1, time.time_ns() // 1_000_000)
        first = replace(drafts[0], origin_server_ts=self._last_creation_ms)
        changes = self.append(room, (first, *drafts[1:BUILT_AT_ONCE]), {})
        for start in range(BUILT_AT_ONCE, len(drafts), BUILT_AT_ONCE):
            await asyncio.sleep(0)  # nobody knows of the room yet, so nothing can come between
            changes += self.append(room, drafts[start : start + BUILT_AT_ONCE], {})
        self._cache.add(room)
        await self.commit(room, changes)
        room.is_new = False
        return room

    def append(
        self,
        room: Room,
        drafts: Sequence[Draft],
        targets: dict[str, Event | None],
        built: tuple[PDU, bytes] | None = None,
    ) -> list[RoomEventChange]:
        """Build events on each other and apply them to the room in memory.

        State that would not change is left out. `built` is the one draft's event, if it is there already.
        Nothing is applied if any of them is refused: a room with several drafts, some of them applied, is
        dropped and read again.
        """
        changes: list[RoomEventChange] = []
        try:
            for draft in drafts:
                target = targets.get(draft.redacts) if draft.redacts else None
                change = self._appending.append(room, draft, target, built)
                if change is not None:
                    changes.append(change)
        except BaseException:
            if changes:
                room.stale = True
                self._cache.drop(room)
            raise
        if changes and room.summary_outdated:
            changes[-1].summary = room.summary_json()
        return changes

    def propose(self, room: Room, draft: Draft, *, with_origin: bool = False) -> tuple[PDU, bytes]:
        """See `Appending.propose`."""
        return self._appending.propose(room, draft, with_origin=with_origin)

    async def _target(self, room: Room, event_id: str) -> Event | None:
        """The event that a redaction names, if it is one of this room and not redacted yet."""
        rows = await event_sql.by_ids(self._database.pool, [event_id])
        target = Event.of_row(rows[0]) if rows else None
        if target is None or target.room_nid != room.nid or target.redacted_by is not None:
            return None
        return target
