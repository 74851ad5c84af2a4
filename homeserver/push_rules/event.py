"""What push rules see: an event, and the circumstances of a user in its room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, TypeGuard

from federation.event import JsonObject
from homeserver.property_paths import PropertyPath

CACHED_PROPERTIES_MAX = 256  # users' rules may name any number of properties


class Missing:
    """The type of MISSING, which is not JSON's null."""

    __slots__ = ()


MISSING: Final = Missing()
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class PushEvent:
    """A thin view on one event, made once and evaluated for many users: what one user's rules look
    up, the next one's find already looked up.

    ``state_key`` is None for message events. ``extra`` holds further top-level properties that
    rules may name, such as ``event_id``; the content is shared, never changed.
    """

    __slots__ = (
        "type", "sender", "state_key", "room_id", "content", "extra",
        "type_lower", "sender_lower", "room_id_lower", "_values", "_texts", "_strings",
    )  # fmt: skip

    def __init__(
        self,
        *,
        type: str,
        sender: str,
        state_key: str | None,
        room_id: str,
        content: JsonObject,
        extra: Mapping[str, Any] = _NOTHING,
    ) -> None:
        self.type = type
        self.sender = sender
        self.state_key = state_key
        self.room_id = room_id
        self.content = content
        self.extra = extra
        self.type_lower = type.lower()
        self.sender_lower = sender.lower()
        self.room_id_lower = room_id.lower()
        self._values: dict[PropertyPath, Any] = {}
        self._texts: dict[PropertyPath, str | None] = {}
        self._strings: dict[PropertyPath, frozenset[str]] = {}

    def value(self, path: PropertyPath) -> Any:
        """The property at a path, or MISSING."""
        try:
            return self._values[path]
        except KeyError:
            value = self._look_up(path)
            if len(self._values) < CACHED_PROPERTIES_MAX:
                self._values[path] = value
            return value

    def text(self, path: PropertyPath) -> str | None:
        """The string at a path in lower case, or None where there is no string."""
        try:
            return self._texts[path]
        except KeyError:
            value = self._look_up(path)
            text = value.lower() if isinstance(value, str) else None
            if len(self._texts) < CACHED_PROPERTIES_MAX:
                self._texts[path] = text
            return text

    def strings(self, path: PropertyPath) -> frozenset[str]:
        """The strings of the array at a path; empty where there is no array."""
        try:
            return self._strings[path]
        except KeyError:
            value = self._look_up(path)
            strings = frozenset(filter(_is_string, value)) if isinstance(value, list) else frozenset()
            if len(self._strings) < CACHED_PROPERTIES_MAX:
                self._strings[path] = strings
            return strings

    def _look_up(self, path: PropertyPath) -> Any:
        name = path[0]
        value: Any
        if name == "content":
            value = self.content
        elif name == "type":
            value = self.type
        elif name == "sender":
            value = self.sender
        elif name == "room_id":
            value = self.room_id
        elif name == "state_key":
            value = MISSING if self.state_key is None else self.state_key
        else:
            value = self.extra.get(name, MISSING)
        for name in path[1:]:
            if not isinstance(value, dict):
                return MISSING
            value = value.get(name, MISSING)
        return value


def _is_string(value: Any) -> TypeGuard[str]:
    return isinstance(value, str)


@dataclass(frozen=True, slots=True)
class PushContext:
    """The circumstances at the event. All but the display name are the same for every user of the
    room; `Evaluator.needs_display_name` tells whose is asked for.

    ``sender_power_level`` is the sender's, ``math.inf`` for a creator from room version 12 on;
    ``notification_levels`` is ``notifications`` of the room's power levels; ``member_count``
    counts who is joined.
    """

    member_count: int
    sender_power_level: float = 0
    notification_levels: Mapping[str, Any] = field(default_factory=dict)
    display_name: str | None = None

    def with_display_name(self, display_name: str | None) -> PushContext:
        return replace(self, display_name=display_name)
