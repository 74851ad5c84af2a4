"""Authorisation of ``m.room.power_levels``: rule 9 of v11, by its numbers, in all versions.

Bob has 50 in these rooms and may change power levels; Alice made them.
"""

from __future__ import annotations

from typing import Any

import pytest

from federation.power_levels import LEVEL_DEFAULTS
from federation.room_versions import ROOM_VERSIONS
from tests.federation.rooms import ALICE, ALL_VERSIONS, BOB, NEW_USER, Room, levels, versions_with

every_version = pytest.mark.parametrize("version_id", ALL_VERSIONS)
INTEGERS_ONLY = versions_with(integer_power_levels=True)
PEER, LOWER, HIGHER = "@peer:c.example", "@lower:c.example", "@higher:c.example"


def room_with(version_id: str, **content: Any) -> Room:
    """Alice's room with these levels, where Bob has joined and has 50."""
    room = Room(version_id)
    room.member(ALICE, "join")
    room.member(BOB, "join")
    users = {BOB: 50} | content.pop("users", {})
    room.put("m.room.power_levels", ALICE, levels(room, users=users, **content))
    return room


def change(room: Room, sender: str = BOB, **content: Any) -> str | None:
    """The refusal of the present levels with ``content`` changed; ``None`` values are removed."""
    merged = room.state["m.room.power_levels", ""].content | content
    kept = {name: value for name, value in merged.items() if value is not None}
    return room.refusal(room.make("m.room.power_levels", sender, kept, ""))


def change_entries(room: Room, name: str, **entries: int | None) -> str | None:
    """The same for entries of one property, which are written with ``_`` for ``.``."""
    present = room.state["m.room.power_levels", ""].content.get(name, {})
    merged = present | {entry.replace("_", "."): level for entry, level in entries.items()}
    return change(room, **{name: {entry: level for entry, level in merged.items() if level is not None}})


def change_users(room: Room, users: dict[str, int | None], sender: str = BOB) -> str | None:
    merged = room.state["m.room.power_levels", ""].content["users"] | users
    kept = {user_id: level for user_id, level in merged.items() if level is not None}
    return change(room, sender, users=kept)


class TestTypes:
    @every_version
    @pytest.mark.parametrize("name", list(LEVEL_DEFAULTS))
    def test_9_1_levels_are_integers(self, version_id: str, name: str) -> None:
        room = room_with(version_id)
        assert change(room, **{name: 10}) is None
        for wrong in ("ten", True, [], {}, {"level": 10}, "10.0"):
            assert change(room, **{name: wrong}) == "power_levels.not_integer"
        text = "power_levels.not_integer" if version_id in INTEGERS_ONLY else None
        assert change(room, **{name: "10"}) == text

    @every_version
    @pytest.mark.parametrize("name", ["events", "notifications"])
    def test_9_2_entries_are_integers(self, version_id: str, name: str) -> None:
        room = room_with(version_id)
        assert change(room, **{name: {"m.room.topic": 10}}) is None
        limited = name == "events" or ROOM_VERSIONS[version_id].limit_notifications_power_levels
        for wrong in ("ten", True, [], None):
            refusal = change(room, **{name: {"m.room.topic": wrong}})
            assert refusal == ("power_levels.not_integer" if limited else None)
        text = "power_levels.not_integer" if version_id in INTEGERS_ONLY else None
        assert change(room, **{name: {"m.room.topic": "10"}}) == text
        for wrong in ([], "none", 10):
            expected = "not_integer" if version_id in INTEGERS_ONLY else "not_object" if limited else None
            assert change(room, **{name: wrong}) == (expected and f"power_levels.{expected}")

    @every_version
    def test_9_3_users_are_user_ids_with_integers(self, version_id: str) -> None:
        room = room_with(version_id)
        assert change_users(room, {NEW_USER: 10}) is None
        users = room.state["m.room.power_levels", ""].content["users"]
        for wrong in ([], "nobody", 10):
            assert change(room, users=wrong) == "power_levels.users"
        for wrong_level in ("ten", True, None, []):
            assert change(room, users=users | {NEW_USER: wrong_level}) == "power_levels.users"
        for wrong_id in ("", "new.user", "@new.user", "new.user:c.example", "#new.user:c.example"):
            assert change(room, users=users | {wrong_id: 10}) == "power_levels.users"
        text = "power_levels.users" if version_id in INTEGERS_ONLY else None
        assert change(room, users=users | {NEW_USER: "10"}) == text

    @every_version
    def test_9_3_users_may_be_absent(self, version_id: str) -> None:
        room = Room(version_id)
        room.member(ALICE, "join")
        assert room.refusal(room.make("m.room.power_levels", ALICE, {}, "")) is None

    @pytest.mark.parametrize("version_id", versions_with(strict_canonical_json=False))
    def test_floats_until_version_5(self, version_id: str) -> None:
        room = room_with(version_id)
        assert change(room, ban=49.9) is None
        assert change(room, ban=50.9) is None
        assert change(room, ban=51.1) == "power_levels.new_above_sender"
        assert change(room, ban=float("inf")) == "power_levels.not_integer"

    @pytest.mark.parametrize("version_id", versions_with(integer_power_levels=True))
    def test_types_are_checked_in_the_first_event_too(self, version_id: str) -> None:
        room = Room(version_id)
        room.member(ALICE, "join")
        for wrong in ({"ban": "50"}, {"events": []}, {"notifications": {"room": "50"}}):
            event = room.make("m.room.power_levels", ALICE, wrong, "")
            assert room.refusal(event) == "power_levels.not_integer"


