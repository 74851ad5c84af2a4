"""Who may do what in a room, read from its power levels and create events.

Source: Server-Server API, "Definitions" under "Checks performed on receipt of a PDU"; the schema of
``m.room.power_levels``; rooms/v1 "Deprecated event content schemas"; rooms/v12 "Authorisation rules".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from federation.event import PDU
from federation.room_versions import RoomVersion

CREATOR_POWER = 2**63 - 1
"""Stands for the infinite power of v12 creators: above every level an event may carry (2**53 - 1)."""

CREATOR_POWER_WITHOUT_EVENT = 100  # Schema of m.room.power_levels: the creator's level if there is none.

LEVEL_DEFAULTS: Mapping[str, int] = MappingProxyType({
    "users_default": 0, "events_default": 0, "state_default": 50, "ban": 50, "redact": 50, "kick": 50,
    "invite": 0,
})  # fmt: skip
"""The properties of ``m.room.power_levels`` that are one level each, with what holds without them."""

NOTIFICATION_DEFAULT = 50

_INTEGER_TEXT = re.compile(r"[+-]?[0-9]+")


def parse_level(value: object, version: RoomVersion) -> int | None:
    """The integer that ``value`` stands for as a power level, ``None`` if it is none.

    Integers always; until v9 also their text with spaces, sign and leading zeros; until v5 also
    finite floats, truncated. Source: rooms/v1, "accept values as strings", "accept values as floats".
    """
    if type(value) is int:  # not isinstance: JSON true is no integer
        return value
    if version.integer_power_levels:
        return None
    if isinstance(value, str):
        text = value.strip()
        if _INTEGER_TEXT.fullmatch(text) is None:
            return None
        try:
            return int(text)
        except ValueError:  # more digits than Python converts
            return None
    if isinstance(value, float) and not version.strict_canonical_json and math.isfinite(value):
        return int(value)
    return None


def creator_of(create: PDU) -> str | None:
    """The user who created the room: ``content.creator`` until v10, ``sender`` since.

    ``None`` if an old create event names nobody. Additional creators of v12 are not among them.
    """
    if not create.version.creator_in_content:
        return create.sender
    creator = create.content.get("creator")
    return creator if isinstance(creator, str) else None


def privileged_creators(create: PDU) -> frozenset[str]:
    """Those with power above every level: nobody until v11. Source: rooms/v12, "Authorisation rules"."""
    if not create.version.privileged_creators:
        return frozenset()
    additional = create.content.get("additional_creators")
    named = additional if isinstance(additional, list) else []
    return frozenset((create.sender, *(user_id for user_id in named if isinstance(user_id, str))))


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLevels:
    """The power levels of a room at one moment.

    Made in constant time, however many users are named: entries are read when asked for. What an
    old room's event spells in no readable way counts as absent.
    """

    version: RoomVersion
    event: PDU | None
    """The ``m.room.power_levels`` event these were read from, if the room has one."""
    creators: frozenset[str]
    """Users with `CREATOR_POWER`; empty until v11."""
    users_default: int
    events_default: int
    state_default: int
    ban: int
    redact: int
    kick: int
    invite: int
    _users: Mapping[str, Any] = field(repr=False)
    _events: Mapping[str, Any] = field(repr=False)
    _notifications: Mapping[str, Any] = field(repr=False)

    @classmethod
    def from_state(
        cls, version: RoomVersion, power_levels_event: PDU | None, create: PDU | None
    ) -> PowerLevels:
        """Read the levels of a room. Without ``create`` nobody has a creator's power."""
        content = power_levels_event.content if power_levels_event is not None else {}
        creator = creator_of(create) if create is not None else None
        users = _mapping_in(content, "users")
        if power_levels_event is None and creator is not None:
            users = {creator: CREATOR_POWER_WITHOUT_EVENT}
        return cls(
            version=version,
            event=power_levels_event,
            creators=privileged_creators(create) if create is not None else frozenset(),
            users_default=_level_in(content, "users_default", version),
            events_default=_level_in(content, "events_default", version),
            state_default=_level_in(content, "state_default", version),
            ban=_level_in(content, "ban", version),
            redact=_level_in(content, "redact", version),
            kick=_level_in(content, "kick", version),
            invite=_level_in(content, "invite", version),
            _users=users,
            _events=_mapping_in(content, "events"),
            _notifications=_mapping_in(content, "notifications"),
        )

    def for_user(self, user_id: str) -> int:
        """The user's power level."""
        if user_id in self.creators:
            return CREATOR_POWER
        return self._read(self._users.get(user_id), self.users_default)

    def for_event(self, event_type: str, is_state: bool) -> int:
        """The required power level of an event type. Membership has levels of its own."""
        return self._read(
            self._events.get(event_type), self.state_default if is_state else self.events_default
        )

    def for_notification(self, key: str) -> int:
        """The level needed to notify by ``key``, such as ``room`` for ``@room``."""
        return self._read(self._notifications.get(key), NOTIFICATION_DEFAULT)

    def named_users(self) -> dict[str, int]:
        """All users with a level of their own, creators included. Costs a pass over them."""
        named = {user_id: self.for_user(user_id) for user_id in self._users}
        return named | dict.fromkeys(self.creators, CREATOR_POWER)

    def _read(self, value: object, default: int) -> int:
        if type(value) is int:
            return value
        if value is None:
            return default
        level = parse_level(value, self.version)
        return default if level is None else level


def _level_in(content: Mapping[str, Any], name: str, version: RoomVersion) -> int:
    level = parse_level(content.get(name), version)
    return LEVEL_DEFAULTS[name] if level is None else level


def _mapping_in(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = content.get(name)
    return value if isinstance(value, dict) else {}
