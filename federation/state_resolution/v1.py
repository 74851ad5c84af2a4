"""State resolution of room version 1. Source: rooms/v1, "State resolution"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha1

from federation.auth_events import JOIN_RULES_KEY, MEMBER, POWER_LEVELS_KEY
from federation.auth_rules import AuthState, check_event
from federation.errors import Rejected
from federation.event import PDU, StateKey
from federation.room_versions import RoomVersion
from federation.state_resolution.graph import EventGraph, StateMap


def resolve(version: RoomVersion, state_sets: Sequence[StateMap], graph: EventGraph) -> dict[StateKey, str]:
    """The resolution of states that may conflict."""
    agreed, conflicts = _split(state_sets)
    # "Start by setting R to the union of the states to be resolved, excluding any conflicting events."
    resolved = {key: graph.event(event_id) for key, event_id in agreed.items()}
    ordered = {
        key: _by_depth(graph.event(event_id) for event_id in event_ids)
        for key, event_ids in conflicts.items()
    }
    # "First we resolve conflicts between m.room.power_levels events. … Repeat the above process for
    # conflicts between m.room.join_rules events. Repeat the above process for conflicts between
    # m.room.member events."
    for event_type in (POWER_LEVELS_KEY[0], JOIN_RULES_KEY[0], MEMBER):
        keys = [key for key in ordered if key[0] == event_type]
        # Each key of a pass is resolved against the same R, or the order of the keys would matter.
        results = [(key, _last_allowed(version, key, ordered.pop(key), resolved)) for key in keys]
        resolved.update(results)
    others = [(key, _highest_allowed(version, events, resolved)) for key, events in ordered.items()]
    resolved.update((key, event) for key, event in others if event is not None)
    return {key: event.event_id for key, event in resolved.items()}


def _split(state_sets: Sequence[StateMap]) -> tuple[dict[StateKey, str], dict[StateKey, set[str]]]:
    """The states' union without conflicts, and the conflicting events of each key that has any.

    "A conflict occurs between states where those states have different event_ids for the same
    (event_type, state_key)." A key that some of the states lack is none, unlike in version 2.
    """
    agreed: dict[StateKey, str] = {}
    conflicts: dict[StateKey, set[str]] = {}
    for state in state_sets:
        for key, event_id in state.items():
            known = agreed.setdefault(key, event_id)
            if known != event_id:
                conflicts.setdefault(key, {known}).add(event_id)
    for key in conflicts:
        del agreed[key]
    return agreed, conflicts


def _by_depth(events: Iterable[PDU]) -> list[PDU]:
    """ "Sort the list by ascending depth then descending sha1(event_id)." """
    by_hash = sorted(events, key=lambda event: sha1(event.event_id.encode()).digest(), reverse=True)
    return sorted(by_hash, key=lambda event: event.depth)


def _last_allowed(
    version: RoomVersion, key: StateKey, events: list[PDU], resolved: dict[StateKey, PDU]
) -> PDU:
    """ "Add the first event in the list to R. For each subsequent event in the list, check that the
    event would be allowed by the authorisation rules for a room in state R. If the event would be
    allowed, then update R with the event and continue … If it would not be allowed, stop."
    """
    trial = dict(resolved)
    trial[key] = last = events[0]
    state = AuthState(version, trial)
    for event in events[1:]:
        if not _is_allowed(event, state):
            break
        trial[key] = last = event
    return last


def _highest_allowed(version: RoomVersion, events: list[PDU], resolved: dict[StateKey, PDU]) -> PDU | None:
    """ "Just pick the event with the highest depth and lowest sha1(event_id) that passes
    authentication in R and add it to R." Where none passes, R stays without.
    """
    state = AuthState(version, resolved)
    return next((event for event in reversed(events) if _is_allowed(event, state)), None)


def _is_allowed(event: PDU, state: AuthState) -> bool:
    try:
        check_event(event, state)
    except Rejected:
        return False
    return True
