"""The room lists of those who use sliding sync: read once, then moved along the log when asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import orjson

from federation.event import JsonObject
from homeserver.accounts.account_data import IGNORED_USERS, INVITE_PERMISSION, AccountData
from homeserver.accounts.tags import TYPE as TAGS
from homeserver.commit_log.log import CommitLog
from homeserver.keyed_locks import KeyedLocks
from homeserver.requester import Requester
from homeserver.rooms.changes import RoomEventChange
from homeserver.rooms.room import MEMBER
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.user_rooms import UserRoom, UserRooms
from homeserver.storage import sliding_sync as sql
from homeserver.storage.account_data import AccountDataChange, fetch_entries_of_types
from homeserver.storage.connection import Pool, Row
from homeserver.sync.sliding.list_filter import ListedRoom, ListFilter
from homeserver.sync.sliding.look import LEFT
from homeserver.sync.sliding.room_list import FilteredRooms, UserRoomList

DIRECT = "m.direct"
SPACE_CHILD = "m.space.child"
ACCOUNT_TYPES = (TAGS, DIRECT, INVITE_PERMISSION)
# State that filters ask for
LISTED_STATE = frozenset({"m.room.create", "m.room.name", "m.room.encryption"})
SPACES_ATTEMPTS = 3


class RoomLists:
    """Room lists by user, as many as fit in `bytes_max`."""

    def __init__(
        self,
        pool: Pool,
        log: CommitLog,
        rooms: Rooms,
        user_rooms: UserRooms,
        account_data: AccountData,
        *,
        bytes_max: int,
    ) -> None:
        self._pool = pool
        self._log = log
        self._rooms = rooms
        self._user_rooms = user_rooms
        self._account_data = account_data
        self._bytes_max = bytes_max
        self._lists: OrderedDict[str, UserRoomList] = OrderedDict()
        self._sizes: dict[str, int] = {}  # as they are counted in `size_bytes`
        self._locks: KeyedLocks[str] = KeyedLocks()
        self.size_bytes = 0
        user_rooms.on_forget(self._drop)

    async def current(self, requester: Requester) -> UserRoomList:
        """The user's rooms up to the end of the log."""
        user_id = requester.user_id
        found = self._lists.get(user_id)
        if found is not None and found.position == self._log.position:
            self._lists.move_to_end(user_id)
            return found
        async with self._locks.hold(user_id):
            return await self._moved_on(requester)

    async def filtered(self, rooms: UserRoomList, wanted: ListFilter) -> FilteredRooms:
        """The list that a filter makes; read only, and only until something is awaited."""
        found = rooms.cached(wanted)
        if found is not None:
            return found
        if wanted.spaces is None:
            return rooms.make(wanted, frozenset())
        in_spaces: frozenset[str] = frozenset()
        for _ in range(SPACES_ATTEMPTS):
            position = rooms.position
            in_spaces = await self._in_spaces(rooms, wanted.spaces)
            if rooms.position == position:
                break  # else another request moved it on meanwhile: a space may have changed
        return rooms.make(wanted, in_spaces)

    def _drop(self, user_id: str) -> None:
        if self._lists.pop(user_id, None) is not None:
            self.size_bytes -= self._sizes.pop(user_id)

    def _count(self, rooms: UserRoomList) -> None:
        user_id = rooms.user_id
        self._lists[user_id] = rooms
        self._lists.move_to_end(user_id)
        size_bytes = rooms.size_bytes
        self.size_bytes += size_bytes - self._sizes.get(user_id, 0)
        self._sizes[user_id] = size_bytes
        while self.size_bytes > self._bytes_max and len(self._lists) > 1:
            self._drop(next(iter(self._lists)))

    async def _moved_on(self, requester: Requester) -> UserRoomList:
        found = self._lists.get(requester.user_id)
        while True:
            if found is None or not self._log.tail.covers(found.position):
                found = await self._load(requester)
            elif found.position != self._log.position:
                await self._follow(found, await self._user_rooms.get(requester.user_id))
            else:
                return found
            self._count(found)

    async def _load(self, requester: Requester) -> UserRoomList:
        user_id = requester.user_id
        rooms = UserRoomList(user_id, self._log.position)
        rows = await sql.fetch_listed_rooms(self._pool, user_id)
        rows.sort(key=lambda row: row["activity"] or 0)
        rooms.fill(_listed(row, user_id) for row in rows)
        for entry in await fetch_entries_of_types(self._pool, requester.user_nid, ACCOUNT_TYPES):
            _take_account_data(rooms, entry.room_nid, entry.type, entry.content)
        rooms.ignored = await self._account_data.ignored(user_id)
        return rooms

    async def _follow(self, rooms: UserRoomList, memberships: Mapping[int, UserRoom]) -> None:
        """Take in what happened since; a query only where rooms came in or what filters ask for changed."""
        tail, since, position = self._log.tail, rooms.position, self._log.position
        touched: set[int] = set()
        activities: list[tuple[int, int]] = []
        for nid in tail.rooms_changed(memberships, since):
            entry, known = memberships[nid], rooms.order.get(nid)
            is_new = known is None or (known.event_nid, known.since) != (entry.event_nid, entry.since)
            newest = 0
            for change in tail.of_room(nid, since):
                if isinstance(change, RoomEventChange):
                    newest = change.position
                    is_new = is_new or _is_listed(change, rooms.user_id)
            if is_new:
                touched.add(nid)
            if entry.membership == "join" and newest:
                activities.append((newest, nid))
            elif entry.membership != "join" and (known is None or known.event_nid != entry.event_nid):
                activities.append((entry.last_change, nid))
        for own in tail.of_user(rooms.user_id, since):
            if isinstance(own, AccountDataChange) and own.type in (*ACCOUNT_TYPES, IGNORED_USERS):
                rooms.forget_lists()
                _take_account_data(rooms, own.room_nid, own.type, own.content)
                rooms.ignored = await self._account_data.ignored(rooms.user_id)
        rows: Sequence[Row] = ()
        if touched:
            rows = await sql.fetch_listed_rooms(self._pool, rooms.user_id, list(touched))
        changed = [_listed(row, rooms.user_id) for row in rows]
        present = {room.nid for room in changed}
        rooms.update(changed, [each for each in activities if each[1] in present or each[1] in rooms.order])
        rooms.position = position

    async def _in_spaces(self, rooms: UserRoomList, spaces: frozenset[str]) -> frozenset[str]:
        """The rooms that the spaces name which the user is in. "Servers MUST NOT navigate subspaces." """
        found: set[str] = set()
        for space in spaces:
            listed = rooms.order.get(rooms.nids.get(space, 0))
            if listed is None or listed.membership != "join":
                continue  # "Unknown spaces or spaces the user is not joined to will be ignored."
            room = await self._rooms.get_by_nid(listed.nid)
            for (type, room_id), event in room.state.items():
                # "When the content of a child room does not have via, it is not a child": Spaces
                if type == SPACE_CHILD and isinstance(event.content.get("via"), list):
                    found.add(room_id)
        return frozenset(found)


