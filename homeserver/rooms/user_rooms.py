"""Which rooms a user is in, was in, or is invited to; in memory for those who are active."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from homeserver.batched_reads import BatchedReads
from homeserver.commit_log.change import Change
from homeserver.rooms.changes import RoomEventChange
from homeserver.rooms.event import Event
from homeserver.rooms.outside_changes import OutsideChange, RoomEntered
from homeserver.rooms.partial_rooms import MembersKnown
from homeserver.rooms.room import membership_of
from homeserver.storage import rooms as room_sql
from homeserver.storage.database import Database

LEFT = ("leave", "ban")
ROWS_MAX = 200_000  # kept in memory, of all users together


@dataclass(slots=True)
class UserRoom:
    """A user's membership of a room. `since` is the position at which it took its present value,
    `event_nid` that of the current member event (a change of name is one too). `outside` if another server
    told of it, this node not being in the room: `homeserver.rooms.outside_rooms` has more of it."""

    room_nid: int
    room_id: str
    membership: str
    event_nid: int
    since: int
    forgotten: bool = False
    outside: bool = False

    @property
    def last_change(self) -> int:
        """The position of the last change: resolution may bring an older event back."""
        return max(self.event_nid, self.since)


class UserRooms:
    """Memberships by user. Follows the commit log."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reads: BatchedReads[str, list[room_sql.Record]] = BatchedReads(
            lambda user_ids: room_sql.memberships_of_users(database.pool, user_ids)
        )
        self._users: OrderedDict[str, dict[int, UserRoom]] = OrderedDict()
        self._loading: dict[str, tuple[asyncio.Task[dict[int, UserRoom]], list[UserRoom]]] = {}
        self._rows = 0
        self._on_forget: list[Callable[[str], None]] = []

    def on_forget(self, told: Callable[[str], None]) -> None:
        """Have ``told`` called with each user who has just forgotten a room."""
        self._on_forget.append(told)

    def loaded(self, user_id: str) -> Mapping[int, UserRoom] | None:
        """The user's rooms by number, if they are in memory."""
        rooms = self._users.get(user_id)
        if rooms is not None:
            self._users.move_to_end(user_id)
        return rooms

    async def get(self, user_id: str) -> Mapping[int, UserRoom]:
        """The user's rooms by number: a live view, true for what is durable."""
        rooms = self.loaded(user_id)
        if rooms is not None:
            return rooms
        if user_id not in self._loading:
            self._loading[user_id] = asyncio.ensure_future(self._load(user_id)), []
        return await asyncio.shield(self._loading[user_id][0])

    async def _load(self, user_id: str) -> dict[int, UserRoom]:
        try:
            rows = await self._reads.of(user_id)
            rooms = {
                row["room_nid"]: UserRoom(
                    row["room_nid"],
                    row["room_id"],
                    row["membership"],
                    row["event_nid"],
                    row["since"],
                    row["forgotten"],
                    row["outside"],
                )
                for row in rows
            }
            for news in self._loading[user_id][1]:  # what became durable while we read
                _apply(rooms, news)
        finally:
            del self._loading[user_id]
        self._users[user_id] = rooms
        self._rows += len(rooms) + 1
        while self._rows > ROWS_MAX and len(self._users) > 1:
            self._rows -= len(self._users.popitem(last=False)[1]) + 1
        return rooms

    def follow(self, changes: Sequence[Change]) -> None:
        """Take in what became durable; a subscriber of the commit log."""
        for change in changes:
            if isinstance(change, OutsideChange):
                self._take(change.user_id, _outside_news(change))
            elif isinstance(change, RoomEntered):
                self._enter(change.entered_nid)
            elif isinstance(change, MembersKnown):
                self._correct(change)
            if not isinstance(change, RoomEventChange):
                continue
            if change.membership_before is not None and self._follows(change.event.state_key or ""):
                membership = membership_of(change.event)
                self._take(change.event.state_key or "", _news(change, change.event, membership))
            for member in change.merge.members if change.merge is not None else ():
                if self._follows(member.user_id):  # of ten thousand, few are this node's
                    self._take(member.user_id, _news(change, member.event or change.event, member.after))

    def _follows(self, user_id: str) -> bool:
        return user_id in self._users or user_id in self._loading

    def _take(self, user_id: str, news: UserRoom) -> None:
        rooms = self._users.get(user_id)
        if rooms is not None:
            self._rows += _apply(rooms, news)
        elif user_id in self._loading:
            self._loading[user_id][1].append(news)

    def _enter(self, room_nid: int) -> None:
        """What other servers told of a room's members counts no longer: the room itself tells."""
        for rooms in self._users.values():
            if (entry := rooms.get(room_nid)) is not None:
                entry.outside = False

    def _correct(self, change: MembersKnown) -> None:
        for user_id, event_nid, membership in change.corrected:
            if self._follows(user_id) and change.room is not None:
                room_id = change.room.room_id
                self._take(
                    user_id, UserRoom(change.room_nid, room_id, membership, event_nid, change.position)
                )

    async def forget(self, user_id: str, room_nid: int) -> None:
        """Hide a room that the user has left. Source: Client-Server API, "forgetRoom"."""
        forgotten = await room_sql.forget(self._database.pool, user_id, room_nid)
        entry = self._users.get(user_id, {}).get(room_nid)
        if forgotten and entry is not None and entry.membership in LEFT:
            entry.forgotten = True
        for told in self._on_forget:
            told(user_id)


def _news(change: RoomEventChange, event: Event, membership: str) -> UserRoom:
    """What a change says of a member. It knows its room only while it is being told of, so it is read now."""
    return UserRoom(change.room.nid, change.room.room_id, membership, event.nid, change.position)


def _outside_news(change: OutsideChange) -> UserRoom:
    known = change.membership
    membership = membership_of(known.event)
    return UserRoom(known.room_nid, known.room_id, membership, known.event.nid, change.position, outside=True)


def _apply(rooms: dict[int, UserRoom], news: UserRoom) -> int:
    """Take in one member event; how many rooms were added."""
    known = rooms.get(news.room_nid)
    if known is None:
        rooms[news.room_nid] = news
        return 1
    if news.since > known.last_change:
        known.event_nid = news.event_nid
        known.outside = news.outside
        if news.membership != known.membership:
            known.membership = news.membership
            known.since = news.since
            known.forgotten = False
    return 0
