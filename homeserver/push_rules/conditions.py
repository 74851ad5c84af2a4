"""Conditions compiled into predicates. Source: Push Notifications, "Conditions".

A condition of an unknown kind, or one that lacks what its kind requires, never matches: it
compiles to None, and the rule that has it can be left out.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import eq, ge, gt, le, lt
from typing import Any

from federation.event import JsonObject
from homeserver.globs import compile_glob, compile_word_glob, contains_words, has_wildcards
from homeserver.property_paths import PropertyPath, parse_property_path
from homeserver.push_rules.event import PushContext, PushEvent
from homeserver.push_rules.validation import MEMBER_COUNT, is_plain_value

# Arguments: the event, the circumstances, the id of the user whose rule it is.
Predicate = Callable[[PushEvent, PushContext, str], bool]

NOBODY = ""  # in the place of a user id: someone whom no event names, whatever it holds
BODY: PropertyPath = ("content", "body")
NOTIFICATION_LEVEL_DEFAULT = 50  # m.room.power_levels, "notifications"
DISPLAY_NAME_OCCURRENCES_MAX = 4096


def compile_condition(condition: JsonObject, *, steps_max: int) -> Predicate | None:
    """``steps_max`` bounds the cost of one match of a pattern, see `homeserver.globs`."""
    match condition.get("kind"):
        case "event_match":
            return _event_match(condition, steps_max)
        case "event_property_is":
            return _event_property_is(condition)
        case "event_property_contains":
            return _event_property_contains(condition)
        case "contains_display_name":
            return _contains_display_name
        case "room_member_count":
            return _room_member_count(condition)
        case "sender_notification_permission":
            return _sender_notification_permission(condition)
    return None


def body_matches(pattern: str, *, steps_max: int) -> Predicate:
    """The condition of content rules: `event_match` on ``content.body``."""
    return _text_matches(BODY, pattern, steps_max)


def literal_match(condition: JsonObject) -> tuple[PropertyPath, str] | None:
    """Path and lower-case value of an ``event_match`` that only one value satisfies, else None."""
    key, pattern = condition.get("key"), condition.get("pattern")
    if condition.get("kind") != "event_match" or not isinstance(key, str) or not isinstance(pattern, str):
        return None
    path = parse_property_path(key)
    return None if path == BODY or has_wildcards(pattern) else (path, pattern.lower())


def own_user_id_matches(key: str) -> Predicate:
    """``event_match`` of the user's own id, taken literally and with its case: an old id may hold a
    ``*``, and differ from another user's by case alone."""
    path = parse_property_path(key)
    return lambda event, _context, user_id: user_id != NOBODY and bool(event.value(path) == user_id)


def own_user_id_contained(key: str) -> Predicate:
    """``event_property_contains`` of the user's own id."""
    path = parse_property_path(key)
    return lambda event, _context, user_id: user_id != NOBODY and user_id in event.strings(path)


def _event_match(condition: JsonObject, steps_max: int) -> Predicate | None:
    key, pattern = condition.get("key"), condition.get("pattern")
    if not isinstance(key, str) or not isinstance(pattern, str):
        return None
    return _text_matches(parse_property_path(key), pattern, steps_max)


def _text_matches(path: PropertyPath, pattern: str, steps_max: int) -> Predicate:
    wanted = pattern.lower()
    if path != BODY and not has_wildcards(wanted):
        return lambda event, _context, _user_id: event.text(path) == wanted
    compile_pattern = compile_word_glob if path == BODY else compile_glob
    matcher = compile_pattern(wanted, steps_max=steps_max)

    def matches(event: PushEvent, _context: PushContext, _user_id: str) -> bool:
        text = event.text(path)
        return text is not None and matcher(text)

    return matches


def _event_property_is(condition: JsonObject) -> Predicate | None:
    key, wanted = condition.get("key"), condition.get("value", ...)
    if not isinstance(key, str) or not is_plain_value(wanted):
        return None
    path = parse_property_path(key)
    return lambda event, _context, _user_id: _is_same(event.value(path), wanted)


def _event_property_contains(condition: JsonObject) -> Predicate | None:
    key, wanted = condition.get("key"), condition.get("value", ...)
    if not isinstance(key, str) or not is_plain_value(wanted):
        return None
    path = parse_property_path(key)
    if isinstance(wanted, str):
        return lambda event, _context, _user_id: wanted in event.strings(path)

    def matches(event: PushEvent, _context: PushContext, _user_id: str) -> bool:
        values = event.value(path)
        return isinstance(values, list) and any(_is_same(value, wanted) for value in values)

    return matches


def _is_same(value: Any, wanted: Any) -> bool:
    # "Do not cast types": to Python, 1 equals true.
    return type(value) is type(wanted) and bool(value == wanted)


def _contains_display_name(event: PushEvent, context: PushContext, _user_id: str) -> bool:
    text = event.text(BODY)
    if not text or not context.display_name:
        return False
    return contains_words(text, context.display_name.lower(), DISPLAY_NAME_OCCURRENCES_MAX)


_COMPARISONS: dict[str | None, Callable[[int, int], bool]] = {
    None: eq,
    "==": eq,
    "<": lt,
    ">": gt,
    "<=": le,
    ">=": ge,
}


def _room_member_count(condition: JsonObject) -> Predicate | None:
    wanted = condition.get("is")
    parsed = MEMBER_COUNT.fullmatch(wanted) if isinstance(wanted, str) else None
    if parsed is None:
        return None
    compare = _COMPARISONS[parsed[1]]
    count = int(parsed[2])
    return lambda _event, context, _user_id: compare(context.member_count, count)


def _sender_notification_permission(condition: JsonObject) -> Predicate | None:
    key = condition.get("key")
    if not isinstance(key, str):
        return None

    def matches(_event: PushEvent, context: PushContext, _user_id: str) -> bool:
        level = context.notification_levels.get(key)
        # The schema gives a default for "room" only; other keys are held to the same.
        if not isinstance(level, int) or isinstance(level, bool):
            level = NOTIFICATION_LEVEL_DEFAULT
        return context.sender_power_level >= level

    return matches