def _listed(row: Row, user_id: str) -> ListedRoom:
    membership: str = row["membership"]
    sender = "" if row["json"] is None else str(orjson.loads(row["json"]).get("sender", ""))
    name, encrypted, room_type = row["name"], row["encrypted"], row["room_type"]
    if row["stripped"] is not None:
        name, encrypted, room_type = _shown(orjson.loads(row["stripped"]))
    return ListedRoom(
        nid=row["room_nid"],
        room_id=row["room_id"],
        membership=membership,
        event_nid=row["event_nid"],
        since=row["since"],
        forgotten=row["forgotten"],
        was_joined=row["was_joined"],
        kicked=row["was_joined"] and (membership == "ban" or sender != user_id),
        inviter=sender,
        outside=row["stripped"] is not None,
        encrypted=encrypted,
        room_type=room_type,
        name=(name or "").casefold() if membership not in LEFT else "",
    )


def _shown(stripped: list[JsonObject]) -> tuple[str | None, bool, str | None]:
    """Name, whether it is encrypted, and type of a room, as another server shows it."""
    contents = {event["type"]: event["content"] for event in stripped if event["state_key"] == ""}
    name = contents.get("m.room.name", {}).get("name")
    room_type = contents.get("m.room.create", {}).get("type")
    return (
        name if isinstance(name, str) else None,
        isinstance(contents.get("m.room.encryption", {}).get("algorithm"), str),
        room_type if isinstance(room_type, str) else None,
    )


def _is_listed(change: RoomEventChange, user_id: str) -> bool:
    """Whether an event may have changed what filters ask for, or the user's membership."""
    event = change.event
    if event.type == "m.room.redaction" or event.type in LISTED_STATE:
        return True
    state = (event, *(change.merge.state if change.merge is not None else ()))
    return any(
        each.type in LISTED_STATE or (each.type == MEMBER and each.state_key == user_id) for each in state
    )


def _take_account_data(rooms: UserRoomList, room_nid: int, type: str, content: bytes) -> None:
    """What lists need of account data, which a client may have written in any shape."""
    value = orjson.loads(content)
    if type == TAGS and room_nid:
        tags = value.get("tags")
        rooms.tags[room_nid] = frozenset(tags) if isinstance(tags, dict) else frozenset()
    elif type == DIRECT and not room_nid:
        lists = [each for each in value.values() if isinstance(each, list)]
        rooms.dms = frozenset(each for found in lists for each in found if isinstance(each, str))
    elif type == INVITE_PERMISSION and not room_nid:
        rooms.blocks_invites = value.get("default_action") == "block"
