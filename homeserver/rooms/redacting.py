"""Putting the redacted form of an event wherever the event is in memory. Source: rooms/, "Redactions"."""

from __future__ import annotations

from copy import copy

import orjson

from federation.redaction import redact
from homeserver.commit_log.live_tail import LiveTail
from homeserver.rooms.changes import Redaction, RoomEventChange
from homeserver.rooms.event import Event
from homeserver.rooms.room import Room


def redaction_of(room: Room, target: Event, by: Event) -> Redaction:
    """What one event makes of another."""
    return Redaction(
        target,
        orjson.dumps(redact(orjson.loads(target.json), room.version), option=orjson.OPT_SORT_KEYS),
        by,
    )


def redact_durably(tail: LiveTail, room: Room, redaction: Redaction) -> None:
    """Now that a redaction is durable, let nobody be served the whole event from memory."""
    target = redaction.target
    known = [
        change.event
        for change in tail.of_room(room.nid, target.nid - 1)[:1]
        if isinstance(change, RoomEventChange) and change.event.nid == target.nid
    ]
    if target.state_key is not None:
        current = room.state.get(target.key)
        if current is not None and current.nid == target.nid and current not in known:
            known.append(current)
    for event in known:
        event.redacted(redaction.json, redaction.by)


def redact_current(room: Room, redaction: Redaction) -> None:
    """If the target is part of the room's state, the room goes on with its redacted form."""
    target = redaction.target
    current = room.state.get(target.key) if target.state_key is not None else None
    if current is None or current.event_id != target.event_id:
        return
    redacted = copy(current)  # clients are served the whole event until its redaction is durable
    redacted.redacted(redaction.json, redaction.by)
    room.redact(redacted)
