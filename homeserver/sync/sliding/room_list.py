"""A user's rooms in the order of their last activity, and the lists that filters make of them.

Kept in the order in which things happen: whatever is new goes to the end, so that following the log costs as
much as has happened, and the newest rooms of a list are read off its end. Source: MSC4186, "Lists",
"Activity ordering".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice

from homeserver.sync.sliding.list_filter import ListedRoom, ListFilter
from homeserver.sync.sliding.request import Range

FILTERS_MAX = 20  # of a user, whose lists are kept
ROOM_BYTES = 350  # about what one takes, and its place in the order
PLACE_BYTES = 100  # in a filtered list
USER_BYTES = 1000

_versions = count(1)


@dataclass(slots=True, eq=False)
class FilteredRooms:
    """The rooms that pass one filter, the newest last. `version` changes when a room comes in; no other list
    ever has the same.

    `in_spaces` are the rooms that the filter's spaces name; as long as those do not change.
    """

    filter: ListFilter
    in_spaces: frozenset[str]
    rooms: dict[int, None] = field(default_factory=dict)
    version: int = 0

    def __post_init__(self) -> None:
        self.version = next(_versions)

    def within(self, ranges: Sequence[Range] | None) -> Collection[int]:
        """The rooms whose index, counted from the newest, is in one of the ranges: `rooms` itself for all."""
        length = len(self.rooms)
        if ranges is None:
            return self.rooms
        if any(start == 0 and end >= length - 1 for start, end in ranges):
            return self.rooms
        newest = list(islice(reversed(self.rooms), 1 + max((end for _, end in ranges), default=-1)))
        return {nid for start, end in ranges for nid in newest[start : end + 1]}


class UserRoomList:
    """One user's rooms at a position of the log; `RoomLists` moves it on."""

    __slots__ = (
        "user_id", "position", "order", "nids", "tags", "dms", "blocks_invites", "ignored", "changes",
        "_lists",
    )  # fmt: skip

    def __init__(self, user_id: str, position: int) -> None:
        self.user_id = user_id
        self.position = position
        self.order: dict[int, ListedRoom] = {}  # the newest last
        self.nids: dict[str, int] = {}
        self.tags: dict[int, frozenset[str]] = {}
        self.dms: frozenset[str] = frozenset()
        self.blocks_invites = False
        self.ignored: frozenset[str] = frozenset()
        self.changes = 0  # counts how often any of this changed
        self._lists: OrderedDict[ListFilter, FilteredRooms] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        return (
            USER_BYTES
            + len(self.order) * ROOM_BYTES
            + sum(len(each.rooms) * PLACE_BYTES for each in self._lists.values())
        )

    # -- reading --

    def moved(self, nid: int, since: int) -> bool:
        """Whether the user's membership of a room changed after a position."""
        room = self.order.get(nid)
        return room is not None and max(room.since, room.event_nid) > since

    def follows(self, nid: int, since: int) -> bool:
        """Whether what happened in a room after a position may be news to the user: they are in it, or what
        happened is that they came or went."""
        room = self.order.get(nid)
        return room is not None and (room.membership == "join" or self.moved(nid, since))

    def is_dm(self, room: ListedRoom) -> bool:
        """Whether the user marked the room as a direct chat (Client-Server API, "Direct Messaging")."""
        return room.room_id in self.dms

    def is_listed(self, room: ListedRoom) -> bool:
        """Whether the room is one of those that lists are made of, whatever was sent before.

        "Rooms the user has been kicked or banned from will always be included"; "rooms the user has been
        banned from, but never joined, should not be part of the list".
        """
        if room.membership == "invite":
            return not self.hides_invite(room)
        return room.membership in ("join", "knock") or (room.kicked and not room.forgotten)

    def hides_invite(self, room: ListedRoom) -> bool:
        """Whether the user does not want to see an invite. Source: Client-Server API, "Invite permission",
        "Ignoring Users"."""
        return self.blocks_invites or room.inviter in self.ignored

    def cached(self, wanted: ListFilter) -> FilteredRooms | None:
        """The list of a filter, if it was made before."""
        found = self._lists.get(wanted)
        if found is not None:
            self._lists.move_to_end(wanted)
        return found

    def make(self, wanted: ListFilter, in_spaces: frozenset[str]) -> FilteredRooms:
        """The list of a filter; ``in_spaces`` are the rooms that its spaces name."""
        made = FilteredRooms(wanted, in_spaces)
        made.rooms = {nid: None for nid, room in self.order.items() if self._belongs(room, made)}
        self._lists[wanted] = made
        if len(self._lists) > FILTERS_MAX:
            self._lists.popitem(last=False)
        return made

    def passes(self, room: ListedRoom, listed: FilteredRooms, membership: str) -> bool:
        """Whether a room would pass a list's filter with another membership."""
        return self._passes(replace(room, membership=membership), listed)

    def _belongs(self, room: ListedRoom, listed: FilteredRooms) -> bool:
        return self.is_listed(room) and self._passes(room, listed)

    def _passes(self, room: ListedRoom, listed: FilteredRooms) -> bool:
        return listed.filter.matches(
            room,
            is_dm=room.room_id in self.dms,
            tags=self.tags.get(room.nid, ()),
            in_spaces=listed.in_spaces,
        )

    # -- following the log --

    def fill(self, rooms: Iterable[ListedRoom]) -> None:
        """Take over all rooms, the newest last."""
        self.order = {room.nid: room for room in rooms}
        self.nids = {room.room_id: room.nid for room in self.order.values()}
        self._lists.clear()

    def forget_lists(self) -> None:
        """What filters ask for has changed of many rooms."""
        self.changes += 1
        self._lists.clear()

    def update(self, rooms: Iterable[ListedRoom], activities: Sequence[tuple[int, int]]) -> None:
        """Take in what changed of rooms, and in which there was something new: position and number, all of
        it newer than anything before."""
        self.changes += 1
        changed = {room.nid: room for room in rooms}
        for nid, room in changed.items():
            self.order[nid] = room
            self.nids[room.room_id] = nid
        moved = [nid for _, nid in sorted(activities)]
        for listed in list(self._lists.values()):
            self._update_list(listed, changed, moved)
        for nid in moved:
            self.order[nid] = self.order.pop(nid)

    def _update_list(
        self, listed: FilteredRooms, changed: dict[int, ListedRoom], moved: Sequence[int]
    ) -> None:
        spaces = listed.filter.spaces
        if spaces is not None and any(self.order[nid].room_id in spaces for nid in (*changed, *moved)):
            del self._lists[listed.filter]  # what is in the space may have changed
            return
        coming: set[int] = set()
        for nid, room in changed.items():
            belongs = self._belongs(room, listed)
            if not belongs:
                listed.rooms.pop(nid, None)
            elif nid not in listed.rooms:
                coming.add(nid)
        if not coming.issubset(moved):
            del self._lists[listed.filter]  # its place is somewhere among the others
            return
        if coming:
            listed.version = next(_versions)
        for nid in moved:
            if nid in listed.rooms:
                del listed.rooms[nid]
                listed.rooms[nid] = None
            elif nid in coming:
                listed.rooms[nid] = None
