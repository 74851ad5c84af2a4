"""What an event says of its relation to another. Source: Client-Server API, "Forming relationships
between events"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ID_BYTES_MAX = 255


@dataclass(frozen=True, slots=True)
class Relation:
    """`m.relates_to`: the event related to, how, and the key of an annotation."""

    event_id: str
    rel_type: str
    key: str | None


def relation_of(content: dict[str, Any]) -> Relation | None:
    """The relation in an event's content; None where there is none, or none that can be read."""
    relates_to = content.get("m.relates_to")
    if not isinstance(relates_to, dict):
        return None
    event_id, rel_type, key = relates_to.get("event_id"), relates_to.get("rel_type"), relates_to.get("key")
    if not isinstance(event_id, str) or not isinstance(rel_type, str):
        return None
    if len(event_id) > ID_BYTES_MAX or len(rel_type) > ID_BYTES_MAX or "\x00" in event_id + rel_type:
        return None
    if not isinstance(key, str) or len(key.encode(errors="replace")) > 1024 or "\x00" in key:
        key = None
    return Relation(event_id, rel_type, key)
