"""What another server shows of a room to a user who is invited to it or knocks on it.

Source: Server-Server API, "Inviting to a room", "Knocking upon a room"; Client-Server API, "Stripped state".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from federation.canonical import JsonObject
from federation.event import PDU
from federation.event_format import EVENT_LEVELS_MAX
from federation.json_depth import has_more_levels
from federation.room_versions import RoomVersion
from homeserver.federating.verifying import EventVerifier

EVENTS_MAX = 50
SHOWN_BYTES_MAX = 256 * 1024
CREATE = "m.room.create"


@dataclass(frozen=True, slots=True)
class ShownRoom:
    """Stripped state. ``has_create`` if the room's first event is in it; ``refused`` counts what cannot be
    believed: events that are not signed as they must be, or of another room."""

    stripped: Sequence[JsonObject]
    has_create: bool
    refused: int


async def read_shown(
    verifier: EventVerifier, entries: object, version: RoomVersion, room_id: str
) -> ShownRoom:
    """Check what is shown of a room.

    "All events listed MUST additionally be formatted according to the room version specification", and events
    are checked as such. But many servers still send stripped state here, as they did before Matrix 1.16: that
    is taken as it is, being shown to a user who will decide, and used for nothing else.
    """
    if not isinstance(entries, list):
        return ShownRoom((), False, 0)
    entries = entries[:EVENTS_MAX]
    if has_more_levels(entries, EVENT_LEVELS_MAX):
        return ShownRoom((), False, len(entries))
    if len(orjson.dumps(entries)) > SHOWN_BYTES_MAX:
        return ShownRoom((), False, len(entries))
    events = [entry for entry in entries if isinstance(entry, dict) and "signatures" in entry]
    verdicts = await verifier.verify(events, version, room_id)
    real = {id(event): isinstance(verdict, PDU) for event, verdict in zip(events, verdicts, strict=True)}
    stripped = [
        {key: entry[key] for key in ("content", "sender", "state_key", "type")}
        for entry in entries
        if _is_stripped(entry) and real.get(id(entry), True)
    ]
    has_create = any(entry["type"] == CREATE and entry["state_key"] == "" for entry in stripped)
    return ShownRoom(stripped, has_create, sum(not each for each in real.values()))


def _is_stripped(entry: object) -> bool:
    """Whether something has the fields of a stripped state event."""
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("type"), str)
        and isinstance(entry.get("state_key"), str)
        and isinstance(entry.get("sender"), str)
        and isinstance(entry.get("content"), dict)
    )
