"""Authorisation of ``m.room.power_levels``: rule 9 (rule 10 until v5 and in v12).

The numbers in the docstrings are version 11's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from federation.auth_rules.create import is_user_id
from federation.errors import Rejected
from federation.event import PDU
from federation.power_levels import LEVEL_DEFAULTS, PowerLevels, parse_level
from federation.room_versions import RoomVersion


def check_power_levels(event: PDU, current: PowerLevels) -> None:
    """Authorise new power levels where ``current`` hold. Raises Rejected."""
    version, content = current.version, event.content
    if version.integer_power_levels:
        _check_integers(event)
    _check_users(event, version)
    # "If the users property in content contains the sender of the m.room.create event or any of the
    # additional_creators array (if present) from the content of the m.room.create event, reject." (v12)
    if not current.creators.isdisjoint(_object_in(content, "users")):
        raise Rejected("power_levels.users_creator", event.event_id)
    # "If there is no previous m.room.power_levels event in the room, allow."
    if current.event is None:
        return
    power = current.for_user(event.sender)
    old = current.event.content
    _check_single_levels(event, old, version, power)
    _check_entries(event, old, "events", version, power)
    if version.limit_notifications_power_levels:  # v6
        _check_entries(event, old, "notifications", version, power)
    _check_entries(event, old, "users", version, power)


def _check_integers(event: PDU) -> None:
    """Rules 9.1 and 9.2 (v10)."""
    # "If any of the properties users_default, events_default, state_default, ban, redact, kick, or invite
    # in content are present and not an integer, reject."
    content = event.content
    for name in LEVEL_DEFAULTS:
        if name in content and type(content[name]) is not int:
            raise Rejected("power_levels.not_integer", event.event_id, name)
    # "If either of the properties events or notifications in content are present and not an object with
    # values that are integers, reject."
    for name in ("events", "notifications"):
        if name not in content:
            continue
        entries = content[name]
        if not isinstance(entries, dict) or any(type(value) is not int for value in entries.values()):
            raise Rejected("power_levels.not_integer", event.event_id, name)


def _check_users(event: PDU, version: RoomVersion) -> None:
    """Rule 9.3."""
    # "If the users property in content is not an object with keys that are valid user IDs with values
    # that are integers, reject." (until v9: "or a string that is an integer")
    if "users" not in event.content:
        return
    users = event.content["users"]
    if not isinstance(users, dict):
        raise Rejected("power_levels.users", event.event_id)
    for user_id, value in users.items():
        if parse_level(value, version) is None:
            raise Rejected("power_levels.users", event.event_id, "not an integer")
        if not is_user_id(user_id):
            raise Rejected("power_levels.users", event.event_id, "not a user ID")


def _check_single_levels(event: PDU, old: Mapping[str, Any], version: RoomVersion, power: int) -> None:
    """Rule 9.5."""
    # "For the properties users_default, events_default, state_default, ban, redact, kick, invite check if
    # they were added, changed or removed. For each found alteration: …"
    for name in LEVEL_DEFAULTS:
        old_level = parse_level(old.get(name), version)
        new_level = _new_level(event, event.content, name, version)
        if old_level == new_level:
            continue
        # "If the current value is higher than the sender's current power level, reject."
        if old_level is not None and old_level > power:
            raise Rejected("power_levels.current_above_sender", event.event_id, name)
        # "If the new value is higher than the sender's current power level, reject."
        if new_level is not None and new_level > power:
            raise Rejected("power_levels.new_above_sender", event.event_id, name)


def _check_entries(event: PDU, old: Mapping[str, Any], name: str, version: RoomVersion, power: int) -> None:
    """Rules 9.6 to 9.9 on one of ``events``, ``notifications`` and ``users``."""
    old_entries = _object_in(old, name)
    new_entries = _object_in(event.content, name)
    if name in event.content and not isinstance(event.content[name], dict):
        raise Rejected("power_levels.not_object", event.event_id, name)
    for entry in old_entries.keys() | new_entries.keys():
        old_value, new_value = old_entries.get(entry), new_entries.get(entry)
        if type(old_value) is int and type(new_value) is int and old_value == new_value:
            continue
        old_level = parse_level(old_value, version)
        new_level = _new_level(event, new_entries, entry, version)
        if old_level == new_level:
            continue
        # "For each entry being changed in, or removed from, the events or notifications properties: If
        # the current value is greater than the sender's current power level, reject."
        # "For each entry being changed in, or removed from, the users property, other than the sender's
        # own entry: If the current value is greater than or equal to the sender's current power level,
        # reject."
        if old_level is not None and _is_protected(name, entry, old_level, event.sender, power):
            raise Rejected("power_levels.current_above_sender", event.event_id, name)
        # "For each entry being added to, or changed in, the [three] properties: If the new value is
        # greater than the sender's current power level, reject."
        if new_level is not None and new_level > power:
            raise Rejected("power_levels.new_above_sender", event.event_id, name)


def _is_protected(name: str, entry: str, level: int, sender: str, power: int) -> bool:
    if name == "users":
        return entry != sender and level >= power
    return level > power


def _new_level(event: PDU, levels: Mapping[str, Any], name: str, version: RoomVersion) -> int | None:
    """The level that the event gives ``name``, ``None`` if it gives none. Raises Rejected if it is
    not readable as one: until v9 no rule says so outright, but then it cannot be compared either.
    """
    if name not in levels:
        return None
    level = parse_level(levels[name], version)
    if level is None:
        raise Rejected("power_levels.not_integer", event.event_id, name)
    return level


def _object_in(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = content.get(name)
    return value if isinstance(value, dict) else {}
