"""What a client asks of sliding sync: lists, subscriptions and extensions, validated and bounded.

Source: MSC4186, "Request Body"; for the extensions MSC3884 (e2ee), MSC3885 (to_device), MSC3959
(account_data), MSC3960 (receipts), MSC3961 (typing), MSC4308 (thread_subscriptions). Clients today speak
the form of before the proposal was accepted, under the unstable path.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from federation.event import JsonObject
from homeserver.errors import BadJson, InvalidParam, MissingParam
from homeserver.sync.sliding.list_filter import NO_FILTER, ListFilter, parse_filter
from homeserver.sync.sliding.required_state import (
    RequiredState,
    Selection,
    parse_required_pairs,
    parse_required_state,
)

LISTS_MAX = 100  # "Max lists: 100"
SUBSCRIPTIONS_MAX = 100  # "Max subscriptions: 100"
EXCLUDING_MAX = 20  # different wishes for state that exclude something, which cannot become one
RANGES_MAX = 20  # of a list
TIMELINE_LIMIT_MAX = 100  # "The server may cap this number."
NAME_BYTES_MAX = 255
INDEX_MAX = 2**53 - 1
TO_DEVICE_LIMIT = 100
THREADS_LIMIT = 100  # "Defaults to 100. Servers may impose a smaller limit"
UNSTABLE_THREADS = "io.element.msc4308.thread_subscriptions"

Range = tuple[int, int]  # inclusive


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What differs between the proposal and what clients send and read under the unstable path."""

    required_state: Callable[[object, str], RequiredState]
    stripped_state: bytes
    expanded_timeline: bytes
    thread_subscriptions: str
    several_ranges: bool  # of a list, under the name `ranges`
    state_stubs: bool  # for state that is gone


STABLE = Dialect(
    required_state=parse_required_state,
    stripped_state=b"stripped_state",
    expanded_timeline=b"expanded_timeline",
    thread_subscriptions="thread_subscriptions",
    several_ranges=False,
    state_stubs=True,
)
UNSTABLE = Dialect(
    required_state=parse_required_pairs,
    stripped_state=b"invite_state",
    expanded_timeline=b"unstable_expanded_timeline",
    thread_subscriptions=UNSTABLE_THREADS,
    several_ranges=True,
    state_stubs=False,
)


@dataclass(frozen=True, slots=True)
class ListRequest:
    """One list; ``ranges`` is None where all rooms that pass the filter are wanted."""

    name: str
    ranges: tuple[Range, ...] | None
    filter: ListFilter
    selection: Selection


@dataclass(frozen=True, slots=True)
class Scope:
    """Of which rooms an extension tells: those of some lists and subscriptions; None stands for all."""

    lists: frozenset[str] | None = None
    rooms: frozenset[str] | None = None

    def covers(self, room_id: str, lists: Collection[str], *, subscribed: bool) -> bool:
        """Whether a room of the answer is among them."""
        if lists and (self.lists is None or not self.lists.isdisjoint(lists)):
            return True
        return subscribed and (self.rooms is None or room_id in self.rooms)


@dataclass(frozen=True, slots=True)
class ToDeviceRequest:
    """``since`` is the `next_batch` of the answer before."""

    since: str | None
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Extensions:
    """The enabled extensions; None for one that is not."""

    account_data: Scope | None = None
    receipts: Scope | None = None
    typing: Scope | None = None
    to_device: ToDeviceRequest | None = None
    e2ee: bool = False
    threads_limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidingRequest:
    """All that stays the same from request to request unless the client changes its mind."""

    dialect: Dialect
    lists: tuple[ListRequest, ...]
    subscriptions: dict[str, Selection]
    extensions: Extensions


def parse_request(body: JsonObject, dialect: Dialect, user_id: str) -> SlidingRequest:
    """Read a body. Raises BadJson, InvalidParam, MissingParam."""
    lists = _object(body, "lists")
    if len(lists) > LISTS_MAX:
        raise InvalidParam(f"There may be {LISTS_MAX} lists at most")
    subscriptions = _object(body, "room_subscriptions")
    if len(subscriptions) > SUBSCRIPTIONS_MAX:
        raise InvalidParam(f"There may be {SUBSCRIPTIONS_MAX} room subscriptions at most")
    request = SlidingRequest(
        dialect=dialect,
        lists=tuple(
            _list(name, _as_object(each, "a list"), dialect, user_id) for name, each in lists.items()
        ),
        subscriptions={
            room_id: _selection(_as_object(each, "a room subscription"), dialect, user_id)
            for room_id, each in subscriptions.items()
        },
        extensions=_extensions(_object(body, "extensions"), dialect),
    )
    selections = (*(each.selection for each in request.lists), *request.subscriptions.values())
    excluding = {wish for each in selections for wish in each.wishes if wish.exclude}
    if len(excluding) > EXCLUDING_MAX:
        raise InvalidParam(f"There may be {EXCLUDING_MAX} different wishes with exclude at most")
    return request


