"""Which rooms an answer may have to tell of.

Once a connection is settled – all rooms that its lists and subscriptions ask for were sent – only those in
which something happened are looked at, and the windows that do not cover their whole list.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from homeserver.sync.sliding.connection import Connection
from homeserver.sync.sliding.connection_state import SentRoom, Told
from homeserver.sync.sliding.list_filter import ListedRoom
from homeserver.sync.sliding.look import LEFT, STRIPPED, Candidate, Look, is_initial
from homeserver.sync.sliding.request import ListRequest, SlidingRequest
from homeserver.sync.sliding.required_state import Selection, combine
from homeserver.sync.sliding.room_list import FilteredRooms, UserRoomList


@dataclass(frozen=True, slots=True)
class Window:
    """One list of a request: the rooms that pass its filter, and those within its ranges: the same if all."""

    request: ListRequest
    listed: FilteredRooms
    rooms: Collection[int]

    @property
    def covers_all(self) -> bool:
        return self.rooms is self.listed.rooms


def settlement(request: SlidingRequest, windows: Sequence[Window]) -> tuple[object, ...]:
    """What must be the same for a settled connection to stay settled, besides its generation."""
    return (request, *(window.listed.version for window in windows))


class Picking:
    """Picks the candidates of one look. Nothing is awaited, so that all of it is of one moment."""

    def __init__(self, look: Look, rooms: UserRoomList, windows: Sequence[Window]) -> None:
        self._look = look
        self._rooms = rooms
        self._windows = windows
        self._subscriptions: Mapping[int, Selection] = {
            nid: selection
            for room_id, selection in look.request.subscriptions.items()
            if (nid := rooms.nids.get(room_id)) is not None
        }
        self._combined: dict[tuple[tuple[str, ...], Selection | None], Selection] = {}

    def pick(self, *, settled: bool) -> list[Candidate]:
        """The candidates, the newest room of each list first. What fell behind is noted in the look."""
        connection, order = self._look.connection, self._rooms.order
        concerned = self._look.changes.concerned
        nids: dict[int, None] = {}
        for window in self._windows:
            if not settled:
                rooms = reversed(window.listed.rooms) if window.covers_all else window.rooms
                nids.update(dict.fromkeys(rooms))
            elif not window.covers_all:  # other rooms may have moved into it, of which not all was told
                told, behind = connection.rooms, connection.behind
                nids.update((nid, None) for nid in window.rooms if nid not in told or nid in behind)
        if not settled:
            nids.update(dict.fromkeys(self._subscriptions))
        nids.update(dict.fromkeys(concerned))
        picked: list[Candidate] = []
        for nid in nids:
            room = order.get(nid)
            if room is None:
                continue
            sent = connection.rooms.get(nid)
            candidate = self._candidate(room, sent)
            if candidate is not None:
                picked.append(candidate)
            elif nid in concerned:
                self._look.fall_behind(nid, sent)
        return picked

    def _candidate(self, room: ListedRoom, sent: SentRoom | None) -> Candidate | None:
        nid, subscription = room.nid, self._subscriptions.get(room.nid)
        lists = tuple(window.request.name for window in self._windows if nid in window.rooms)
        if room.membership in LEFT:
            newly = sent is not None and not sent.told & Told.DEPARTED
            if newly and sent is not None and not lists and subscription is None:
                lists = self._left_lists(room, sent)
            if not newly and (room.forgotten or not self._may_see(room)):
                return None
        if room.membership == "invite" and self._rooms.hides_invite(room):
            return None
        if not lists and subscription is None:
            return None
        since = 0
        if sent is not None and self._look.since is not None:
            since = sent.behind or self._look.since.position
        candidate = Candidate(
            room=room,
            lists=lists,
            subscribed=subscription is not None,
            selection=self._selection(lists, subscription),
            sent=sent,
            since=since,
            initial=is_initial(room, sent, since),
            told=Told(0),
        )
        candidate.told = self._told(candidate)
        return candidate

    def _may_see(self, room: ListedRoom) -> bool:
        """Whether the user was in a room that they are not in, or was kept out of one that they had
        knocked on or were invited to: then there is the member event to be seen."""
        return room.was_joined or room.membership == "leave"

    def _left_lists(self, room: ListedRoom, sent: SentRoom) -> tuple[str, ...]:
        """The lists that a room was in which the user has left. They do not have it any more, but "rooms
        that the user has been in but left are […] included if the room was previously sent"."""
        before = "invite" if sent.told & Told.STRIPPED else "join"
        return tuple(
            window.request.name
            for window in self._windows
            if self._rooms.passes(room, window.listed, before)
            or self._rooms.passes(room, window.listed, room.membership)
        )

    def _selection(self, lists: tuple[str, ...], subscription: Selection | None) -> Selection:
        key = lists, subscription
        combined = self._combined.get(key)
        if combined is None:
            configs: Iterable[Selection] = (
                window.request.selection for window in self._windows if window.request.name in lists
            )
            if subscription is not None:
                configs = (*configs, subscription)
            combined = self._combined[key] = combine(configs)
        return combined

    def _told(self, candidate: Candidate) -> Told:
        extensions = self._look.request.extensions
        told = Told(0)
        if self._rooms.is_dm(candidate.room):
            told |= Told.DM
        if candidate.within(extensions.account_data):
            told |= Told.ACCOUNT_DATA
        if candidate.room.membership in STRIPPED:
            return told | Told.STRIPPED
        if candidate.room.membership in LEFT:
            return told | Told.DEPARTED
        if candidate.within(extensions.receipts):
            told |= Told.RECEIPTS
        return told


def is_settled(connection: Connection, request: SlidingRequest, windows: Sequence[Window]) -> bool:
    """Whether all rooms that the request asks for were sent by now, but for what happened since."""
    settled = connection.settled
    if settled is None or len(settled) != len(windows) + 2 or settled[0] != connection.generation:
        return False
    before = settled[1]
    if before is not request and before != request:
        return False
    return all(settled[place] == window.listed.version for place, window in enumerate(windows, 2))
