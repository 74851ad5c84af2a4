"""/sync: what a device has missed, at once or as soon as there is something. See README.md."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import orjson

from homeserver.accounts.account_data import AccountData, AccountDataEvents
from homeserver.clock import Clock, now_ms
from homeserver.commit_log.ephemeral import Ephemeral
from homeserver.commit_log.log import CommitLog
from homeserver.commit_log.notifier import until_woken
from homeserver.encryption.device_lists import DeviceListNews
from homeserver.encryption.device_news import DeviceNews
from homeserver.encryption.to_device import ToDeviceBatch
from homeserver.filters.event_filter import EventFilter
from homeserver.requester import Requester
from homeserver.rooms.presence import Presence
from homeserver.rooms.room import MEMBER, Room, membership_of
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.user_rooms import UserRoom, UserRooms
from homeserver.storage.account_data import AccountDataChange
from homeserver.storage.connection import Pool
from homeserver.storage.receipts import Receipt, ReceiptChange, fetch_receipts_since
from homeserver.storage.rooms import changed_rooms
from homeserver.sync.context import SyncContext, SyncRequest
from homeserver.sync.lazy_members import LazyMembers
from homeserver.sync.outside_section import OutsideSection
from homeserver.sync.rooms_section import RoomNews, RoomsSection
from homeserver.sync.timelines import (
    TIMELINE_LIMIT_DEFAULT,
    TIMELINE_LIMIT_MAX,
    Timeline,
    Timelines,
    Wanted,
)
from homeserver.sync.token import SyncToken
from homeserver.sync.unread import UnreadCounts

ROOMS_AT_ONCE = 100  # read and encoded together: what a sync takes in memory does not grow with the rooms
ROOMS_PER_PAUSE = 20
LEFT = ("leave", "ban")
STRIPPED = ("invite", "knock")


class Sync:
    """Answers `sync` as JSON bytes."""

    def __init__(
        self,
        *,
        pool: Pool,
        log: CommitLog,
        rooms: Rooms,
        user_rooms: UserRooms,
        timelines: Timelines,
        section: RoomsSection,
        outside: OutsideSection,
        unread: UnreadCounts,
        lazy_members: LazyMembers,
        account_data: AccountData,
        ephemeral: Ephemeral,
        presence: Presence,
        device_news: DeviceNews,
        timeout_max_ms: int,
        clock: Clock = now_ms,
    ) -> None:
        self._pool = pool
        self._log = log
        self._rooms = rooms
        self._user_rooms = user_rooms
        self._timelines = timelines
        self._section = section
        self._outside = outside
        self._unread = unread
        self._lazy_members = lazy_members
        self._account_data = account_data
        self._ephemeral = ephemeral
        self._presence = presence
        self._device_news = device_news
        self._timeout_max_ms = timeout_max_ms
        self._clock = clock

    async def sync(self, requester: Requester, request: SyncRequest) -> bytes:
        """The answer: at once with news, in an initial sync and with `full_state`; else after waiting."""
        user_id = requester.user_id
        timeout_ms = min(request.timeout_ms, self._timeout_max_ms)
        self._presence.seen(
            user_id, request.set_presence, device_id=requester.device_id, timeout_ms=timeout_ms
        )
        if request.filter.room.state.lazy_load_members:
            self._lazy_members.begin(requester.device_nid, request.since)
        if request.since is None or request.full_state or timeout_ms <= 0:
            _, answer = await self._look(requester, request)
            return answer
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        notifier = self._log.notifier
        while True:
            woken = notifier.register(user_id)  # before the look: what comes during it wakes us too
            try:
                has_news, answer = await self._look(requester, request)
                remaining = deadline - loop.time()
                if has_news or remaining <= 0 or notifier.closed:
                    return answer
                await until_woken(woken, remaining)
            finally:
                notifier.unregister(user_id, woken)

    async def _look(self, requester: Requester, request: SyncRequest) -> tuple[bool, bytes]:
        """Whether there is news, and the answer."""
        now = SyncToken(self._log.position, self._ephemeral.counter)
        since = request.since
        device_nid = requester.device_nid
        counts = self._device_news.cached_key_counts(device_nid)
        if counts is None:
            counts = await self._device_news.key_counts(device_nid)
        if since == now and not request.full_state:  # nothing at all has happened since
            self._device_news.acknowledge(requester, now.position)
            return False, b'{"next_batch":"%b"%b}' % (str(now).encode(), counts.in_sync)
        context = SyncContext(
            requester=requester,
            request=request,
            since=min(since.position, now.position) if since is not None else 0,
            now=now,
            now_ms=self._clock(),
            ignored=await self._account_data.ignored(requester.user_id),
        )
        memberships = await self._user_rooms.get(requester.user_id)
        account_data = await self._account_data_events(context)
        met: set[str] = set()
        sections = await self._rooms_of(context, memberships, account_data.rooms, met)
        presence = await self._presence_events(context, met)
        account = _passing(account_data.account, request.filter.account_data)
        messages = await self._to_device(context)
        lists = await self._device_news.device_lists(requester, context.since, memberships) if since else None
        if messages.upto < now.position:
            now = replace(now, behind=messages.upto)
        parts = [b'{"next_batch":"%b"' % str(now).encode()]
        rooms = [b'"%b":{%b}' % (name, b",".join(found)) for name, found in sections.items() if found]
        if rooms:
            parts.append(b',"rooms":{' + b",".join(rooms) + b"}")
        if account:
            parts.append(b',"account_data":{"events":[%b]}' % b",".join(account))
        if presence:
            parts.append(b',"presence":{"events":[%b]}' % b",".join(presence))
        if messages.events:
            parts += [b',"to_device":{"events":[', messages.events, b"]}"]  # not copied once more
        if lists:
            parts.append(b',"device_lists":%b' % _encode_lists(lists))
        parts += [counts.in_sync, b"}"]
        has_news = bool(rooms or account or presence or messages.events or lists) or (
            since is not None and self._device_news.keys_were_claimed(requester, context.since)
        )
        return has_news, b"".join(parts)

    # -- what belongs to no room --

    async def _account_data_events(self, context: SyncContext) -> AccountDataEvents:
        requester = context.requester
        if context.initial:
            return await self._account_data.all(requester.user_id, requester.user_nid)
        if not self._log.tail.covers(context.since):
            return await self._account_data.since(requester.user_id, requester.user_nid, context.since)
        found = AccountDataEvents()
        latest: dict[tuple[int, str], AccountDataChange] = {}
        for change in self._log.tail.of_user(requester.user_id, context.since):
            if isinstance(change, AccountDataChange) and change.position <= context.upto:
                latest[(change.room_nid, change.type)] = change
        for (room_nid, _), change in latest.items():
            events = found.rooms.setdefault(room_nid, []) if room_nid else found.account
            events.append(change.event)
        return found

    async def _to_device(self, context: SyncContext) -> ToDeviceBatch:
        """What waits for the device; what it has by its token is done with."""
        requester, since = context.requester, context.request.since
        told = min(since.to_device, context.upto) if since is not None else 0
        if since is not None:
            self._device_news.acknowledge(requester, told)
        return await self._device_news.to_device_since(requester, told, context.upto)

    async def _presence_events(self, context: SyncContext, met: Iterable[str]) -> Sequence[bytes]:
        if not self._presence.enabled:
            return ()
        passing = context.request.filter.presence
        since = context.request.since
        events = await self._presence.since(
            context.requester.user_id, since.ephemeral if since is not None else 0, met
        )
        if passing.passes_all:
            return events
        return [event for event in events if passing.matches("m.presence", orjson.loads(event)["sender"])]

    # -- rooms --

    async def _rooms_of(
        self,
        context: SyncContext,
        memberships: Mapping[int, UserRoom],
        account_data: Mapping[int, list[bytes]],
        met: set[str],
    ) -> dict[bytes, list[bytes]]:
        """Encoded rooms by section, each as `"!id":{…}`; whom the user met in them is added to `met`."""
        filters = context.request.filter.room
        sections: dict[bytes, list[bytes]] = {b"join": [], b"invite": [], b"knock": [], b"leave": []}
        entries = await self._concerned(context, memberships, account_data)
        entries = [entry for entry in entries if filters.matches_room(entry.room_id)]
        for start in range(0, len(entries), ROOMS_AT_ONCE):
            await self._add_rooms(
                context, entries[start : start + ROOMS_AT_ONCE], account_data, sections, met
            )
        return sections

    async def _add_rooms(
        self,
        context: SyncContext,
        entries: Sequence[UserRoom],
        account_data: Mapping[int, list[bytes]],
        sections: dict[bytes, list[bytes]],
        met: set[str],
    ) -> None:
        outside = [entry for entry in entries if entry.outside]
        if outside:
            await self._outside.add(context, outside, sections)
            entries = [entry for entry in entries if not entry.outside]
        rooms = await self._rooms.get_by_nids([entry.room_nid for entry in entries])
        full: list[tuple[Room, UserRoom]] = []
        hidden = await self._hidden_invites(context, rooms, entries)
        for entry in entries:
            room = rooms[entry.room_nid]
            if room.nid in hidden:
                continue
            if entry.membership in STRIPPED:
                encoded = self._section.stripped(room, context.requester.user_id, entry.membership)
                sections[entry.membership.encode()].append(_named(room.room_id, encoded))
            else:
                full.append((room, entry))
        await self._add_full(context, full, account_data, sections, met)

    async def _hidden_invites(
        self, context: SyncContext, rooms: Mapping[int, Room], entries: Sequence[UserRoom]
    ) -> set[int]:
        """Invites that the user does not want to see: all, or those of ignored users.

        Source: Client-Server API, "Invite permission", "Ignoring Users".
        """
        user_id = context.requester.user_id
        invited = {entry.room_nid for entry in entries if entry.membership == "invite"}
        if not invited or await self._account_data.blocking_invites((user_id,)):
            return invited
        return {
            nid
            for nid in invited
            if (member := rooms[nid].member(user_id)) is not None and member.sender in context.ignored
        }

    async def _add_full(
        self,
        context: SyncContext,
        rooms: Sequence[tuple[Room, UserRoom]],
        account_data: Mapping[int, list[bytes]],
        sections: dict[bytes, list[bytes]],
        met: set[str],
    ) -> None:
        """Add joined rooms and those left."""
        timelines = await self._read_timelines(context, rooms)
        joined = [(room, entry) for room, entry in rooms if entry.membership == "join"]
        receipts = await self._receipts(context, joined)
        if not context.initial and any(_is_anew(context, entry) for _, entry in joined):
            account_data = await self._with_all_of_new_rooms(context, joined, account_data)
        await self._unread.load(
            context.requester.user_id,
            context.requester.user_nid,
            [(room, entry.since) for room, entry in joined],
            context.upto,
            context.ignored,
        )
        typing_since = context.request.since.ephemeral if context.request.since is not None else 0
        for count, (room, entry) in enumerate(rooms, 1):
            if count % ROOMS_PER_PAUSE == 0:
                await asyncio.sleep(0)  # others on the event loop get their turn
            is_joined = entry.membership == "join"
            news = RoomNews(
                room=room,
                entry=entry,
                timeline=timelines[room.nid],
                anew=_is_anew(context, entry),
                receipts=receipts.get(room.nid, ()) if is_joined else (),
                typing=self._typing(context, room, entry, typing_since) if is_joined else None,
                account_data=account_data.get(room.nid, ()),
            )
            if is_joined:
                met.update(self._met(context, news))
                encoded = await self._section.joined(context, news)
                if encoded is not None:
                    sections[b"join"].append(_named(room.room_id, encoded))
            else:
                sections[b"leave"].append(_named(room.room_id, await self._section.left(context, news)))

    async def _with_all_of_new_rooms(
        self,
        context: SyncContext,
        joined: Sequence[tuple[Room, UserRoom]],
        changed: Mapping[int, list[bytes]],
    ) -> Mapping[int, list[bytes]]:
        """Account data by room: of the rooms that the user came into, also what was set before, such as the
        tag of server notices."""
        requester = context.requester
        stored = (await self._account_data.all(requester.user_id, requester.user_nid)).rooms
        anew = {room.nid: stored.get(room.nid, []) for room, entry in joined if _is_anew(context, entry)}
        return {**changed, **anew}

    def _met(self, context: SyncContext, news: RoomNews) -> Iterable[str]:
        """Users whom the requester may share a room with only since the last sync."""
        if context.initial or not self._presence.enabled:
            return ()
        if news.anew:
            return self._presence.known_in(news.room)
        return (
            event.state_key
            for event in news.timeline.events
            if event.type == MEMBER and event.state_key is not None and membership_of(event) == "join"
        )

    def _typing(self, context: SyncContext, room: Room, entry: UserRoom, since: int) -> list[str] | None:
        anew = _is_anew(context, entry)
        typing = self._ephemeral.typing_since(room.nid, 0 if anew else since)
        if typing is not None and context.ignored:
            return [user_id for user_id in typing if user_id not in context.ignored]
        return typing

    async def _concerned(
        self,
        context: SyncContext,
        memberships: Mapping[int, UserRoom],
        account_data: Mapping[int, list[bytes]],
    ) -> list[UserRoom]:
        """The rooms that may have something to tell."""
        since, token = context.since, context.request.since
        include_leave = context.request.filter.room.include_leave
        if token is None:
            return [
                entry
                for entry in memberships.values()
                if not entry.forgotten and (entry.membership not in LEFT or include_leave)
            ]
        joined = (nid for nid, entry in memberships.items() if entry.membership == "join")
        if self._log.tail.covers(since):
            changed: Iterable[int] = self._log.tail.rooms_changed(memberships, since)
        else:
            changed = await changed_rooms(self._pool, list(memberships), since, context.upto)
            told = (nid for nid, entry in memberships.items() if entry.outside and entry.since > since)
            changed = (*changed, *told)
        if context.request.full_state:
            changed = (*joined, *changed)
        typed = self._ephemeral.rooms_typed_in_since(token.ephemeral)
        private = self._private_receipts(context)
        nids = dict.fromkeys((*changed, *typed, *account_data, *private))
        found = [memberships[nid] for nid in nids if nid in memberships]
        return [entry for entry in found if _is_shown(entry, since)]

    def _private_receipts(self, context: SyncContext) -> set[int]:
        """Rooms in which the user's private receipts moved: clear the counts on their other devices."""
        if not self._log.tail.covers(context.since):
            return set()
        changes = self._log.tail.of_user(context.requester.user_id, context.since)
        return {change.room_nid for change in changes if isinstance(change, ReceiptChange)}

    async def _read_timelines(
        self, context: SyncContext, rooms: Sequence[tuple[Room, UserRoom]]
    ) -> dict[int, Timeline]:
        passing = context.request.filter.room.timeline
        limit = passing.limit_within(TIMELINE_LIMIT_DEFAULT, TIMELINE_LIMIT_MAX)
        found: dict[int, Timeline] = {}
        from_storage: list[Wanted] = []
        for room, entry in rooms:
            if not passing.matches_room(room.room_id):
                found[room.nid] = Timeline([], False)
                continue
            # Of a room that was left, everything up to the leaving.
            upto = context.upto if entry.membership == "join" else min(context.upto, entry.last_change)
            wanted = Wanted(room, 0 if _is_anew(context, entry) else context.since, upto)
            timeline = self._timelines.from_tail(wanted, limit, passing, context.ignored)
            if timeline is None:
                from_storage.append(wanted)
            else:
                found[room.nid] = timeline
        if from_storage:
            found |= await self._timelines.from_storage(from_storage, limit, passing, context.ignored)
        return found

    async def _receipts(
        self, context: SyncContext, rooms: Sequence[tuple[Room, UserRoom]]
    ) -> dict[int, Sequence[Receipt]]:
        """Receipts that moved since the last sync; all of them in rooms that the client is told of anew."""
        user_id, tail = context.requester.user_id, self._log.tail
        found: dict[int, Sequence[Receipt]] = {}
        stored: dict[int, list[int]] = {}
        for room, entry in rooms:
            if _is_anew(context, entry):
                stored.setdefault(0, []).append(room.nid)
            elif not tail.covers(context.since):
                stored.setdefault(context.since, []).append(room.nid)
            else:
                public = [c for c in tail.of_room(room.nid, context.since) if isinstance(c, ReceiptChange)]
                if public:
                    found[room.nid] = [c.receipt for c in public if c.position <= context.upto]
        if not context.initial and tail.covers(context.since):
            for change in tail.of_user(user_id, context.since):
                if isinstance(change, ReceiptChange) and change.position <= context.upto:
                    found[change.room_nid] = [*found.get(change.room_nid, ()), change.receipt]
        for position, nids in stored.items():
            found |= await fetch_receipts_since(self._pool, nids, position, user_id)
        return found


def _is_anew(context: SyncContext, entry: UserRoom) -> bool:
    """Whether the client is told of the room from the start, as one that the user came into since."""
    return context.initial or (entry.membership == "join" and entry.since > context.since)


def _is_shown(entry: UserRoom, since: int) -> bool:
    """Whether an incremental sync may tell of the room: joined ones always, others when that is news.

    A room that was left and forgotten is news too, to the user's other devices.
    """
    return entry.membership == "join" or entry.since > since


def _named(room_id: str, encoded: bytes) -> bytes:
    return orjson.dumps(room_id) + b":" + encoded


def _encode_lists(lists: DeviceListNews) -> bytes:
    """Without a list that is empty, which clients need not look at."""
    named = {"changed": sorted(lists.changed), "left": sorted(lists.left)}
    return orjson.dumps({name: user_ids for name, user_ids in named.items() if user_ids})


def _passing(events: Sequence[bytes], passing: EventFilter) -> Sequence[bytes]:
    if passing.passes_all:
        return events
    return [event for event in events if passing.matches(orjson.loads(event)["type"], None)]
