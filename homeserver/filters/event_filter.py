"""EventFilter and RoomEventFilter, compiled. Source: ``event_filter.yaml``, ``room_event_filter.yaml``.

In all of them a list that is absent (None) admits everything, an empty one nothing, and what is
excluded stays so even if it is also included.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from federation.event import JsonObject
from homeserver.globs import Matcher


@dataclass(frozen=True, slots=True)
class TypePatterns:
    """A list of event types, in which "a ``*`` can be used as a wildcard to match any sequence of
    characters"."""

    exact: frozenset[str]
    prefixes: tuple[str, ...] = ()  # of the patterns with one "*", at the end
    others: tuple[Matcher, ...] = ()

    def matches(self, event_type: str) -> bool:
        return (
            event_type in self.exact
            or event_type.startswith(self.prefixes)
            or any(matches(event_type) for matches in self.others)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events by type and sender, and how many."""

    types: TypePatterns | None = None
    not_types: TypePatterns | None = None
    senders: frozenset[str] | None = None
    not_senders: frozenset[str] = frozenset()
    limit: int | None = None  # as the client asked, at least 1 and within LIMIT_MAX
    passes_all: bool = field(init=False)  # every event passes: the question need not be asked

    def __post_init__(self) -> None:
        includes_all = self.types is None and self.senders is None
        passes_all = includes_all and self.not_types is None and not self.not_senders
        object.__setattr__(self, "passes_all", passes_all)

    def matches(self, event_type: str, sender: str | None) -> bool:
        """``sender`` is None for what nobody sent, such as account data; a list of senders to
        include leaves that out."""
        if self.passes_all:
            return True
        if self.senders is not None and sender not in self.senders:
            return False
        if sender in self.not_senders:
            return False
        if self.types is not None and not self.types.matches(event_type):
            return False
        return self.not_types is None or not self.not_types.matches(event_type)

    def limit_within(self, default: int, maximum: int) -> int:
        """How many events to return: what was asked for, or ``default``; at most ``maximum``."""
        return min(default if self.limit is None else self.limit, maximum)


ALL_EVENTS = EventFilter()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomEventFilter:
    """Which events of rooms. Ask `matches`, unless ``passes_all``; ask `matches_relations` as well
    where ``needs_relations``."""

    events: EventFilter = ALL_EVENTS
    rooms: frozenset[str] | None = None
    not_rooms: frozenset[str] = frozenset()
    contains_url: bool | None = None
    lazy_load_members: bool = False
    include_redundant_members: bool = False
    unread_thread_notifications: bool = False
    # From MSC3440, whose threads the specification took over: clients still send them.
    related_by_rel_types: frozenset[str] | None = None
    related_by_senders: frozenset[str] | None = None
    passes_all: bool = field(init=False)  # every event passes, `matches_relations` included
    passes_all_rooms: bool = field(init=False)
    needs_relations: bool = field(init=False)

    def __post_init__(self) -> None:
        passes_all_rooms = self.rooms is None and not self.not_rooms
        needs_relations = self.related_by_rel_types is not None or self.related_by_senders is not None
        passes_all = (
            self.events.passes_all and passes_all_rooms and self.contains_url is None and not needs_relations
        )
        object.__setattr__(self, "passes_all_rooms", passes_all_rooms)
        object.__setattr__(self, "needs_relations", needs_relations)
        object.__setattr__(self, "passes_all", passes_all)

    @property
    def limit(self) -> int | None:
        """As `EventFilter.limit`."""
        return self.events.limit

    def limit_within(self, default: int, maximum: int) -> int:
        """As `EventFilter.limit_within`."""
        return self.events.limit_within(default, maximum)

    def matches_room(self, room_id: str) -> bool:
        """Whether events of the room can pass at all."""
        return room_id not in self.not_rooms and (self.rooms is None or room_id in self.rooms)

    def matches(self, room_id: str, event_type: str, sender: str | None, content: JsonObject) -> bool:
        """Whether an event passes, its relations aside."""
        return self.matches_room(room_id) and self.matches_in_room(event_type, sender, content)

    def matches_in_room(self, event_type: str, sender: str | None, content: JsonObject) -> bool:
        """`matches` for the events of a room that `matches_room` has admitted."""
        if self.contains_url is not None and self.contains_url != ("url" in content):
            return False
        return self.events.matches(event_type, sender)

    def matches_relations(self, relations: Iterable[tuple[str, str]]) -> bool:
        """``relations`` are ``rel_type`` and sender of the events that relate to the event in
        question; one of them must be of the types and by the senders asked for."""
        types, senders = self.related_by_rel_types, self.related_by_senders
        if types is None and senders is None:
            return True
        return any(
            (types is None or rel_type in types) and (senders is None or sender in senders)
            for rel_type, sender in relations
        )


ALL_ROOM_EVENTS = RoomEventFilter()
