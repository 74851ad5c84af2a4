"""What other servers say of rooms, held to the form that our own summaries have. Pure.

Source: public_rooms_chunk.yaml, room_summary.yaml, stripped_state.yaml.
"""

from __future__ import annotations

from federation.canonical import JsonObject
from federation.errors import BadIdentifier
from federation.identifiers import check_room_id
from homeserver.rooms.room import JOIN_RULES

TEXTS = ("name", "topic", "canonical_alias", "avatar_url", "room_type", "room_version", "encryption")
TEXT_LENGTH_MAX = 4096
ALLOWED_ROOMS_MAX = 100
COUNT_MAX = 2**31 - 1


def checked_summary(value: object) -> JsonObject | None:
    """A summary with the keys that `Room.summary` has; None for what describes no room.

    What is of the wrong form is left out; a summary without a join rule is of a public room
    (public_rooms_chunk.yaml: "When not present, the room is assumed to be public").
    """
    if not isinstance(value, dict):
        return None
    room_id, count = value.get("room_id"), value.get("num_joined_members")
    if not isinstance(room_id, str) or isinstance(count, bool) or not isinstance(count, int):
        return None
    try:
        check_room_id(room_id)
    except BadIdentifier:
        return None
    summary: JsonObject = {
        key: text[:TEXT_LENGTH_MAX].replace("\x00", "")
        for key in TEXTS
        if isinstance(text := value.get(key), str) and text
    }
    summary["room_id"] = room_id
    summary["num_joined_members"] = min(max(count, 0), COUNT_MAX)
    summary["world_readable"] = value.get("world_readable") is True
    summary["guest_can_join"] = value.get("guest_can_join") is True
    rule = value.get("join_rule", "public")
    summary["join_rule"] = rule if rule in JOIN_RULES else "invite"
    allowed = value.get("allowed_room_ids")
    if isinstance(allowed, list):
        named = [each for each in allowed if isinstance(each, str) and each.startswith("!")]
        if named:
            summary["allowed_room_ids"] = named[:ALLOWED_ROOMS_MAX]
    return summary
