"""A persistent data unit, read once into typed fields. Source: Server-Server API, "PDUs"."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from federation.canonical import JsonObject
from federation.hashing import event_id_of
from federation.identifiers import is_event_id
from federation.room_versions import RoomVersion

__all__ = ["PDU", "JsonObject", "StateKey", "parse_pdu", "redacted_event_id"]

StateKey = tuple[str, str]
"""``(type, state_key)``."""


@dataclass(slots=True, eq=False, repr=False)
class PDU:
    """One event with its ID. Immutable by convention: nobody assigns to it or changes ``json``.

    Not a frozen dataclass, because setting 14 fields through ``object.__setattr__`` triples the cost
    of reading an event. Compared by identity; compare ``event_id`` where equal events are meant.
    """

    version: RoomVersion
    event_id: str
    room_id: str
    type: str
    state_key: str | None
    sender: str
    content: JsonObject
    origin_server_ts: int
    depth: int
    prev_events: tuple[str, ...]
    auth_events: tuple[str, ...]
    redacts: str | None
    json: JsonObject
    """The whole event as sent between servers, with ``hashes``, ``signatures`` and ``unsigned``."""

    @property
    def key(self) -> StateKey | None:
        """``(type, state_key)`` of a state event, ``None`` of any other."""
        return None if self.state_key is None else (self.type, self.state_key)

    def __repr__(self) -> str:
        # Content never reaches a log by accident.
        return f"<PDU {self.event_id} {self.type}>"


def parse_pdu(json: JsonObject, version: RoomVersion, *, event_id: str | None = None) -> PDU:
    """Read an event that passed `event_format.check_format` or that comes from our own storage.

    A given ``event_id`` is trusted; without one it is computed, which costs a redaction and a hash.
    ``json`` is kept, not copied. The create event of a room whose ID is its hash gets that room ID.
    """
    if event_id is None:
        event_id = event_id_of(json, version)
    content: JsonObject = json["content"]
    event_type: str = json["type"]
    if version.room_id_is_create_hash and event_type == "m.room.create":
        room_id = "!" + event_id[1:]
    else:
        room_id = json["room_id"]
    prev_events, auth_events = json["prev_events"], json["auth_events"]
    return PDU(
        version=version,
        event_id=event_id,
        room_id=room_id,
        type=event_type,
        state_key=json.get("state_key"),
        sender=json["sender"],
        content=content,
        origin_server_ts=json["origin_server_ts"],
        depth=json["depth"],
        prev_events=tuple(prev_events) if version.event_id_is_hash else _ids_of_pairs(prev_events),
        auth_events=tuple(auth_events) if version.event_id_is_hash else _ids_of_pairs(auth_events),
        redacts=redacted_event_id(json, version) if event_type == "m.room.redaction" else None,
        json=json,
    )


def redacted_event_id(json: JsonObject, version: RoomVersion) -> str | None:
    """The event that an ``m.room.redaction`` names, or ``None``. Source: rooms/v11, "Event format"."""
    redacts = (json["content"] if version.redacts_in_content else json).get("redacts")
    return redacts if isinstance(redacts, str) and is_event_id(redacts) else None


def _ids_of_pairs(references: Iterable[list[Any]]) -> tuple[str, ...]:
    # Room versions 1 and 2 refer to events as [event_id, {"sha256": …}].
    return tuple(reference[0] for reference in references)
