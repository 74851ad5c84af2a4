"""Stripped state: what somebody outside is shown of a room. Source: Client-Server API, "Stripped state"."""

from __future__ import annotations

from federation.event import JsonObject
from homeserver.rooms.room import Room

# "Stripped state should contain some or all of the following state events"
STRIPPED_TYPES = (
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
)


def stripped_state(room: Room, user_id: str) -> list[JsonObject]:
    """The room as who is invited or knocks sees it, with their member event and that of who invited them."""
    events = [event.stripped() for type in STRIPPED_TYPES if (event := room.state_event(type)) is not None]
    member = room.member(user_id)
    if member is not None:
        sender = room.member(member.sender) if member.sender != user_id else None
        if sender is not None:
            events.append(sender.stripped())
        events.append(member.stripped())
    return events