def _list(name: str, body: JsonObject, dialect: Dialect, user_id: str) -> ListRequest:
    if not name or len(name.encode()) > NAME_BYTES_MAX:
        raise InvalidParam(f"The name of a list has 1 to {NAME_BYTES_MAX} bytes")
    filters = _object(body, "filters")
    return ListRequest(
        name,
        _ranges(body, dialect),
        parse_filter(filters) if filters else NO_FILTER,
        _selection(body, dialect, user_id),
    )


def _ranges(body: JsonObject, dialect: Dialect) -> tuple[Range, ...] | None:
    if dialect.several_ranges and body.get("ranges") is not None:
        ranges = body["ranges"]
        if not isinstance(ranges, list):
            raise BadJson("ranges must be a list of pairs")
        if len(ranges) > RANGES_MAX:
            raise InvalidParam(f"A list may have {RANGES_MAX} ranges at most")
        return tuple(map(_range, ranges))
    one = body.get("range")
    return (_range(one),) if one is not None else None


def _range(value: object) -> Range:
    if not isinstance(value, list) or len(value) != 2:
        raise BadJson("A range must be a pair of integers")
    start, end = value
    for bound in (start, end):
        if not isinstance(bound, int) or isinstance(bound, bool) or not 0 <= bound <= INDEX_MAX:
            raise BadJson("A range must be a pair of integers, at least 0")
    if start > end:
        raise InvalidParam("A range must not end before it starts")
    return start, end


def _selection(body: JsonObject, dialect: Dialect, user_id: str) -> Selection:
    for name in ("timeline_limit", "required_state"):
        if body.get(name) is None:
            raise MissingParam(f"{name} is required in lists and room subscriptions")
    limit = _limit(body, "timeline_limit", 0, TIMELINE_LIMIT_MAX)
    return Selection(limit, (dialect.required_state(body["required_state"], user_id),))


def _extensions(body: JsonObject, dialect: Dialect) -> Extensions:
    def enabled(name: str) -> JsonObject | None:
        config = _object(body, name)
        flag = config.get("enabled", False)
        if not isinstance(flag, bool):
            raise BadJson("enabled must be true or false")
        return config if flag else None

    def scope(name: str) -> Scope | None:
        config = enabled(name)
        return Scope(_names(config, "lists"), _names(config, "rooms")) if config is not None else None

    to_device = enabled("to_device")
    threads = enabled(dialect.thread_subscriptions)
    return Extensions(
        account_data=scope("account_data"),
        receipts=scope("receipts"),
        typing=scope("typing"),
        to_device=_to_device(to_device) if to_device is not None else None,
        e2ee=enabled("e2ee") is not None,
        threads_limit=(
            _limit(threads, "limit", THREADS_LIMIT, THREADS_LIMIT) if threads is not None else None
        ),
    )


def _to_device(config: JsonObject) -> ToDeviceRequest:
    since = config.get("since")
    if since is not None and not isinstance(since, str):
        raise BadJson("since must be a string")
    return ToDeviceRequest(since or None, _limit(config, "limit", TO_DEVICE_LIMIT, TO_DEVICE_LIMIT))


def _names(config: JsonObject, name: str) -> frozenset[str] | None:
    """Lists or rooms of an extension: all of them where nothing or `*` is said."""
    names = config.get(name)
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise BadJson(f"{name} of an extension must be a list of strings")
    if len(names) > LISTS_MAX + SUBSCRIPTIONS_MAX:
        raise InvalidParam(f"{name} of an extension has too many elements")
    return None if "*" in names else frozenset(names)


def _limit(body: JsonObject, name: str, default: int, most: int) -> int:
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadJson(f"{name} must be an integer, at least 0")
    return min(value, most)


def _object(body: JsonObject, name: str) -> JsonObject:
    value = body.get(name)
    return _as_object(value, name) if value is not None else {}


def _as_object(value: object, what: str) -> JsonObject:
    if not isinstance(value, dict):
        raise BadJson(f"{what} must be an object")
    return value
