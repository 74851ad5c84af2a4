"""`/events`, its form for a single room, and `/initialSync`: deprecated, and still in the specification.

Source: old_sync.yaml, peeking_events.yaml.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import orjson

from homeserver.accounts.account_data import AccountData, AccountDataEvents
from homeserver.clock import now_ms
from homeserver.commit_log.ephemeral import Ephemeral
from homeserver.commit_log.log import CommitLog
from homeserver.commit_log.notifier import until_woken
from homeserver.errors import Forbidden
from homeserver.filters.event_filter import ALL_ROOM_EVENTS
from homeserver.requester import Requester
from homeserver.rooms.aliases import Publication
from homeserver.rooms.client_events import ClientEvents, in_old_form
from homeserver.rooms.membership_history import MembershipHistory
from homeserver.rooms.outside_rooms import OutsideRooms
from homeserver.rooms.presence import ONLINE, Presence, with_user_in_content
from homeserver.rooms.room import Room
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.snapshot_reader import SnapshotReader, durable_state
from homeserver.rooms.user_rooms import UserRoom, UserRooms
from homeserver.rooms.visibility import Visibility
from homeserver.storage.account_data import AccountDataChange
from homeserver.storage.connection import Pool
from homeserver.storage.receipts import Receipt, ReceiptChange, encode_receipts, fetch_receipts_since
from homeserver.sync.timelines import Timelines, Wanted
from homeserver.sync.token import SyncToken

EVENTS_MAX = 100  # of one room in one answer
PEEK_POLL_S = 1.0  # who has not joined a room is not woken by it
LEFT = ("leave", "ban")
# Left out of /initialSync, which has "the global private data created by this user": clients of that age ask
# for push rules by themselves.
PUSH_RULES = "m.push_rules"


@dataclass(frozen=True, slots=True, kw_only=True)
class OldEvents:
    """Events of rooms one after another, without anything around them."""

    pool: Pool
    log: CommitLog
    rooms: Rooms
    user_rooms: UserRooms
    timelines: Timelines
    visibility: Visibility
    client_events: ClientEvents
    snapshots: SnapshotReader
    memberships: MembershipHistory
    account_data: AccountData
    publication: Publication
    ephemeral: Ephemeral
    presence: Presence
    outside: OutsideRooms
    timeout_max_ms: int

    def now(self) -> SyncToken:
        return SyncToken(self.log.position, self.ephemeral.counter)

    async def events(self, requester: Requester, since: SyncToken | None, timeout_ms: int) -> bytes:
        """`getEvents`: what came after `since` (by default now) into the user's rooms."""
        timeout_ms = self._begin(requester, timeout_ms)
        start = since or self.now()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        while True:
            woken = self.log.notifier.register(requester.user_id)
            try:
                end = self.now()
                events = await self._joined_events(requester, start, end)
                remaining = deadline - loop.time()
                if events or remaining <= 0 or self.log.notifier.closed:
                    return _chunk(start, end, events)
                await until_woken(woken, remaining)
            finally:
                self.log.notifier.unregister(requester.user_id, woken)

    async def peek(
        self, requester: Requester, room_id: str, since: SyncToken | None, timeout_ms: int
    ) -> bytes:
        """`peekEvents`: the same of one room, joined or world readable. Raises Forbidden, NotFound."""
        timeout_ms = self._begin(requester, timeout_ms)
        start = since or self.now()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        while True:
            room = await self.rooms.get(room_id)
            if room.membership(requester.user_id) != "join" and room.history_visibility != "world_readable":
                raise Forbidden("You may not look into this room without joining it")
            end = self.now()
            events = await self._events_of(requester, room, start, end)
            events += self._typing(room, start)
            events += map(with_user_in_content, self.presence.changed_in(room, start.ephemeral))
            receipts = await self._receipts(requester, {room.nid: room_id}, start, end)
            remaining = deadline - loop.time()
            if events or receipts or remaining <= 0 or self.log.notifier.closed:
                return _chunk(start, end, [*events, *receipts])
            await asyncio.sleep(min(PEEK_POLL_S, remaining))

    def _begin(self, requester: Requester, timeout_ms: int) -> int:
        """For how long to wait. Who is connected to an event stream is online: "Presence"."""
        timeout_ms = min(timeout_ms, self.timeout_max_ms)
        self.presence.seen(
            requester.user_id, ONLINE, device_id=requester.device_id, timeout_ms=max(timeout_ms, 0)
        )
        return timeout_ms

    async def _joined_events(self, requester: Requester, start: SyncToken, end: SyncToken) -> list[bytes]:
        memberships = await self.user_rooms.get(requester.user_id)
        concerned = [
            entry
            for entry in memberships.values()
            if (entry.membership == "join" or entry.since > start.position) and not entry.outside
        ]
        if self.log.tail.covers(start.position):
            changed = set(
                self.log.tail.rooms_changed([entry.room_nid for entry in concerned], start.position)
            )
            concerned = [entry for entry in concerned if entry.room_nid in changed]
        events: list[bytes] = []
        for entry in concerned:
            room = await self.rooms.get_by_nid(entry.room_nid)
            events += await self._events_of(requester, room, start, end)
            if entry.membership == "join":
                events += self._typing(room, start)
        joined = {entry.room_nid: entry.room_id for entry in concerned if entry.membership == "join"}
        events += await self._kept(requester, memberships, joined, start, end)
        events += await self._receipts(requester, joined, start, end)
        presence = await self.presence.since(requester.user_id, start.ephemeral)
        return [*events, *map(with_user_in_content, presence)]

    async def _kept(
        self,
        requester: Requester,
        memberships: Mapping[int, UserRoom],
        joined: Collection[int],
        start: SyncToken,
        end: SyncToken,
    ) -> list[bytes]:
        """What changed of the user's account data."""
        tail, user_id, after = self.log.tail, requester.user_id, start.position
        account_data = AccountDataEvents()
        if tail.covers(after):
            of_rooms = (change for nid in joined for change in tail.of_room(nid, after))
            for change in (*tail.of_user(user_id, after), *of_rooms):
                if change.position > end.position:
                    continue
                if isinstance(change, AccountDataChange) and change.room_nid:
                    account_data.rooms.setdefault(change.room_nid, []).append(change.event)
                elif isinstance(change, AccountDataChange):
                    account_data.account.append(change.event)
        else:
            account_data = await self.account_data.since(user_id, requester.user_nid, after)
        events = account_data.account
        for nid, of_room in account_data.rooms.items():
            if nid in memberships:
                room_id = b',"room_id":%b}' % orjson.dumps(memberships[nid].room_id)
                events = [*events, *(event[:-1] + room_id for event in of_room)]
        return events

    def _typing(self, room: Room, start: SyncToken) -> list[bytes]:
        typing = self.ephemeral.typing_since(room.nid, start.ephemeral)
        if typing is None:
            return []
        return [orjson.dumps({"type": "m.typing", "room_id": room.room_id, "content": {"user_ids": typing}})]

    async def _receipts(
        self, requester: Requester, rooms: Mapping[int, str], start: SyncToken, end: SyncToken
    ) -> list[bytes]:
        """The receipts that moved in some rooms, given by number with their ids."""
        tail, user_id, after = self.log.tail, requester.user_id, start.position
        if tail.covers(after):
            receipts: dict[int, list[Receipt]] = {}
            for change in (
                *tail.of_user(user_id, after),
                *(c for nid in rooms for c in tail.of_room(nid, after)),
            ):
                if (
                    isinstance(change, ReceiptChange)
                    and change.position <= end.position
                    and change.owner in (None, user_id)
                ):
                    receipts.setdefault(change.room_nid, []).append(change.receipt)
        else:
            receipts = await fetch_receipts_since(self.pool, rooms, after, user_id)
        return [
            event
            for nid, read in receipts.items()
            if nid in rooms
            for event in encode_receipts(read, rooms[nid])
        ]

    async def _events_of(
        self, requester: Requester, room: Room, start: SyncToken, end: SyncToken
    ) -> list[bytes]:
        events, _ = await self._newest(requester, room, start.position, end.position, EVENTS_MAX)
        return events

    async def _newest(
        self, requester: Requester, room: Room, after: int, upto: int, limit: int
    ) -> tuple[list[bytes], int]:
        """The newest events that the user may see, and the position before them."""
        if limit == 0:
            return [], upto
        wanted = Wanted(room, after, upto)
        ignored = await self.account_data.ignored(requester.user_id)
        timeline = self.timelines.from_tail(wanted, limit, ALL_ROOM_EVENTS, ignored)
        if timeline is None:
            found = await self.timelines.from_storage([wanted], limit, ALL_ROOM_EVENTS, ignored)
            timeline = found[room.nid]
        events = await self.visibility.filter(room, requester.user_id, timeline.events)
        encoded = await self.client_events.encode(room, requester, events, with_room_id=True)
        return in_old_form(events, encoded), events[0].nid - 1 if events else upto

    async def initial(self, requester: Requester, limit: int, *, archived: bool) -> bytes:
        """`initialSync`: the user's rooms with their state and newest events."""
        self._begin(requester, 0)
        end = self.now()
        account_data = await self.account_data.all(requester.user_id, requester.user_nid)
        memberships = await self.user_rooms.get(requester.user_id)
        entries = [
            entry
            for entry in memberships.values()
            if not entry.forgotten and (archived or entry.membership not in LEFT)
        ]
        limit = min(limit, EVENTS_MAX)
        rooms = [
            await self._room(requester, entry, end, limit, account_data.rooms.get(entry.room_nid, ()))
            for entry in entries
        ]
        presence = map(with_user_in_content, await self.presence.since(requester.user_id, 0))
        joined = {entry.room_nid: entry.room_id for entry in entries if entry.membership == "join"}
        receipts: list[bytes] = []
        for nid, read in (await fetch_receipts_since(self.pool, joined, 0, requester.user_id)).items():
            receipts += encode_receipts(read, joined[nid])
        return b'{"end":"%b","rooms":[%b],"presence":[%b],"receipts":[%b],"account_data":[%b]}' % (
            str(end).encode(),
            b",".join(rooms),
            b",".join(presence),
            b",".join(receipts),  # not in the specification any more
            b",".join(event for event in account_data.account if orjson.loads(event)["type"] != PUSH_RULES),
        )

    async def _room(
        self,
        requester: Requester,
        entry: UserRoom,
        end: SyncToken,
        limit: int,
        account_data: Sequence[bytes],
    ) -> bytes:
        parts = [
            b'{"room_id":' + orjson.dumps(entry.room_id),
            b',"membership":"%b"' % entry.membership.encode(),
        ]
        if entry.outside:  # there is nothing but the member event
            known = (await self.outside.of_user(requester.user_nid, [entry.room_nid])).get(entry.room_nid)
            if entry.membership == "invite" and known is not None:
                invite = known.event.encode(now_ms(), room_id=entry.room_id)
                parts.append(b',"invite":' + invite)
            return b"".join((*parts, b"}"))
        room = await self.rooms.get_by_nid(entry.room_nid)
        member = room.member(requester.user_id)
        if entry.membership == "invite" and member is not None:
            [encoded] = await self.client_events.encode(room, requester, [member], with_room_id=True)
            parts.append(b',"invite":' + encoded)
        elif entry.membership != "knock":
            parts += await self._contents(requester, room, entry, end, limit, account_data)
        parts.append(b"}")
        return b"".join(parts)

    async def _contents(
        self,
        requester: Requester,
        room: Room,
        entry: UserRoom,
        end: SyncToken,
        limit: int,
        account_data: Sequence[bytes],
    ) -> list[bytes]:
        joined = entry.membership == "join"
        upto = end.position if joined else min(end.position, entry.last_change)
        chunk, start = await self._newest(requester, room, 0, upto, limit)
        if joined:
            state = durable_state(room, self.log.position)
        else:  # as it was when their last stay ended; for who never came, none
            leaving = (await self.memberships.of(room, requester.user_id)).leaving()
            state = await self.snapshots.state_after(room, leaving.nid) if leaving is not None else {}
        events = list(state.values())
        encoded = await self.client_events.encode(room, requester, events, with_room_id=True)
        published = await self.publication.is_published(room.nid)
        return [
            b',"messages":{"start":"%b","end":"%b","chunk":[%b]}'
            % (
                str(SyncToken(start, end.ephemeral)).encode(),
                str(SyncToken(upto, end.ephemeral)).encode(),
                b",".join(chunk),
            ),
            b',"state":[%b]' % b",".join(in_old_form(events, encoded)),
            b',"account_data":[%b]' % b",".join(account_data),
            b',"visibility":"%b"' % (b"public" if published else b"private"),
        ]


def _chunk(start: SyncToken, end: SyncToken, events: Sequence[bytes]) -> bytes:
    return b'{"start":"%b","end":"%b","chunk":[%b]}' % (
        str(start).encode(),
        str(end).encode(),
        b",".join(events),
    )
