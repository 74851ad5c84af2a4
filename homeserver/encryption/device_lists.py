"""Device lists: telling of changes, and whose are news to a user.

What is news of the newest positions is kept here, in memory: changed lists, and who began or stopped being
in a room. A sync that begins before that asks the database. "Sharing a room" is taken as sharing any room,
encrypted or not: "for the sake of simpler logic, a server may add Alice to `changed` when Alice and Bob
share a new room". Source: Client-Server API, "Tracking the device list for a user".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby

import structlog

from homeserver.commit_log.change import Change
from homeserver.commit_log.log import CommitLog
from homeserver.encryption.device_numbers import DeviceNumbers
from homeserver.encryption.list_updates import ListUpdates
from homeserver.errors import MatrixError
from homeserver.keyed_locks import KeyedLocks
from homeserver.requester import Requester
from homeserver.rooms.changes import RoomEventChange
from homeserver.rooms.loading import RoomCache
from homeserver.rooms.partial_rooms import MembersKnown
from homeserver.rooms.room import Room, membership_of
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.user_rooms import LEFT, UserRoom, UserRooms
from homeserver.storage import device_lists as sql
from homeserver.storage.connection import Pool
from homeserver.storage.cross_signing import (
    CrossSigningChange,
    UserSignaturesChange,
    fetch_cross_signing_keys,
)
from homeserver.storage.device_lists import DeviceListChange

log = structlog.get_logger()

RECENT_BYTES_MAX = 4 * 1024 * 1024  # of the news kept in memory
NEWS_BYTES, ROOM_BYTES = 200, 40  # about, of a piece of news, and of each room that it names
MOVES_MAX = 100  # of one change that are kept one by one
UNTOLD_AT_ONCE = 500
JOINS_MAX = 10_000  # of users of whose devices servers are still to be told
DEVICES_TOLD_MAX = 50  # to a server that is told of a user's devices anew
UNTOLD_PAUSE_S = 1.0  # until what failed is tried again
UNTOLD_INTERVAL_S = 60.0  # the command line deletes devices beside the running node
ENCRYPTION = "m.room.encryption"


@dataclass(frozen=True, slots=True)
class DeviceListNews:
    """Users whose devices a client has to ask for again, and those it need not track any longer."""

    changed: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.changed or self.left)


NOTHING = DeviceListNews()
NO_SERVERS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Moved:
    """A user began or stopped being joined to a room, or was invited."""

    position: int
    room_nid: int
    user_id: str
    joined: bool


@dataclass(frozen=True, slots=True)
class _AllMembers:
    """All members of a room are news: its encryption was set, or many came at once."""

    position: int
    room_nid: int


_News = DeviceListChange | UserSignaturesChange | _Moved | _AllMembers


@dataclass(slots=True)
class _Findings:
    """What a walk over recent news gathers for one user."""

    changed: set[str]
    candidates: set[str]  # to have left
    rooms: set[int]  # all of whose members are news
    left_rooms: set[int]


class DeviceLists:
    """Follows the commit log; subscribe it after UserRooms, whose rooms it reads."""

    def __init__(
        self,
        pool: Pool,
        commit_log: CommitLog,
        rooms: Rooms,
        user_rooms: UserRooms,
        loaded: RoomCache,
        numbers: DeviceNumbers,
        server_name: str,
    ) -> None:
        self._pool = pool
        self._log = commit_log
        self._rooms = rooms
        self._user_rooms = user_rooms
        self._loaded = loaded
        self._numbers = numbers
        self._suffix = ":" + server_name
        self._updates = ListUpdates(pool)
        self._locks: KeyedLocks[int] = KeyedLocks()
        self._are_untold = asyncio.Event()  # devices are gone, or have other names, and telling of it failed
        self._joins: asyncio.Queue[tuple[str, int]] = asyncio.Queue(JOINS_MAX)
        self._start = self._last = commit_log.position
        self._recent: deque[_News] = deque()
        self._recent_bytes = 0
        commit_log.subscribe(self._follow)

    # -- telling --

    async def commit(
        self,
        user_id: str,
        user_nid: int,
        changes: Sequence[Change],
        device_ids: Collection[str] = (),
        *,
        is_private: bool = False,
    ) -> None:
        """Write changes of a user's keys, and tell whoever shares a room with the user of them.

        ``device_ids`` are those of the devices concerned; other servers are told of each. What ``is_private``
        nobody sees but the user.
        """
        memberships = await self._user_rooms.get(user_id)  # so that they are in memory when it is durable
        joined = [nid for nid, entry in memberships.items() if entry.membership == "join"]
        unloaded = [nid for nid in joined if self._loaded.loaded_nid(nid) is None]
        rooms = frozenset() if is_private else frozenset(joined)
        change = DeviceListChange(user_id, user_nid, tuple(device_ids), rooms=rooms, is_private=is_private)
        if unloaded and not is_private:
            change.audience = await sql.fetch_local_members(self._pool, unloaded)
        is_local = user_id.endswith(self._suffix)
        servers = await self._servers(joined) if is_local else NO_SERVERS
        edus: Sequence[Change] = ()
        async with self._locks.hold(user_nid):
            if is_local:
                edus, change.stream_id = await self._updates.of(
                    user_id, user_nid, servers, change.devices, changes
                )
            try:
                await self._log.commit(*changes, *edus, change)
            finally:
                change.audience = ()  # the tail keeps the change: who was woken is of no interest there

    async def _servers(self, room_nids: Collection[int]) -> set[str]:
        """The other servers in some rooms."""
        servers: set[str] = set()
        unloaded: list[int] = []
        for nid in room_nids:
            room = self._loaded.loaded_nid(nid)
            if room is None:
                unloaded.append(nid)
            else:
                servers.update(room.remote_servers)
        if unloaded:
            servers |= await sql.fetch_servers(self._pool, unloaded)
        return servers

    async def tell_joins(self) -> None:
        """Tell servers of the devices of users who came to share a room with them; for the supervisor.

        "when that user joins a room which contains servers which are not already receiving updates for that
        user's device list". What a dying node leaves undone does no harm: a server without the list asks.
        """
        while True:
            user_id, room_nid = await self._joins.get()
            memberships = await self._user_rooms.get(user_id)
            others = [nid for nid, one in memberships.items() if one.membership == "join" and nid != room_nid]
            new = await self._servers((room_nid,)) - await self._servers(others)
            if not new:
                continue
            user_nid, device_ids = await sql.fetch_devices_with_keys(self._pool, user_id)
            async with self._locks.hold(user_nid):
                # These go on from the last update that all servers know; the next for all does too.
                told = device_ids[-DEVICES_TOLD_MAX:]
                keys = (await fetch_cross_signing_keys(self._pool, (user_id,))).get(user_id, {})
                identity = CrossSigningChange(user_nid, dict(keys))
                edus, _ = await self._updates.of(user_id, user_nid, new, told, (identity,))
                if edus:
                    await self._log.commit(*edus)

    async def tell_of_devices(self, user_id: str, user_nid: int) -> None:
        """Tell of a user's devices that came, went or were renamed. What fails is done later, by `run`.

        "must be sent whenever that user's device list changes (i.e. for new or deleted devices, …)": also of
        devices that have no keys yet.
        """
        self._numbers.forget(user_id)
        try:
            untold = await sql.fetch_untold_of_user(self._pool, user_nid)
            if untold:
                await self.commit(user_id, user_nid, (), [device.device_id for device in untold])
        except MatrixError as error:
            self._are_untold.set()
            log.warning("deleted devices are told of later", user_id=user_id, error=error.message)
        except BaseException:
            self._are_untold.set()
            raise

    async def run(self) -> None:
        """Tell of devices that were deleted by the command line, or just before the node died."""
        while True:
            untold = await sql.fetch_untold(self._pool, UNTOLD_AT_ONCE)
            for (user_id, user_nid), devices in groupby(untold, key=lambda one: (one.user_id, one.user_nid)):
                await self.commit(user_id, user_nid, (), [device.device_id for device in devices])
            if len(untold) < UNTOLD_AT_ONCE:
                with suppress(TimeoutError):
                    async with asyncio.timeout(UNTOLD_INTERVAL_S):
                        await self._are_untold.wait()
                        await asyncio.sleep(UNTOLD_PAUSE_S)
                self._are_untold.clear()

    # -- what is news --

    async def since(
        self, requester: Requester, position: int, memberships: Mapping[int, UserRoom]
    ) -> DeviceListNews:
        """What is news to a user after a position; ``memberships`` are the user's rooms.

        Who came and went again may be in both: `left` says that it is over.
        """
        if position >= self._last:
            return NOTHING
        if position < self._start:
            left = frozenset(await sql.fetch_left(self._pool, requester.user_nid, position))
            changed = await sql.fetch_changed(self._pool, requester.user_nid, position)
            return DeviceListNews(frozenset(changed) - left, left)
        found = self._walk(requester.user_id, position, memberships)
        for nid in found.rooms:  # with whom the user shares a room now; with themself they always did
            members = await self._members(nid)
            found.changed.update(member for member in members if member != requester.user_id)
        for nid in found.left_rooms:
            found.candidates.update(await self._members(nid))
        found.candidates.discard(requester.user_id)
        if not found.candidates:
            return DeviceListNews(frozenset(found.changed)) if found.changed else NOTHING
        strangers = await sql.fetch_strangers(self._pool, requester.user_nid, found.candidates)
        return DeviceListNews(frozenset(found.changed.difference(strangers)), frozenset(strangers))

    def _walk(self, user_id: str, position: int, memberships: Mapping[int, UserRoom]) -> _Findings:
        found = _Findings(set(), set(), set(), set())
        for news in reversed(self._recent):
            if news.position <= position:
                break
            if isinstance(news, DeviceListChange):
                if news.user_id == user_id or any(_is_joined(memberships, nid) for nid in news.rooms):
                    found.changed.add(news.user_id)
            elif isinstance(news, UserSignaturesChange):
                if news.owner == user_id:
                    found.changed.update(made.target for made in news.signatures)
            elif isinstance(news, _AllMembers) or news.user_id == user_id:
                if _is_joined(memberships, news.room_nid):
                    found.rooms.add(news.room_nid)
                elif not isinstance(news, _AllMembers) and not news.joined:
                    found.left_rooms.add(news.room_nid)
            elif (entry := memberships.get(news.room_nid)) is not None:
                if entry.membership == "join":
                    (found.changed if news.joined else found.candidates).add(news.user_id)
                elif entry.membership in LEFT and entry.since > position:
                    found.candidates.add(news.user_id)
        return found

    async def _members(self, room_nid: int) -> list[str]:
        room = await self._rooms.get_by_nid(room_nid)
        return [user_id for user_id, _ in room.members("join")]

    # -- following the log --

    def _follow(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, RoomEventChange):
                if change.event.state_key is not None or change.merge is not None:
                    self._follow_state(change)
            elif isinstance(change, DeviceListChange):
                self._place(change)
                self._note(change)
            elif isinstance(change, UserSignaturesChange):
                self._note(change)
            elif isinstance(change, MembersKnown):
                self._note(_AllMembers(change.position, change.room_nid))
        while self._recent_bytes > RECENT_BYTES_MAX:
            dropped = self._recent.popleft()
            self._recent_bytes -= _size_bytes(dropped)
            self._start = dropped.position

    def _follow_state(self, change: RoomEventChange) -> None:
        event, nid, position = change.event, change.room_nid, change.position
        if change.membership_before is not None:
            after = membership_of(event)
            user_id = event.state_key or ""
            self._note_move(position, nid, user_id, change.membership_before, after)
            if after == "join" and change.membership_before != after:
                self._note_join(change.room, user_id)
            elif after == "invite" and change.membership_before != after:
                # members may encrypt for who is invited, too: they are to look at the devices
                self._note(_Moved(position, nid, user_id, joined=True))
        elif event.type == ENCRYPTION and event.state_key == "":
            self._note(_AllMembers(position, nid))
        if change.merge is None:
            return
        members = change.merge.members
        if len(members) > MOVES_MAX:  # of a room that this node enters: all there are news
            self._note(_AllMembers(position, nid))
            members = tuple(member for member in members if member.after != "join")
        for member in members:
            self._note_move(position, nid, member.user_id, member.before, member.after)
        if any(state.type == ENCRYPTION and state.state_key == "" for state in change.merge.state):
            self._note(_AllMembers(position, nid))

    def _note_join(self, room: Room, user_id: str) -> None:
        if room.remote_servers and room.is_local(user_id) and not self._joins.full():
            self._joins.put_nowait((user_id, room.nid))

    def _note_move(self, position: int, room_nid: int, user_id: str, before: str, after: str) -> None:
        if before != after and "join" in (before, after):
            self._note(_Moved(position, room_nid, user_id, joined=after == "join"))

    def _note(self, news: _News) -> None:
        self._recent.append(news)
        self._recent_bytes += _size_bytes(news)
        self._last = news.position

    def _place(self, change: DeviceListChange) -> None:
        """Whom the change concerns, as of now that it is durable."""
        if change.is_private:
            change.audience = {change.user_id}
            return
        memberships = self._user_rooms.loaded(change.user_id)
        if memberships is not None:
            change.rooms = frozenset(nid for nid, entry in memberships.items() if entry.membership == "join")
        audience = {change.user_id, *change.audience}
        for nid in change.rooms:
            room = self._loaded.loaded_nid(nid)
            if room is not None:
                audience |= room.local_members
        change.audience = audience


def _size_bytes(news: _News) -> int:
    """About what a piece of news takes in memory; the same whenever it is asked."""
    if isinstance(news, DeviceListChange):
        return NEWS_BYTES + ROOM_BYTES * len(news.rooms)
    if isinstance(news, UserSignaturesChange):
        return news.size_bytes
    return NEWS_BYTES


def _is_joined(memberships: Mapping[int, UserRoom], room_nid: int) -> bool:
    entry = memberships.get(room_nid)
    return entry is not None and entry.membership == "join"
