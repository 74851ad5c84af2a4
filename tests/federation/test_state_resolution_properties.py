"""State resolution of random rooms, held to a second reading of the specification.

The second reading takes each definition of rooms/v2 and rooms/v12 at its word, and is slow.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import cmp_to_key
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.auth_events import auth_event_keys
from federation.auth_rules import AuthState, check_event
from federation.errors import Rejected
from federation.event import PDU, StateKey
from federation.power_levels import PowerLevels
from federation.room_versions import ROOM_VERSIONS, StateResolution
from federation.state_resolution import MemoryGraph, StateMap, resolve
from tests.federation.rooms import ALICE, ALL_VERSIONS, BOB, NEW_USER, Room, new_room, versions_with

USERS = (ALICE, BOB, NEW_USER, "@user:d.example")
LEVELS = (0, 40, 50, 100)
JOIN_RULES = ("public", "invite", "knock")
BRANCHES = 3
SINCE_V2 = [version_id for version_id in ALL_VERSIONS if version_id not in versions_with(
    state_resolution=StateResolution.V1
)]  # fmt: skip

steps = st.lists(
    st.tuples(
        st.integers(0, BRANCHES - 1),  # the branch
        st.integers(0, len(USERS) - 1),  # the sender
        st.integers(0, len(USERS) - 1),  # the user it is done to
        st.sampled_from(["join", "leave", "invite", "ban", "power", "rule", "topic", "merge", "forget"]),
        st.integers(0, 3),  # what else there is to choose
        st.integers(0, 40),  # the sender's clock
    ),
    max_size=40,
)


def random_room(version_id: str, choices: Sequence[tuple[int, int, int, str, int, int]]) -> list[Room]:
    """The branches of a room in which everybody did as the rules allowed on their branch."""
    room = new_room(version_id)
    branches = [room.fork() for _ in range(BRANCHES)]
    for branch_number, sender_number, target_number, action, choice, ts_ms in choices:
        branch, sender, target = branches[branch_number], USERS[sender_number], USERS[target_number]
        if action == "merge":
            other = branches[choice % BRANCHES]
            merged = resolve(branch.version, [branch.state_map(), other.state_map()], branch.graph())
            branch.state = {key: branch.events[event_id] for key, event_id in merged.items()}
        elif action == "forget":
            # A server that lies about the state, or a state reset.
            branch.state.pop(("m.room.member", target), None)
        else:
            event_type, state_key, content = change(branch, action, target, choice)
            event = branch.make(event_type, sender, content, state_key, ts_ms=ts_ms)
            if branch.refusal(event) is None:
                branch.state[event_type, state_key] = event
    return branches


def change(branch: Room, action: str, target: str, choice: int) -> tuple[str, str, dict[str, Any]]:
    if action == "power":
        users = branch.state["m.room.power_levels", ""].content["users"] | {target: LEVELS[choice]}
        if branch.version.privileged_creators:
            users.pop(ALICE, None)
        return "m.room.power_levels", "", {"users": users, "events": {"m.room.power_levels": 40}}
    if action == "rule":
        return "m.room.join_rules", "", {"join_rule": JOIN_RULES[choice % len(JOIN_RULES)]}
    if action == "topic":
        return "m.room.topic", "", {"topic": choice}
    return "m.room.member", target, {"membership": action}


def state_maps(branches: Iterable[Room]) -> list[StateMap]:
    return [branch.state_map() for branch in branches]


@pytest.mark.parametrize("version_id", ALL_VERSIONS)
class TestProperties:
    @given(steps, st.randoms(use_true_random=False))
    @settings(max_examples=40, deadline=None)
    def test_the_order_of_what_is_given_does_not_matter(
        self, version_id: str, choices: Any, shuffle: random.Random
    ) -> None:
        branches = random_room(version_id, choices)
        room, states = branches[0], state_maps(branches)
        result = resolve(room.version, states, room.graph())
        for _ in range(3):
            shuffle.shuffle(states)
            items = [list(state.items()) for state in states]
            for entries in items:
                shuffle.shuffle(entries)
            events = list(room.events.items())
            shuffle.shuffle(events)
            again = resolve(room.version, [dict(entries) for entries in items], MemoryGraph(dict(events)))
            assert again == result

    @given(steps)
    @settings(max_examples=40, deadline=None)
    def test_repeating_states_or_resolving_the_result_changes_nothing(
        self, version_id: str, choices: Any
    ) -> None:
        branches = random_room(version_id, choices)
        room, states = branches[0], state_maps(branches)
        result = resolve(room.version, states, room.graph())
        assert resolve(room.version, [*states, *states], room.graph()) == result
        assert resolve(room.version, [result, result], room.graph()) == result

    @given(steps)
    @settings(max_examples=40, deadline=None)
    def test_the_result_is_made_of_what_was_there(self, version_id: str, choices: Any) -> None:
        branches = random_room(version_id, choices)
        room, states = branches[0], state_maps(branches)
        result = resolve(room.version, states, room.graph())
        known = room.graph().auth_chain({event_id for state in states for event_id in state.values()})
        for key, event_id in result.items():
            assert room.events[event_id].key == key
            assert event_id in known
        for key, event_id in states[0].items():
            if all(state.get(key) == event_id for state in states):
                assert result[key] == event_id


@pytest.mark.parametrize("version_id", SINCE_V2)
@given(choices=steps)
@settings(max_examples=80, deadline=None)
def test_a_second_reading_of_the_specification_agrees(version_id: str, choices: Any) -> None:
    branches = random_room(version_id, choices)
    room = branches[0]
    states = state_maps(branches)
    assert resolve(room.version, states, room.graph()) == SecondReading(room).resolve(states)


class SecondReading:
    """rooms/v2 and rooms/v12, "State resolution", definition by definition."""

    def __init__(self, room: Room) -> None:
        self.version = room.version
        self.events = room.events
        self.create = room.create
        self.chains: dict[str, set[str]] = {}

    def chain(self, event_id: str) -> set[str]:
        """The auth chain of an event, without the event."""
        if event_id not in self.chains:
            cited = self.events[event_id].auth_events
            self.chains[event_id] = set(cited).union(*(self.chain(auth_id) for auth_id in cited))
        return self.chains[event_id]

    def resolve(self, states: Sequence[StateMap]) -> dict[StateKey, str]:
        keys = {key for state in states for key in state}
        unconflicted = {key: states[0][key] for key in keys if len({state.get(key) for state in states}) == 1}
        conflicted = {state[key] for state in states for key in state if key not in unconflicted}
        full_chains = [
            set(state.values()).union(*(self.chain(event_id) for event_id in state.values()))
            for state in states
        ]
        difference = set.union(*full_chains) - set.intersection(*full_chains)
        subgraph = {
            between
            for start in conflicted
            for between in self.chain(start) | {start}
            if (self.chain(between) | {between}) & conflicted
        }
        full_conflicted = conflicted | difference
        empty_start = self.version.state_resolution is StateResolution.V2_1
        if empty_start:
            full_conflicted |= subgraph
        power_events = {event_id for event_id in full_conflicted if self.is_power_event(event_id)}
        first = power_events.union(*(self.chain(event_id) & full_conflicted for event_id in power_events))
        partial = self.checked({} if empty_start else unconflicted, self.power_ordering(first))
        power_levels = partial.get(("m.room.power_levels", ""))
        last = self.mainline_ordering(full_conflicted - first, power_levels)
        return self.checked(partial, last) | unconflicted

    def is_power_event(self, event_id: str) -> bool:
        event = self.events[event_id]
        if event.type == "m.room.member":
            return event.content["membership"] in ("leave", "ban") and event.sender != event.state_key
        return event.type in ("m.room.power_levels", "m.room.join_rules")

    def power_ordering(self, event_ids: set[str]) -> list[str]:
        ordered: list[str] = []
        left = set(event_ids)
        while left:
            candidates = [event_id for event_id in left if not self.chain(event_id) & left]
            ordered.append(min(candidates, key=cmp_to_key(self.compare)))
            left.remove(ordered[-1])
        return ordered

    def compare(self, first: str, second: str) -> int:
        x, y = self.events[first], self.events[second]
        if self.sender_power(x) != self.sender_power(y):
            return -1 if self.sender_power(x) > self.sender_power(y) else 1
        if x.origin_server_ts != y.origin_server_ts:
            return -1 if x.origin_server_ts < y.origin_server_ts else 1
        return -1 if first < second else 1

    def sender_power(self, event: PDU) -> int:
        return PowerLevels.from_state(self.version, self.power_levels_of(event), self.create).for_user(
            event.sender
        )

    def power_levels_of(self, event: PDU) -> PDU | None:
        cited = [self.events[event_id] for event_id in event.auth_events]
        return next((event for event in cited if event.type == "m.room.power_levels"), None)

    def line_of(self, event: PDU | None) -> list[str]:
        """The power levels behind an event, nearest first, without the event."""
        line = []
        while event is not None and (event := self.power_levels_of(event)) is not None:
            line.append(event.event_id)
        return line

    def mainline_ordering(self, event_ids: set[str], power_levels: str | None) -> list[str]:
        mainline = [] if power_levels is None else [power_levels, *self.line_of(self.events[power_levels])]

        def rank(event_id: str) -> tuple[float, int, str]:
            event = self.events[event_id]
            shared = [mainline.index(other) for other in self.line_of(event) if other in mainline]
            position = float(shared[0]) if shared else float("inf")
            return -position, event.origin_server_ts, event_id

        return sorted(event_ids, key=rank)

    def checked(self, state: StateMap, event_ids: Sequence[str]) -> dict[StateKey, str]:
        result = dict(state)
        for event_id in event_ids:
            event = self.events[event_id]
            seen = {
                key: self.events[auth_id]
                for auth_id in event.auth_events
                if (key := self.events[auth_id].key) is not None
            }
            needed = auth_event_keys(self.version, event.type, event.state_key, event.sender, event.content)
            seen |= {key: self.events[result[key]] for key in needed if key in result}
            seen["m.room.create", ""] = self.create
            try:
                check_event(event, AuthState(self.version, seen))
            except Rejected:
                continue
            assert event.key is not None
            result[event.key] = event_id
        return result


def test_every_version_is_covered() -> None:
    assert {ROOM_VERSIONS[version_id].state_resolution for version_id in ALL_VERSIONS} == set(StateResolution)
