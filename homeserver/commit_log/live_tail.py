"""The newest changes that clients are told of, in memory, by room and by user."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from itertools import takewhile

from homeserver.commit_log.change import VisibleChange


class LiveTail:
    """All changes after `start`, as many as fit in `bytes_max`.

    A reader whose position is at least `start` needs no database. Lists are oldest first.
    """

    def __init__(self, position: int, bytes_max: int) -> None:
        self.start = position
        self.size_bytes = 0
        self._bytes_max = bytes_max
        self._changes: deque[VisibleChange] = deque()
        self._sizes: deque[int] = deque()  # as they were counted: a redaction makes an event smaller
        self._of_room: dict[int, deque[VisibleChange]] = {}
        self._of_user: dict[str, deque[VisibleChange]] = {}

    def __len__(self) -> int:
        return len(self._changes)

    def append(self, changes: Iterable[VisibleChange]) -> None:
        """Add durable changes, in order of position; drop the oldest over the bound."""
        for change in changes:
            size_bytes = change.size_bytes
            self._changes.append(change)
            self._sizes.append(size_bytes)
            self.size_bytes += size_bytes
            self._index(change).append(change)
        while self.size_bytes > self._bytes_max and self._changes:
            self._drop_oldest()

    def _index(self, change: VisibleChange) -> deque[VisibleChange]:
        owner = change.owner
        if owner is not None:
            index = self._of_user.get(owner)
            if index is None:
                index = self._of_user[owner] = deque()
            return index
        index = self._of_room.get(change.room_nid)
        if index is None:
            index = self._of_room[change.room_nid] = deque()
        return index

    def _drop_oldest(self) -> None:
        change = self._changes.popleft()
        self.size_bytes -= self._sizes.popleft()
        self.start = change.position
        index = self._index(change)
        index.popleft()  # within a room and a user the order is the same
        if not index:
            if change.owner is not None:
                del self._of_user[change.owner]
            else:
                del self._of_room[change.room_nid]

    def covers(self, position: int) -> bool:
        """Whether everything after `position` is here."""
        return position >= self.start

    def last_of_room(self, room_nid: int) -> int:
        """The position of the room's newest change here, or 0."""
        changes = self._of_room.get(room_nid)
        return changes[-1].position if changes else 0

    def rooms_changed(self, rooms: Collection[int], since: int) -> list[int]:
        """Those of `rooms` with a change after `since`, which must be covered.

        Costs the smaller of their number and, where it is quick to ask whether one is among them, that of
        the changes.
        """
        newest = self._changes[-1].position if self._changes else 0
        if newest <= since:
            return []
        if newest - since < len(rooms) and isinstance(rooms, Mapping):
            changed: dict[int, None] = {}
            for change in reversed(self._changes):
                if change.position <= since:
                    break
                if change.owner is None and change.room_nid in rooms:
                    changed[change.room_nid] = None
            return list(changed)
        of_room = self._of_room
        return [room for room in rooms if (changes := of_room.get(room)) and changes[-1].position > since]

    def of_room(self, room_nid: int, since: int) -> list[VisibleChange]:
        """The room's changes here after `since`, oldest first."""
        return _after(self._of_room.get(room_nid), since)

    def of_user(self, user_id: str, since: int) -> list[VisibleChange]:
        """The changes that only this user sees, after `since`, oldest first."""
        return _after(self._of_user.get(user_id), since)


def _after(changes: deque[VisibleChange] | None, since: int) -> list[VisibleChange]:
    if not changes or changes[-1].position <= since:
        return []
    newest_first = list(takewhile(lambda change: change.position > since, reversed(changes)))
    newest_first.reverse()
    return newest_first