@pytest.mark.parametrize("version_id", versions_with(privileged_creators=True))
def test_10_4_of_version_12_creators_are_not_listed(version_id: str) -> None:
    room = Room(version_id, additional_creators=[BOB])
    room.member(ALICE, "join")
    assert room.refusal(room.make("m.room.power_levels", ALICE, {"users": {NEW_USER: 100}}, "")) is None
    for creator in (ALICE, BOB):
        for level in (0, 100):
            event = room.make("m.room.power_levels", ALICE, {"users": {creator: level}}, "")
            assert room.refusal(event) == "power_levels.users_creator"


@every_version
def test_9_4_the_first_event_is_free_to_set_any_level(version_id: str) -> None:
    room = Room(version_id)
    room.member(ALICE, "join")
    content = levels(room, users={NEW_USER: 1000}, ban=1000, events={"m.room.topic": 1000})
    first = room.make("m.room.power_levels", ALICE, content, "")
    assert room.refusal(first) is None
    room.put("m.room.power_levels", ALICE, levels(room))
    expected = None if room.version.privileged_creators else "power_levels.new_above_sender"
    assert room.refusal(first) == expected


@every_version
@pytest.mark.parametrize("name", list(LEVEL_DEFAULTS))
class TestSingleLevels:
    """Rule 9.5."""

    def test_are_added_up_to_the_senders_power(self, version_id: str, name: str) -> None:
        room = room_with(version_id)
        assert change(room, **{name: 50}) is None
        assert change(room, **{name: 51}) == "power_levels.new_above_sender"

    def test_above_the_sender_are_neither_changed_nor_removed(self, version_id: str, name: str) -> None:
        # Had users_default been raised so, it would only be Bob who keeps 50.
        room = room_with(version_id, events={"m.room.power_levels": 50}, **{name: 51})
        assert change(room) is None
        assert change(room, **{name: 40}) == "power_levels.current_above_sender"
        assert change(room, **{name: None}) == "power_levels.current_above_sender"

    def test_within_the_senders_power_are_changed_and_removed(self, version_id: str, name: str) -> None:
        room = room_with(version_id, events={"m.room.power_levels": 50}, **{name: 50})
        assert change(room, **{name: 40}) is None
        assert change(room, **{name: None}) is None
        assert change(room, **{name: 51}) == "power_levels.new_above_sender"


