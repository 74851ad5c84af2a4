"""What of a room's past another server may have: what some user of its may see.

Source: Client-Server API, "Room History Visibility". `homeserver.rooms.visibility` decides for single users;
a server is given what any of its users could have seen when it was sent. What it may not have is redacted
rather than left out, since the graph of events has to hold together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import orjson

from federation.redaction import redact
from homeserver.rooms.event import FLAG_OUTLIER, Event
from homeserver.rooms.layer_views import views_at
from homeserver.rooms.membership_history import membership_in
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.visibility import HISTORY_VISIBILITY, visibility_in
from homeserver.storage import history as sql
from homeserver.storage.connection import Pool, Row


@dataclass(frozen=True, slots=True)
class _View:
    """What held at a snapshot: the history visibility, and the memberships of a server's users."""

    visibility: str
    memberships: dict[str, str]

    def allows(self, visibility: str) -> bool:
        if visibility in ("world_readable", "shared"):
            return True  # the server is in the room, so its users joined after the event was sent
        there = set(self.memberships.values())
        return "join" in there or (visibility == "invited" and "invite" in there)


EMPTY = _View("shared", {})
UNKNOWN = _View("joined", {})  # of a snapshot that is not stored: nobody was there


@dataclass(frozen=True, slots=True)
class ServerVisibility:
    """Decides for servers that have users in the room. ``erased`` are users who wanted their content gone."""

    pool: Pool
    erased: Collection[str]

    async def encoded(self, room: Room, server: str, events: Sequence[Event]) -> list[bytes]:
        """A room's events as they may be sent to a server, in their order."""
        visible = await self.visible(room, server, events)
        return [
            event.json
            if event.event_id in visible and event.sender not in self.erased
            else orjson.dumps(redact(orjson.loads(event.json), room.version), option=orjson.OPT_SORT_KEYS)
            for event in events
        ]

    async def visible(self, room: Room, server: str, events: Sequence[Event]) -> set[str]:
        """The ids of those that the server may have whole."""
        if room.always_shared:
            return {event.event_id for event in events}
        views = await self._views_at(room, server, {event.snapshot for event in events})
        return {event.event_id for event in events if _is_visible(room, event, views[event.snapshot])}

    async def _views_at(self, room: Room, server: str, snapshots: Collection[int]) -> dict[int, _View]:
        deciding = await sql.deciding_events_of_server(self.pool, room.nid, server)
        layers = await sql.layers_with(self.pool, room.nid, list(snapshots), [row["nid"] for row in deciding])
        return _read_views(snapshots, deciding, layers)


def _is_visible(room: Room, event: Event, view: _View) -> bool:
    if event.state_key is not None:
        current = room.state.get(event.key)
        if event.flags & FLAG_OUTLIER or (current is not None and current.event_id == event.event_id):
            return True  # whoever is in the room is told its state, and what that rests on
        if event.type == HISTORY_VISIBILITY and view.allows(visibility_in(event.content)):
            # "if the history_visibility before or after the event would allow them to see it"
            return True
        if event.type == MEMBER and event.state_key in view.memberships:
            return True  # likewise for the server's own members
    return view.allows(view.visibility)


def _read_views(numbers: Collection[int], deciding: Sequence[Row], layers: Sequence[Row]) -> dict[int, _View]:
    by_nid = {row["nid"]: row for row in deciding}

    def after(view: _View, nids: Sequence[int]) -> _View:
        return _after(view, [by_nid[nid] for nid in nids]) if nids else view

    return views_at(numbers, layers, empty=EMPTY, unknown=UNKNOWN, after=after)


def _after(view: _View, changes: Sequence[Row]) -> _View:
    visibility, memberships = view.visibility, dict(view.memberships)
    for row in changes:
        if row["type"] == MEMBER:
            memberships[row["state_key"]] = membership_in(row["json"])
        else:
            visibility = visibility_in(orjson.loads(row["json"])["content"])
    return _View(visibility, memberships)
