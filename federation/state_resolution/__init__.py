"""State resolution: one state out of several, the same on every server whatever order they came in.

Source: rooms/v1, rooms/v2 and rooms/v12, "State resolution".
"""

from __future__ import annotations

from collections.abc import Sequence

from federation.event import StateKey
from federation.room_versions import RoomVersion, StateResolution
from federation.state_resolution import v1, v2
from federation.state_resolution.graph import EventGraph, MemoryGraph, StateMap

__all__ = ["EventGraph", "MemoryGraph", "StateMap", "resolve"]


def resolve(version: RoomVersion, state_sets: Sequence[StateMap], graph: EventGraph) -> dict[StateKey, str]:
    """The resolution of ``state_sets``, the states after an event's ``prev_events``.

    Never recursive; the cost grows with the conflicted events and their auth chains, not with the
    state, but for one pass over it. Raises whatever ``graph`` raises for an event that it lacks.
    """
    if not state_sets:
        return {}
    first = state_sets[0]
    if all(state is first or state == first for state in state_sets):
        return dict(first)
    if version.state_resolution is StateResolution.V1:
        return v1.resolve(version, state_sets, graph)
    return v2.resolve(version, state_sets, graph)