@every_version
@pytest.mark.parametrize("name", ["events", "notifications"])
class TestEntries:
    """Rules 9.6 and 9.7; ``notifications`` from v6."""

    @staticmethod
    def refused(version_id: str, name: str, rule: str) -> str | None:
        limited = name == "events" or ROOM_VERSIONS[version_id].limit_notifications_power_levels
        return rule if limited else None

    def test_9_7_are_added_up_to_the_senders_power(self, version_id: str, name: str) -> None:
        room = room_with(version_id)
        assert change_entries(room, name, m_room_topic=50) is None
        expected = self.refused(version_id, name, "power_levels.new_above_sender")
        assert change_entries(room, name, m_room_topic=51) == expected

    def test_9_6_above_the_sender_are_neither_changed_nor_removed(self, version_id: str, name: str) -> None:
        room = room_with(version_id, **{name: {"m.room.topic": 51}})
        expected = self.refused(version_id, name, "power_levels.current_above_sender")
        assert change_entries(room, name) is None
        assert change_entries(room, name, m_room_topic=40) == expected
        assert change_entries(room, name, m_room_topic=None) == expected
        assert change(room, **{name: None}) == expected

    def test_9_6_within_the_senders_power_are_changed_and_removed(self, version_id: str, name: str) -> None:
        room = room_with(version_id, **{name: {"m.room.topic": 50}})
        assert change_entries(room, name, m_room_topic=40) is None
        assert change_entries(room, name, m_room_topic=None) is None
        expected = self.refused(version_id, name, "power_levels.new_above_sender")
        assert change_entries(room, name, m_room_topic=51) == expected


@every_version
class TestUsers:
    """Rules 9.8 and 9.9."""

    def test_9_9_are_added_up_to_the_senders_power(self, version_id: str) -> None:
        room = room_with(version_id)
        assert change_users(room, {NEW_USER: 50}) is None
        assert change_users(room, {NEW_USER: 51}) == "power_levels.new_above_sender"

    def test_9_8_of_equal_or_higher_power_are_neither_changed_nor_removed(self, version_id: str) -> None:
        room = room_with(version_id, users={PEER: 50, HIGHER: 51, LOWER: 49})
        assert change_users(room, {}) is None
        for protected in (PEER, HIGHER):
            for level in (0, 49, 100, None):
                refusal = change_users(room, {protected: level})
                assert refusal == "power_levels.current_above_sender"

    def test_9_8_of_lower_power_are_changed_and_removed(self, version_id: str) -> None:
        room = room_with(version_id, users={LOWER: 49})
        assert change_users(room, {LOWER: 50}) is None
        assert change_users(room, {LOWER: -1}) is None
        assert change_users(room, {LOWER: None}) is None
        assert change_users(room, {LOWER: 51}) == "power_levels.new_above_sender"

    def test_9_8_may_lower_themselves_and_not_raise(self, version_id: str) -> None:
        room = room_with(version_id)
        assert change_users(room, {BOB: 10}) is None
        assert change_users(room, {BOB: None}) is None
        assert change_users(room, {BOB: 51}) == "power_levels.new_above_sender"

    def test_creators_change_anybody(self, version_id: str) -> None:
        room = room_with(version_id, users={HIGHER: 99})
        assert change_users(room, {HIGHER: None, BOB: 0}, ALICE) is None


@pytest.mark.parametrize("version_id", versions_with(integer_power_levels=False))
class TestSpelling:
    """Until v9 another spelling of the same number is no change."""

    def test_of_the_same_number_is_no_change(self, version_id: str) -> None:
        room = room_with(version_id, ban=100, users={HIGHER: 100}, events={"m.room.topic": 100})
        users = room.state["m.room.power_levels", ""].content["users"]
        assert change(room, ban=" +0100 ") is None
        assert change(room, users=users | {HIGHER: "100"}) is None
        assert change(room, events={"m.room.topic": "100"}) is None
        assert change(room, ban="101") == "power_levels.current_above_sender"
        assert change(room, ban="51", users=users) == "power_levels.current_above_sender"

    def test_of_the_old_value_is_understood(self, version_id: str) -> None:
        room = room_with(version_id, ban="100", users={LOWER: "49"})
        assert change(room, ban=50) == "power_levels.current_above_sender"
        assert change_users(room, {LOWER: None}) is None

    def test_that_is_no_number_is_mended_by_removing_it(self, version_id: str) -> None:
        room = room_with(version_id, ban="many")
        assert change(room) == "power_levels.not_integer"
        assert change(room, ban=None) is None
