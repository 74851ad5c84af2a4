"""Which events of a room's past a user may see.

Source: Client-Server API, "Room History Visibility": what decides is the state at the event.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence

import orjson

from federation.redaction import redact
from homeserver.rooms.event import Event
from homeserver.rooms.layer_views import views_at
from homeserver.rooms.membership_history import MembershipHistory, membership_in
from homeserver.rooms.room import MEMBER, PENDING, Room, membership_of
from homeserver.storage import history as sql
from homeserver.storage.connection import Pool, Row

HISTORY_VISIBILITY = "m.room.history_visibility"
VISIBILITIES = ("world_readable", "shared", "invited", "joined")
VIEWS_MAX = 20_000  # remembered, of all rooms and users together

# The history visibility at a snapshot, and the user's membership there
View = tuple[str, str]
EMPTY_STATE: View = ("shared", "leave")
UNKNOWN_STATE: View = ("joined", "leave")  # of a snapshot that is not stored: nobody was there


class Visibility:
    """Decides what users may see; reads the states at events as far as the decision needs them."""

    def __init__(
        self, pool: Pool, memberships: MembershipHistory, erased: Collection[str] = frozenset()
    ) -> None:
        """``erased`` are users who wanted their content gone (`deactivateAccount`), a live set."""
        self._pool = pool
        self._memberships = memberships
        self._erased = erased
        self._views: OrderedDict[tuple[int, str, int], View] = OrderedDict()  # by room, user, snapshot

    async def filter(self, room: Room, user_id: str, events: Sequence[Event]) -> list[Event]:
        """Those of a room's events that the user may see, in their order; a redacted copy of those of
        erased users whom they never shared the room with."""
        visible = await self._visible(room, user_id, events)
        if not self._erased or not any(_is_erasable(event, self._erased) for event in visible):
            return visible
        first_join = (await self._memberships.of(room, user_id)).first_join
        return [
            redacted_copy(event, room)
            if _is_erasable(event, self._erased) and not _met(room, event.sender, first_join)
            else event
            for event in visible
        ]

    async def _visible(self, room: Room, user_id: str, events: Sequence[Event]) -> list[Event]:
        member = room.member(user_id)
        joined = member is not None and membership_of(member) == "join"
        if (joined and room.always_shared) or not events:
            return list(events)
        views = await self._views_at(room, user_id, {event.snapshot for event in events})
        last_join: int | None
        if joined and member is not None:
            last_join = member.nid or PENDING
        else:
            last_join = (await self._memberships.of(room, user_id)).last_join
        return [event for event in events if _may_see(event, user_id, views[event.snapshot], last_join)]

    async def memberships_at(self, room: Room, user_id: str, events: Sequence[Event]) -> list[str]:
        """The user's membership after each event. Source: client_event.yaml, `unsigned.membership`."""
        member = room.member(user_id)
        if member is None:
            return ["leave"] * len(events)
        since = member.nid or PENDING
        if all(event.nid >= since for event in events):
            return [membership_of(member)] * len(events)
        if member.replaces is None:
            membership = membership_of(member)
            return [membership if event.nid >= since else "leave" for event in events]
        history = await self._memberships.of(room, user_id)
        return [history.at(event.nid) for event in events]

    async def _views_at(self, room: Room, user_id: str, snapshots: Collection[int]) -> dict[int, View]:
        """What held for the user in each snapshot."""
        views: dict[int, View] = {}
        for number in snapshots:
            view = EMPTY_STATE if number == 0 else self._views.get((room.nid, user_id, number))
            if view is not None:
                views[number] = view
        missing = [number for number in snapshots if number not in views]
        if not missing:
            return views
        deciding = await sql.deciding_events(self._pool, room.nid, user_id)
        layers = await sql.layers_with(self._pool, room.nid, missing, [row["nid"] for row in deciding])
        for number, view in _read_views(missing, deciding, layers).items():
            views[number] = view
            self._views[(room.nid, user_id, number)] = view
        while len(self._views) > VIEWS_MAX:
            self._views.popitem(last=False)
        return views


def _is_erasable(event: Event, erased: Collection[str]) -> bool:
    """Whether the event goes with its sender. Other state than names of members belongs to the room."""
    return event.sender in erased and (event.state_key is None or event.type == MEMBER)


def _met(room: Room, erased_user: str, first_join: int | None) -> bool:
    """Whether somebody came before an erased user, who leaves all rooms with the account's end, was gone.

    "Users which had visibility on those events prior to the erasure are still able to see unredacted
    copies": deactivateAccount.
    """
    end = room.member(erased_user)
    return first_join is not None and end is not None and first_join < (end.nid or PENDING)


def redacted_copy(event: Event, room: Room) -> Event:
    """A copy in the form that redaction would leave."""
    return Event(
        nid=event.nid,
        room_nid=event.room_nid,
        event_id=event.event_id,
        type=event.type,
        state_key=event.state_key,
        origin_server_ts=event.origin_server_ts,
        depth=event.depth,
        snapshot=event.snapshot,
        json=orjson.dumps(redact(orjson.loads(event.json), room.version)),
    )


def _may_see(event: Event, user_id: str, view: View, last_join: int | None) -> bool:
    visibility, membership = view
    if event.type == MEMBER and event.state_key == user_id:
        # "if their membership before or after the event would allow them to see it": sync has told them
        # of every change of their own anyway, so that clients see invites and rejections.
        return True
    if _allows(visibility, membership, event.nid, last_join):
        return True
    if event.type == HISTORY_VISIBILITY and event.state_key == "":
        # "if the history_visibility before or after the event would allow them to see it"
        return _allows(visibility_in(event.content), membership, event.nid, last_join)
    return False


def _allows(visibility: str, membership: str, nid: int, last_join: int | None) -> bool:
    # "1. If the history_visibility was set to world_readable, allow."
    # "2. If the user's membership was join, allow."
    if visibility == "world_readable" or membership == "join":
        return True
    # "3. If history_visibility was set to shared, and the user joined the room at any point after the
    # event was sent, allow."
    if visibility == "shared":
        return last_join is not None and last_join > nid
    # "4. If the user's membership was invite, and the history_visibility was set to invited, allow."
    return visibility == "invited" and membership == "invite"


def _read_views(numbers: Collection[int], deciding: Sequence[Row], layers: Sequence[Row]) -> dict[int, View]:
    """Views of snapshots, from their layers and the events that may decide."""
    visibilities: dict[int, str] = {}
    memberships: dict[int, str] = {}
    for row in deciding:
        if row["type"] == MEMBER:
            memberships[row["nid"]] = membership_in(row["json"])
        else:
            visibilities[row["nid"]] = visibility_in(orjson.loads(row["json"])["content"])

    def after(view: View, nids: Sequence[int]) -> View:
        visibility, membership = view
        for nid in nids:
            visibility = visibilities.get(nid, visibility)
            membership = memberships.get(nid, membership)
        return visibility, membership

    return views_at(numbers, layers, empty=EMPTY_STATE, unknown=UNKNOWN_STATE, after=after)


def visibility_in(content: dict[str, object]) -> str:
    """The history visibility that the content of an event sets.

    "By default if no history_visibility is set, or if the value is not understood, the visibility is
    assumed to be shared."
    """
    value = content.get("history_visibility")
    return value if isinstance(value, str) and value in VISIBILITIES else "shared"
