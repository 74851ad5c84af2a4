"""Reading power levels: defaults, creators, and how old rooms may spell a number."""

from __future__ import annotations

from typing import Any

import pytest

from federation.power_levels import CREATOR_POWER, PowerLevels, creator_of, parse_level, privileged_creators
from federation.room_versions import ROOM_VERSIONS
from tests.federation.rooms import ALICE, ALL_VERSIONS, BOB, NEW_USER, Room, versions_with


def read(version_id: str, content: dict[str, Any] | None, **create_content: Any) -> PowerLevels:
    room = Room(version_id, **create_content)
    event = None if content is None else room.put("m.room.power_levels", ALICE, content)
    return PowerLevels.from_state(room.version, event, room.create)


@pytest.mark.parametrize("version_id", ALL_VERSIONS)
class TestDefaults:
    @pytest.mark.parametrize("content", [None, {}])
    def test_levels(self, version_id: str, content: dict[str, Any] | None) -> None:
        power_levels = read(version_id, content)
        assert (power_levels.ban, power_levels.kick, power_levels.redact) == (50, 50, 50)
        assert (power_levels.invite, power_levels.users_default) == (0, 0)
        assert power_levels.for_event("m.room.message", False) == 0
        assert power_levels.for_event("m.room.topic", True) == 50
        assert power_levels.for_notification("room") == 50

    def test_what_is_set_holds(self, version_id: str) -> None:
        power_levels = read(
            version_id,
            {
                "ban": 1, "kick": 2, "redact": 3, "invite": 4, "users_default": 5, "events_default": 6,
                "state_default": 7, "events": {"m.room.topic": 8, "m.room.message": 0},
                "users": {BOB: 9}, "notifications": {"room": 10},
            },
        )  # fmt: skip
        assert (power_levels.ban, power_levels.kick, power_levels.redact) == (1, 2, 3)
        assert (power_levels.invite, power_levels.for_user(NEW_USER)) == (4, 5)
        assert power_levels.for_event("m.room.encrypted", False) == 6
        assert power_levels.for_event("m.room.name", True) == 7
        assert power_levels.for_event("m.room.topic", True) == 8
        assert power_levels.for_event("m.room.message", False) == 0
        assert power_levels.for_user(BOB) == 9
        assert power_levels.for_notification("room") == 10
        assert power_levels.named_users()[BOB] == 9

    @pytest.mark.parametrize("wrong", [None, True, [], {}, "fifty", ""])
    def test_what_cannot_be_read_counts_as_absent(self, version_id: str, wrong: object) -> None:
        power_levels = read(
            version_id, {"ban": wrong, "users": {BOB: wrong}, "events": {"m.room.topic": wrong}}
        )
        assert (power_levels.ban, power_levels.for_user(BOB)) == (50, 0)
        assert power_levels.for_event("m.room.topic", True) == 50
        power_levels = read(version_id, {"users": wrong, "events": wrong, "notifications": wrong})
        assert (power_levels.for_user(BOB), power_levels.for_event("m.room.topic", True)) == (0, 50)


class TestCreators:
    @pytest.mark.parametrize("version_id", versions_with(privileged_creators=False))
    def test_have_100_while_there_are_no_power_levels(self, version_id: str) -> None:
        assert read(version_id, None).for_user(ALICE) == 100
        assert read(version_id, None).for_user(BOB) == 0
        assert read(version_id, {}).for_user(ALICE) == 0
        assert read(version_id, {"users": {ALICE: 7}}).for_user(ALICE) == 7

    @pytest.mark.parametrize("version_id", versions_with(privileged_creators=True))
    def test_are_above_every_number_where_they_are_privileged(self, version_id: str) -> None:
        for content in (None, {}, {"users": {ALICE: 7}, "users_default": 2**53 - 1}):
            power_levels = read(version_id, content, additional_creators=[BOB])
            for creator in (ALICE, BOB):
                assert power_levels.for_user(creator) == CREATOR_POWER > 2**53 - 1
                assert power_levels.named_users()[creator] == CREATOR_POWER
            assert power_levels.for_user(NEW_USER) <= 2**53 - 1

    def test_additional_creators_need_a_version_that_knows_them(self) -> None:
        assert read("11", None, additional_creators=[BOB]).for_user(BOB) == 0
        assert privileged_creators(Room("11", additional_creators=[BOB]).create) == frozenset()
        assert privileged_creators(Room("12", additional_creators=[BOB]).create) == {ALICE, BOB}
        assert privileged_creators(Room("12", additional_creators="nobody").create) == {ALICE}

    @pytest.mark.parametrize("version_id", ALL_VERSIONS)
    def test_are_named_in_the_content_until_version_10(self, version_id: str) -> None:
        create = Room(version_id, creator=ALICE).create
        create.content["creator"] = BOB
        by_content = ROOM_VERSIONS[version_id].creator_in_content
        assert creator_of(create) == (BOB if by_content else ALICE)
        create.content["creator"] = 7
        assert creator_of(create) == (None if by_content else ALICE)

    def test_nobody_is_one_without_a_create_event(self) -> None:
        assert PowerLevels.from_state(ROOM_VERSIONS["11"], None, None).for_user(ALICE) == 0


STRINGS = versions_with(integer_power_levels=False)
FLOATS = versions_with(strict_canonical_json=False)


class TestSpelling:
    """rooms/v1, "Deprecated event content schemas"."""

    @pytest.mark.parametrize("version_id", ALL_VERSIONS)
    @pytest.mark.parametrize("level", [0, 50, -1, 2**53 - 1])
    def test_integers(self, version_id: str, level: int) -> None:
        assert parse_level(level, ROOM_VERSIONS[version_id]) == level

    @pytest.mark.parametrize("version_id", ALL_VERSIONS)
    @pytest.mark.parametrize(
        ("text", "level"),
        [("100", 100), ("000100", 100), ("+100", 100), ("-100", -100), (" 100 ", 100), (" +00100 ", 100)],
    )
    def test_text_until_version_9(self, version_id: str, text: str, level: int) -> None:
        expected = level if version_id in STRINGS else None
        assert parse_level(text, ROOM_VERSIONS[version_id]) == expected

    @pytest.mark.parametrize("version_id", ALL_VERSIONS)
    @pytest.mark.parametrize(
        "text", ["", " ", "1.0", "1e2", "0x10", "1_000", "+-1", "- 1", "١", "ten", "9" * 9999]
    )
    def test_text_that_is_no_integer(self, version_id: str, text: str) -> None:
        assert parse_level(text, ROOM_VERSIONS[version_id]) is None

    @pytest.mark.parametrize("version_id", ALL_VERSIONS)
    @pytest.mark.parametrize(("number", "level"), [(50.57, 50), (5.114698e4, 51146), (-1.9, -1), (0.0, 0)])
    def test_floats_until_version_5_are_truncated(self, version_id: str, number: float, level: int) -> None:
        expected = level if version_id in FLOATS else None
        assert parse_level(number, ROOM_VERSIONS[version_id]) == expected

    @pytest.mark.parametrize("version_id", ALL_VERSIONS)
    @pytest.mark.parametrize("wrong", [float("inf"), float("-inf"), float("nan"), True, False, None, [], {}])
    def test_nothing_else(self, version_id: str, wrong: object) -> None:
        assert parse_level(wrong, ROOM_VERSIONS[version_id]) is None
