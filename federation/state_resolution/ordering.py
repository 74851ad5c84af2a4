"""The two orders in which conflicted events are tried. Source: rooms/v2 and rooms/v12, "Definitions"."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Set

from federation.auth_events import CREATE_KEY, POWER_LEVELS_KEY
from federation.event import PDU
from federation.power_levels import PowerLevels
from federation.room_versions import RoomVersion
from federation.state_resolution.graph import EventGraph, auth_event_of


def reverse_topological_power_ordering(
    version: RoomVersion, event_ids: Set[str], through: Set[str], graph: EventGraph, create: PDU | None
) -> list[str]:
    """ "The lexicographically smallest topological ordering based on the DAG formed by auth events",
    earliest first, by Kahn's algorithm.

    ``through`` holds other events that lie on a path between two of ``event_ids``: they pass the
    order on and are not part of it. ``create`` is the room's create event where events do not cite it.
    """
    nodes = set(event_ids | through)
    citing: dict[str, list[str]] = {}
    cited_count: dict[str, int] = {}
    ready: list[tuple[bool, int, int, str]] = []
    # "x < y if x's sender has greater power level than y's sender, when looking at their respective
    # auth_events; or the senders have the same power level, but x's origin_server_ts is less than y's
    # origin_server_ts; or … x's event_id is less than y's event_id." Events passed through come first.
    ranks: dict[str, tuple[bool, int, int, str]] = {}
    for event_id in nodes:
        event = graph.event(event_id)
        cited = nodes.intersection(event.auth_events)
        for auth_event_id in cited:
            citing.setdefault(auth_event_id, []).append(event_id)
        cited_count[event_id] = len(cited)
        if event_id in event_ids:
            power = _sender_power(version, event, graph, create)
            ranks[event_id] = (True, -power, event.origin_server_ts, event_id)
        else:
            ranks[event_id] = (False, 0, 0, event_id)
        if not cited:
            ready.append(ranks[event_id])
    heapq.heapify(ready)
    ordered = []
    while ready:
        in_order, _, _, event_id = heapq.heappop(ready)
        if in_order:
            ordered.append(event_id)
        for citing_id in citing.get(event_id, ()):
            cited_count[citing_id] -= 1
            if cited_count[citing_id] == 0:
                heapq.heappush(ready, ranks[citing_id])
    return ordered


def _sender_power(version: RoomVersion, event: PDU, graph: EventGraph, create: PDU | None) -> int:
    power_levels_event = None
    for event_id in event.auth_events:
        auth_event = graph.event(event_id)
        if auth_event.key == POWER_LEVELS_KEY:
            power_levels_event = auth_event
        elif auth_event.key == CREATE_KEY:
            create = auth_event
    return PowerLevels.from_state(version, power_levels_event, create).for_user(event.sender)


def mainline_ordering(event_ids: Iterable[str], power_levels_id: str | None, graph: EventGraph) -> list[str]:
    """The events by the mainline of a power levels event, those based on its earliest part first.

    Without such an event the mainline is empty, and time and ID decide.
    """
    mainline = _mainline(power_levels_id, graph)
    positions = {event_id: position for position, event_id in enumerate(mainline)}
    beyond = len(mainline)  # the sentinel ∞, "greater than any integer"
    # "x < y if the mainline position of x is greater than the mainline position of y; or the mainline
    # positions of the events are the same, but x's origin_server_ts is less than y's origin_server_ts;
    # or … x's event_id is less than y's event_id."
    ranked = []
    for event_id in event_ids:
        event = graph.event(event_id)
        position = _mainline_position(event, positions, beyond, graph)
        ranked.append((-position, event.origin_server_ts, event_id))
    ranked.sort()
    return [event_id for _, _, event_id in ranked]


def _mainline(power_levels_id: str | None, graph: EventGraph) -> list[str]:
    """ "Starting with i = 0, repeatedly fetch P(i+1), the m.room.power_levels event in the auth_events
    of P(i)."
    """
    mainline: dict[str, None] = {}
    while power_levels_id is not None and power_levels_id not in mainline:
        mainline[power_levels_id] = None
        earlier = auth_event_of(graph.event(power_levels_id), POWER_LEVELS_KEY, graph)
        power_levels_id = earlier.event_id if earlier is not None else None
    return list(mainline)


def _mainline_position(event: PDU, positions: dict[str, int], beyond: int, graph: EventGraph) -> int:
    """The position of the first of the event's line of power levels that has one.

    All that the walk passes shares that position, so ``positions`` learns it: whole sets of events
    cost one step for each power levels event behind them. "Note that the event we started with is
    not included."
    """
    passed: dict[str, None] = {}
    position = beyond
    while (power_levels := auth_event_of(event, POWER_LEVELS_KEY, graph)) is not None:
        known = positions.get(power_levels.event_id)
        if known is not None:
            position = known
            break
        if power_levels.event_id in passed:
            break
        passed[power_levels.event_id] = None
        event = power_levels
    positions.update(dict.fromkeys(passed, position))
    return position
