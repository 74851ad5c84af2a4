"""State resolution of room versions 2 to 11, and with the changes of room version 12 ("2.1").

Source: rooms/v2 and rooms/v12, "State resolution".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from federation.auth_events import CREATE_KEY, JOIN_RULES_KEY, MEMBER, POWER_LEVELS_KEY
from federation.auth_rules import AuthState, check_event
from federation.errors import Rejected
from federation.event import PDU, StateKey
from federation.room_versions import RoomVersion, StateResolution
from federation.state_resolution.graph import EventGraph, StateMap, events_between
from federation.state_resolution.ordering import mainline_ordering, reverse_topological_power_ordering


def resolve(version: RoomVersion, state_sets: Sequence[StateMap], graph: EventGraph) -> dict[StateKey, str]:
    """The resolution of states that may conflict. The numbers are those of the algorithm's steps."""
    unconflicted, conflicted = split_states(state_sets)
    if not conflicted:
        return unconflicted
    is_v2_1 = version.state_resolution is StateResolution.V2_1
    difference = graph.auth_difference([list(state.values()) for state in state_sets])
    # "The full conflicted set is the union of the conflicted state set and the auth difference."
    full_conflicted = conflicted | difference
    # "Starting from an event in the conflicted state set and following auth_events edges may lead to
    # another event in the conflicted state set. The union of all such paths … forms … the conflicted
    # state subgraph", which the full conflicted set includes from v12 on. What is outside the auth
    # difference is in the chain of every state, and so is all behind it: such a path ends at one of
    # the conflicted events that are themselves in every chain. Paths to the others add nothing.
    in_every_chain = conflicted - difference
    if is_v2_1 and in_every_chain:
        full_conflicted |= events_between(conflicted, in_every_chain, graph)
    create = _create_event(version, conflicted, graph)

    # 1. "Select the set X of all power events that appear in the full conflicted set. For each such
    # power event P, enlarge X by adding the events in the auth chain of P which also belong to the full
    # conflicted set. Sort X into a list using the reverse topological power ordering."
    power_events = [event_id for event_id in full_conflicted if is_power_event(graph.event(event_id))]
    first = full_conflicted.intersection(graph.auth_chain(power_events))
    older = first - difference
    through = events_between(first, older, graph) - first if older else set()
    first_ordered = reverse_topological_power_ordering(version, first, through, graph, create)
    # 2. "Apply the iterative auth checks algorithm, starting from the unconflicted state map [from v12:
    # an empty state map], to the list of events from the previous step."
    checks = IterativeAuthChecks(version, {} if is_v2_1 else dict(unconflicted), graph, create)
    checks.apply(first_ordered)
    # 3. "Take all remaining events that weren't picked in step 1 and order them by the mainline ordering
    # based on the power level in the partially resolved state obtained in step 2."
    remaining = mainline_ordering(full_conflicted - first, checks.state.get(POWER_LEVELS_KEY), graph)
    # 4. "Apply the iterative auth checks algorithm on the partial resolved state and the list of events
    # from the previous step."
    checks.apply(remaining)
    # 5. "Update the result by replacing any event with the event with the same key from the unconflicted
    # state map, if such an event exists."
    return checks.state | unconflicted


def split_states(state_sets: Sequence[StateMap]) -> tuple[dict[StateKey, str], set[str]]:
    """The unconflicted state map and the conflicted state set.

    "If a given key K is present in every S with the same value V in each state map, then the pair
    (K, V) belongs to the unconflicted state map. Otherwise, V belongs to the conflicted state set."
    """
    unconflicted = set(state_sets[0].items())
    for state in state_sets[1:]:
        unconflicted &= state.items()
    conflicted = {event_id for state in state_sets for _, event_id in state.items() - unconflicted}
    return dict(unconflicted), conflicted


def is_power_event(event: PDU) -> bool:
    """ "A power event is a state event with type m.room.power_levels or m.room.join_rules, or a state
    event with type m.room.member where the membership is leave or ban and the sender does not match
    the state_key."
    """
    if event.state_key is None:
        return False
    if event.type == MEMBER:
        return event.content.get("membership") in ("leave", "ban") and event.sender != event.state_key
    return event.type in (POWER_LEVELS_KEY[0], JOIN_RULES_KEY[0])


def _create_event(version: RoomVersion, event_ids: Iterable[str], graph: EventGraph) -> PDU | None:
    """The create event that the room ID names, where no event cites it (v12).

    An event is only in a state after its room ID was found to name an accepted create event.
    """
    if not version.room_id_is_create_hash:
        return None
    some_event = graph.event(next(iter(event_ids)))
    return graph.event("$" + some_event.room_id[1:])


class IterativeAuthChecks:
    """ "Takes as input an initial room state and a sorted list of state events, and constructs a new
    room state by iterating through the event list and applying the state event to the room state if
    the state event is allowed by the authorisation rules."
    """

    __slots__ = ("_auth_events", "_create", "_event", "_graph", "_rules_state", "state")

    def __init__(
        self, version: RoomVersion, state: dict[StateKey, str], graph: EventGraph, create: PDU | None
    ) -> None:
        self.state = state
        self._graph = graph
        self._create = create
        self._event: PDU | None = None
        self._auth_events: dict[StateKey, PDU] | None = None
        self._rules_state = AuthState(version, self)

    def apply(self, event_ids: Iterable[str]) -> None:
        """Try the events in this order; `state` becomes the outcome."""
        for event_id in event_ids:
            event = self._graph.event(event_id)
            key = event.key
            if key is None:
                continue
            self._event, self._auth_events = event, None
            # "If the state event is not allowed by the authorisation rules, then the event is ignored."
            try:
                check_event(event, self._rules_state)
            except Rejected:
                continue
            self.state[key] = event_id

    def get(self, key: StateKey) -> PDU | None:
        """What the rules see under ``key`` while an event is tried."""
        event_id = self.state.get(key)
        if event_id is not None:
            return self._graph.event(event_id)
        if key == CREATE_KEY and self._create is not None:
            return self._create
        # "If a (event_type, state_key) key that is required for checking the authorisation rules is not
        # present in the state, then the appropriate state event from the event's auth_events is used if
        # the auth event is not rejected."
        if self._auth_events is None:
            self._auth_events = self._accepted_auth_events()
        return self._auth_events.get(key)

    def _accepted_auth_events(self) -> dict[StateKey, PDU]:
        accepted: dict[StateKey, PDU] = {}
        for event_id in self._event.auth_events if self._event is not None else ():
            auth_event = self._graph.event(event_id)
            if auth_event.key is not None and not self._graph.is_rejected(event_id):
                accepted[auth_event.key] = auth_event
        return accepted
