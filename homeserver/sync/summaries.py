"""The summary of a joined room in /sync: member counts, and heroes for rooms without a name.

Source: sync.yaml, "RoomSummary".
"""

from __future__ import annotations

from heapq import nsmallest

import orjson

from homeserver.rooms.event import Event
from homeserver.rooms.room import Room

HEROES = 5


def heroes(room: Room, user_id: str) -> list[tuple[str, Event]]:
    """The members that name a room which has no name: "the first 5 members of the room, ordered by stream
    ordering, which are joined or invited … When no joined or invited members are available, this should
    consist of the banned and left users"; never the user."""
    others = [(user, event) for user, event in room.oldest_members() if user != user_id][:HEROES]
    if others:
        return others
    gone = ((user, event) for user, event in room.members("leave", "ban") if user != user_id)
    return nsmallest(HEROES, gone, key=lambda item: item[1].nid)


def has_name(room: Room) -> bool:
    """Whether clients can name the room without heroes."""
    return bool(room.text_of("m.room.name", "name") or room.text_of("m.room.canonical_alias", "alias"))


def encode_summary(room: Room, named_by: list[tuple[str, Event]] | None) -> bytes:
    """The summary; `named_by` are the heroes, None for a room with a name."""
    summary: dict[str, object] = {}
    if room.partial_servers is None:  # else it is not known how many there are
        summary = {
            "m.joined_member_count": room.joined_count,
            "m.invited_member_count": room.invited_count,
        }
    if named_by is not None:
        summary["m.heroes"] = [user_id for user_id, _ in named_by]
    return orjson.dumps(summary)
