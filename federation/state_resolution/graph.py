"""What state resolution asks of a room's events, and the walks over their ``auth_events``.

No walk is recursive, and each ends on a cycle, which room versions 1 and 2 cannot rule out: their
event IDs are chosen by servers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol

from federation.event import PDU, StateKey

StateMap = Mapping[StateKey, str]
"""A room's state: ``(type, state_key)`` to event ID."""


class EventGraph(Protocol):
    """The events of one room.

    ``event`` is asked for the states' conflicted events and everything in their auth chains, and for
    the create event. Whoever reads from a database loads those ahead, by `auth_chain`.
    """

    def event(self, event_id: str) -> PDU:
        """The event."""

    def is_rejected(self, event_id: str) -> bool:
        """Whether the event was rejected on receipt."""

    def auth_chain(self, event_ids: Iterable[str]) -> Set[str]:
        """``event_ids`` themselves and all that is reachable from them through ``auth_events``."""

    def auth_difference(self, state_sets: Sequence[Collection[str]]) -> Set[str]:
        """The events that are in the `auth_chain` of some of the states' events, and not of all.

        The chains count the states' events in: one that is in every state is in no difference.
        """


@dataclass(frozen=True, slots=True)
class MemoryGraph:
    """An `EventGraph` over events in memory. Raises KeyError for an event that it lacks."""

    events: Mapping[str, PDU]
    rejected: Collection[str] = field(default=frozenset())

    def event(self, event_id: str) -> PDU:
        return self.events[event_id]

    def is_rejected(self, event_id: str) -> bool:
        return event_id in self.rejected

    def auth_chain(self, event_ids: Iterable[str]) -> set[str]:
        chain = set(event_ids)
        pending = list(chain)
        while pending:
            for auth_event_id in self.events[pending.pop()].auth_events:
                if auth_event_id not in chain:
                    chain.add(auth_event_id)
                    pending.append(auth_event_id)
        return chain

    def auth_difference(self, state_sets: Sequence[Collection[str]]) -> set[str]:
        if not state_sets:
            return set()
        chains = [self.auth_chain(event_ids) for event_ids in state_sets]
        in_every_chain = chains[0].intersection(*chains[1:])
        return chains[0].union(*chains[1:]) - in_every_chain


def events_between(starts: Iterable[str], targets: Iterable[str], graph: EventGraph) -> set[str]:
    """All events on the paths through ``auth_events`` from ``starts`` to ``targets``, ends included.

    Costs one walk over the auth chain of ``starts``.
    """
    citing: dict[str, list[str]] = {}
    reached = set(starts)
    pending = list(reached)
    while pending:
        event_id = pending.pop()
        for auth_event_id in graph.event(event_id).auth_events:
            citing.setdefault(auth_event_id, []).append(event_id)
            if auth_event_id not in reached:
                reached.add(auth_event_id)
                pending.append(auth_event_id)
    between = reached.intersection(targets)
    pending = list(between)
    while pending:
        for event_id in citing.get(pending.pop(), ()):
            if event_id not in between:
                between.add(event_id)
                pending.append(event_id)
    return between


def auth_event_of(event: PDU, key: StateKey, graph: EventGraph) -> PDU | None:
    """The event under ``key`` among an event's auth events."""
    for event_id in event.auth_events:
        auth_event = graph.event(event_id)
        if auth_event.key == key:
            return auth_event
    return None
