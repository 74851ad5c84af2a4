"""What a user may see of a timeline where that is not everything: of a room that they came into or left.

Source: Client-Server API, "Room History Visibility", "Syncing".
"""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.rooms.event import Event
from homeserver.rooms.room import Room
from homeserver.rooms.user_rooms import UserRoom
from homeserver.rooms.visibility import Visibility
from homeserver.sync.context import SyncContext
from homeserver.sync.room_state import RoomStates
from homeserver.sync.timelines import TIMELINE_LIMIT_DEFAULT, TIMELINE_LIMIT_MAX, Timeline, Timelines, Wanted

PAGES_MAX = 5  # read in place of what is hidden
PAGE_FACTOR = 2  # events of such a page for each that the timeline may have


@dataclass(frozen=True, slots=True)
class SeenTimelines:
    """Takes hidden events out of timelines."""

    timelines: Timelines
    visibility: Visibility
    states: RoomStates

    async def hide(
        self, context: SyncContext, room: Room, entry: UserRoom, timeline: Timeline, *, anew: bool
    ) -> None:
        """Drop what the user may not see, and read earlier events in its place but for initial syncs.

        State that still holds stays: the user may ask for it at any time (`getRoomState`), and a client that
        works the state out from the timeline would go on with what it replaced.
        """
        passing = context.request.filter.room.timeline
        limit = passing.limit_within(TIMELINE_LIMIT_DEFAULT, TIMELINE_LIMIT_MAX)
        read = timeline.events
        timeline.events = await self._seen(context, room, entry, timeline, read)
        for _ in range(0 if context.initial else PAGES_MAX):
            if not (timeline.hidden and timeline.limited and read and len(timeline.events) < limit):
                break
            wanted = Wanted(room, 0 if anew else context.since, read[0].nid - 1)
            size = limit * PAGE_FACTOR
            found = await self.timelines.from_storage([wanted], size, passing, context.ignored)
            page = found[room.nid]
            read, timeline.limited = page.events, page.limited
            timeline.events = [
                *await self._seen(context, room, entry, timeline, read), *timeline.events
            ]  # fmt: skip
        if len(timeline.events) > limit:
            timeline.events, timeline.limited = timeline.events[-limit:], True
        if timeline.events:  # what comes before the timeline is in the state
            first = timeline.events[0].nid
            timeline.hidden = [event for event in timeline.hidden if event.nid >= first]
            if anew and not context.initial and timeline.events[0].type != "m.room.create":
                # Whatever the client has of the room, from an earlier stay or a preview, ended before it.
                timeline.limited = True

    async def _seen(
        self, context: SyncContext, room: Room, entry: UserRoom, timeline: Timeline, events: list[Event]
    ) -> list[Event]:
        """Those of the events that stay; the hidden ones are added to the timeline's."""
        visible = await self.visibility.filter(room, context.requester.user_id, events)
        if len(visible) == len(events):
            return visible
        shown = {event.nid: event for event in visible}
        hidden = [event for event in events if event.nid not in shown]
        timeline.hidden = [*hidden, *timeline.hidden]
        if not context.request.use_state_after:
            current = await self.states.current_of(context, room, entry, hidden)
            shown |= {event.nid: event for event in hidden if event.nid in current}
        return [shown[event.nid] for event in events if event.nid in shown]
