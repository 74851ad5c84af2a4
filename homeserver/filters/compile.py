"""From a client's JSON to compiled filters, checked and bounded.

BadJson is raised for a wrong type, InvalidParam for a bad value; both name the place, such as
``room.timeline.senders``. Keys that the specification does not know are ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from federation.event import JsonObject
from homeserver.errors import BadJson, InvalidParam
from homeserver.filters.event_filter import (
    ALL_EVENTS,
    ALL_ROOM_EVENTS,
    EventFilter,
    RoomEventFilter,
    TypePatterns,
)
from homeserver.filters.projection import EventFields, compile_event_fields
from homeserver.filters.sync_filter import NO_FILTER, EventFormat, RoomFilter, SyncFilter
from homeserver.globs import Matcher, compile_stars
from homeserver.property_paths import parse_property_path

Compiled = TypeVar("Compiled")

LIMIT_MAX = 1000  # "Servers should … impose a maximum value"; endpoints may have a lower one
LIST_ENTRIES_MAX = 1000  # rooms, senders
TYPES_MAX = 200  # in one list: those with wildcards are tried one after the other
EVENT_FIELDS_MAX = 200
PATH_LENGTH_MAX = 512
PATH_DEPTH_MAX = 20
ID_LENGTH_MAX = 255  # Appendices, "Common Identifier Format"


def compile_filter(definition: Any) -> SyncFilter:
    """The filter of `defineFilter` and of /sync's ``filter`` parameter, as parsed JSON."""
    given = _object(definition, "The filter")
    if not given:
        return NO_FILTER
    return SyncFilter(
        event_fields=_event_fields(given),
        event_format=_event_format(given),
        presence=_part(given, "presence", "", _event_filter, ALL_EVENTS),
        account_data=_part(given, "account_data", "", _event_filter, ALL_EVENTS),
        room=_part(given, "room", "", _room_filter, NO_FILTER.room),
    )


def compile_room_event_filter(definition: Any) -> RoomEventFilter:
    """The ``filter`` of /messages and /context, and that of a search, as parsed JSON."""
    return _room_event_filter(_object(definition, "The filter"), "")


def _part(
    given: JsonObject,
    name: str,
    place: str,
    compile_part: Callable[[JsonObject, str], Compiled],
    default: Compiled,
) -> Compiled:
    if name not in given:
        return default
    return compile_part(_object(given[name], place + name), f"{place}{name}.")


def _room_filter(given: JsonObject, place: str) -> RoomFilter:
    return RoomFilter(
        rooms=_ids(given, "rooms", place, "!"),
        not_rooms=_ids(given, "not_rooms", place, "!") or frozenset(),
        include_leave=_flag(given, "include_leave", place) or False,
        account_data=_part(given, "account_data", place, _room_event_filter, ALL_ROOM_EVENTS),
        ephemeral=_part(given, "ephemeral", place, _room_event_filter, ALL_ROOM_EVENTS),
        state=_part(given, "state", place, _room_event_filter, ALL_ROOM_EVENTS),
        timeline=_part(given, "timeline", place, _room_event_filter, ALL_ROOM_EVENTS),
    )


def _event_filter(given: JsonObject, place: str) -> EventFilter:
    return EventFilter(
        types=_types(given, "types", place),
        not_types=_types(given, "not_types", place),
        senders=_ids(given, "senders", place, "@"),
        not_senders=_ids(given, "not_senders", place, "@") or frozenset(),
        limit=_limit(given, place),
    )


def _room_event_filter(given: JsonObject, place: str) -> RoomEventFilter:
    return RoomEventFilter(
        events=_event_filter(given, place),
        rooms=_ids(given, "rooms", place, "!"),
        not_rooms=_ids(given, "not_rooms", place, "!") or frozenset(),
        contains_url=_flag(given, "contains_url", place),
        lazy_load_members=_flag(given, "lazy_load_members", place) or False,
        include_redundant_members=_flag(given, "include_redundant_members", place) or False,
        unread_thread_notifications=_flag(given, "unread_thread_notifications", place) or False,
        related_by_rel_types=_ids(given, "related_by_rel_types", place, ""),
        related_by_senders=_ids(given, "related_by_senders", place, "@"),
    )


def _event_fields(given: JsonObject) -> EventFields | None:
    paths = _strings(given, "event_fields", "", EVENT_FIELDS_MAX, PATH_LENGTH_MAX)
    if not paths:
        # "A server may include more fields than were requested": an event without any field helps nobody.
        return None
    if any(len(parse_property_path(path)) > PATH_DEPTH_MAX for path in paths):
        raise InvalidParam(f"event_fields: a path has at most {PATH_DEPTH_MAX} names")
    return compile_event_fields(paths)


def _event_format(given: JsonObject) -> EventFormat:
    event_format = given.get("event_format", "client")
    if not isinstance(event_format, str):
        raise BadJson("event_format must be a string")
    if event_format == "client":
        return "client"
    if event_format == "federation":
        return "federation"
    raise InvalidParam('event_format must be "client" or "federation"')


def _types(given: JsonObject, name: str, place: str) -> TypePatterns | None:
    types = _strings(given, name, place, TYPES_MAX, ID_LENGTH_MAX)
    if types is None:
        return None
    exact: set[str] = set()
    prefixes: list[str] = []
    others: list[Matcher] = []
    for each in types:
        if "*" not in each:
            exact.add(each)
        elif each.index("*") == len(each) - 1:
            prefixes.append(each[:-1])
        else:
            others.append(compile_stars(each))
    return TypePatterns(frozenset(exact), tuple(prefixes), tuple(others))


def _limit(given: JsonObject, place: str) -> int | None:
    if "limit" not in given:
        return None
    limit = given["limit"]
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise BadJson(f"{place}limit must be an integer")
    if limit < 0:
        raise InvalidParam(f"{place}limit must be greater than 0")
    # "Must be an integer greater than 0", but clients that want no events do send 0.
    return min(limit, LIMIT_MAX)


def _flag(given: JsonObject, name: str, place: str) -> bool | None:
    if name not in given:
        return None
    value = given[name]
    if not isinstance(value, bool):
        raise BadJson(f"{place}{name} must be true or false")
    return value


def _ids(given: JsonObject, name: str, place: str, sigil: str) -> frozenset[str] | None:
    ids = _strings(given, name, place, LIST_ENTRIES_MAX, ID_LENGTH_MAX)
    if ids is None:
        return None
    if not all(each.startswith(sigil) for each in ids):
        raise InvalidParam(f'{place}{name}: every entry must start with "{sigil}"')
    return frozenset(ids)


def _strings(given: JsonObject, name: str, place: str, entries_max: int, length_max: int) -> list[str] | None:
    if name not in given:
        return None
    values = given[name]
    if not isinstance(values, list):
        raise BadJson(f"{place}{name} must be a list")
    if len(values) > entries_max:
        raise InvalidParam(f"{place}{name} has more than {entries_max} entries")
    for value in values:
        if not isinstance(value, str):
            raise BadJson(f"{place}{name} must hold only strings")
        if len(value) > length_max:
            raise InvalidParam(f"{place}{name}: an entry is longer than {length_max} characters")
    return values


def _object(value: Any, what: str) -> JsonObject:
    if not isinstance(value, dict):
        raise BadJson(f"{what} must be a JSON object")
    return value
