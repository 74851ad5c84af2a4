"""The two orders of state resolution, on graphs made for one question each."""

from __future__ import annotations

import pytest

from federation.event import PDU
from federation.state_resolution.graph import events_between
from federation.state_resolution.ordering import mainline_ordering, reverse_topological_power_ordering
from tests.federation.rooms import ALICE, BOB, Room, levels, new_room

VERSIONS = ["2", "11", "12"]


def ids(*events: PDU) -> list[str]:
    return [event.event_id for event in events]


def power_levels(room: Room, earlier: PDU | None, ts_ms: int = 0) -> PDU:
    """Power levels that cite ``earlier`` ones, and Alice's membership."""
    cited = [event for event in (room.create, earlier, room.state["m.room.member", ALICE]) if event]
    return room.make("m.room.power_levels", ALICE, levels(room), "", auth_events=cited, ts_ms=ts_ms)


def topic(room: Room, under: PDU | None, ts_ms: int, sender: str = ALICE, name: str | None = None) -> PDU:
    cited = [room.create] if under is None else [room.create, under]
    return room.make("m.room.topic", sender, {}, "", auth_events=cited, ts_ms=ts_ms, name=name)


@pytest.mark.parametrize("version_id", VERSIONS)
class TestMainlineOrdering:
    def test_earlier_parts_of_the_mainline_come_first(self, version_id: str) -> None:
        room = new_room(version_id)
        oldest = power_levels(room, None)
        older = power_levels(room, oldest)
        newest = power_levels(room, older)
        topics = [topic(room, under, ts_ms) for under, ts_ms in ((oldest, 9), (older, 5), (newest, 1))]
        ordered = mainline_ordering(ids(*reversed(topics)), newest.event_id, room.graph())
        assert ordered == ids(*topics)

    def test_outside_the_mainline_comes_before_all_of_it(self, version_id: str) -> None:
        room = new_room(version_id)
        oldest = power_levels(room, None)
        stranger = power_levels(room, None)
        on, off, bare = topic(room, oldest, 1), topic(room, stranger, 8), topic(room, None, 9)
        assert mainline_ordering(ids(on, off, bare), oldest.event_id, room.graph()) == ids(off, bare, on)

    def test_branches_off_the_mainline_count_where_they_left_it(self, version_id: str) -> None:
        room = new_room(version_id)
        oldest = power_levels(room, None)
        newest = power_levels(room, oldest)
        near = power_levels(room, oldest)
        far = power_levels(room, near)
        # The walk from the first learns the position of all that it passes; the others rest on it.
        by_far, by_near, on = topic(room, far, 7), topic(room, near, 8), topic(room, newest, 1)
        ordered = mainline_ordering(ids(by_far, by_near, on), newest.event_id, room.graph())
        assert ordered == ids(by_far, by_near, on)
        stranger = power_levels(room, power_levels(room, None))
        lost = [topic(room, stranger, ts_ms) for ts_ms in (3, 2)]
        ordered = mainline_ordering(ids(*lost, by_far, on), newest.event_id, room.graph())
        assert ordered == ids(lost[1], lost[0], by_far, on)

    def test_an_event_does_not_count_as_its_own_power_levels(self, version_id: str) -> None:
        room = new_room(version_id)
        oldest = power_levels(room, None)
        newest = power_levels(room, oldest, ts_ms=5)
        # The newest is itself on the mainline at 0, but its position is that of what it cites.
        other = topic(room, oldest, 4)
        ordered = mainline_ordering(ids(newest, other), newest.event_id, room.graph())
        assert ordered == ids(other, newest)

    def test_time_and_then_the_id_decide_within_one_position(self, version_id: str) -> None:
        room = new_room(version_id)
        base = power_levels(room, None)
        later = topic(room, base, 2)
        second, first = topic(room, base, 1, name="b"), topic(room, base, 1, name="a")
        events = ids(later, second, first)
        assert mainline_ordering(events, base.event_id, room.graph()) == ids(first, second, later)
        assert mainline_ordering(events, None, room.graph()) == ids(first, second, later)


@pytest.mark.parametrize("version_id", VERSIONS)
class TestReverseTopologicalPowerOrdering:
    @staticmethod
    def ordered(room: Room, *events: PDU, through: tuple[PDU, ...] = ()) -> list[str]:
        create = room.create if room.version.room_id_is_create_hash else None
        return reverse_topological_power_ordering(
            room.version, set(ids(*events)), set(ids(*through)), room.graph(), create
        )

    def test_what_is_cited_comes_first_whatever_the_clock(self, version_id: str) -> None:
        room = new_room(version_id)
        first = power_levels(room, None, ts_ms=9)
        second = power_levels(room, first, ts_ms=5)
        third = power_levels(room, second, ts_ms=1)
        assert self.ordered(room, third, first, second) == ids(first, second, third)
        # Through an event that is not ordered itself, too.
        assert self.ordered(room, third, first, through=(second,)) == ids(first, third)
        assert self.ordered(room, third, first) == ids(third, first)

    def test_then_the_power_of_the_sender_by_what_each_event_cites(self, version_id: str) -> None:
        room = new_room(version_id)
        content = levels(room, users={BOB: 50})
        base = room.make("m.room.power_levels", ALICE, content, "")
        by_alice, by_bob = topic(room, base, 9, ALICE), topic(room, base, 1, BOB)
        unknown_to_base = topic(room, power_levels(room, None), 0, BOB)
        assert self.ordered(room, by_bob, unknown_to_base, by_alice) == ids(by_alice, by_bob, unknown_to_base)

    def test_then_time_and_then_the_id(self, version_id: str) -> None:
        room = new_room(version_id)
        base = power_levels(room, None)
        later = topic(room, base, 2)
        second, first = topic(room, base, 1, name="b"), topic(room, base, 1, name="a")
        assert self.ordered(room, later, second, first) == ids(first, second, later)

    def test_a_creator_without_power_levels_goes_before_others(self, version_id: str) -> None:
        room = new_room(version_id)
        by_alice, by_bob = topic(room, None, 9, ALICE), topic(room, None, 1, BOB)
        assert self.ordered(room, by_bob, by_alice) == ids(by_alice, by_bob)


@pytest.mark.parametrize("version_id", VERSIONS)
class TestEventsBetween:
    def test_are_those_on_a_path_with_its_ends(self, version_id: str) -> None:
        room = new_room(version_id)
        oldest = power_levels(room, None)
        older = power_levels(room, oldest)
        newest = power_levels(room, older)
        aside = power_levels(room, oldest)
        graph = room.graph()
        assert events_between(ids(newest), ids(oldest), graph) == {*ids(oldest, older, newest)}
        assert events_between(ids(newest, aside), ids(oldest), graph) == {*ids(oldest, older, newest, aside)}
        assert events_between(ids(aside), ids(newest), graph) == set()
        assert events_between(ids(newest), ids(newest), graph) == {newest.event_id}
        assert events_between([], ids(newest), graph) == set()
