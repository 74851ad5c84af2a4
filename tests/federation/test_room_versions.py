"""The rows of flags against the specification's text of each version."""

from __future__ import annotations

import pickle

import pytest

from federation.errors import UnknownRoomVersion
from federation.room_versions import (
    DEFAULT_ROOM_VERSION,
    ROOM_VERSIONS,
    EventIdFormat,
    StateResolution,
    room_version,
)

# Flag, its value before, and the first version that changes it.
CHANGES = [
    ("state_resolution", StateResolution.V1, 2, StateResolution.V2),
    ("redaction_auth_rule", True, 3, False),
    ("event_id_is_hash", False, 3, True),
    ("enforce_key_validity", False, 5, True),
    ("strict_canonical_json", False, 6, True),
    ("special_case_aliases_auth", True, 6, False),
    ("limit_notifications_power_levels", False, 6, True),
    ("depth_max", 2**63 - 1, 6, 2**53 - 1),
    ("knocking", False, 7, True),
    ("restricted_joins", False, 8, True),
    ("knock_restricted", False, 10, True),
    ("integer_power_levels", False, 10, True),
    ("creator_in_content", True, 11, False),
    ("redacts_in_content", False, 11, True),
    ("privileged_creators", False, 12, True),
    ("room_id_is_create_hash", False, 12, True),
]


@pytest.mark.parametrize(("flag", "before", "changed_in", "after"), CHANGES, ids=lambda value: str(value))
def test_each_flag_changes_in_the_version_that_says_so(
    flag: str, before: object, changed_in: int, after: object
) -> None:
    for number in range(1, 13):
        value = getattr(room_version(str(number)), flag)
        if flag == "state_resolution" and number == 12:
            assert value is StateResolution.V2_1
        else:
            assert value == (before if number < changed_in else after), f"version {number}"


def test_event_ids_become_url_safe_in_version_4() -> None:
    assert room_version("3").event_id_format is EventIdFormat.REFERENCE_HASH
    assert room_version("4").event_id_format is EventIdFormat.REFERENCE_HASH_URL_SAFE


def test_all_twelve_versions_are_known_and_the_newest_is_the_default() -> None:
    assert list(ROOM_VERSIONS) == [str(number) for number in range(1, 13)]
    assert all(version.id == version_id for version_id, version in ROOM_VERSIONS.items())
    assert DEFAULT_ROOM_VERSION == "12"


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(UnknownRoomVersion):
        room_version("org.example.future")


def test_a_version_sent_to_another_process_is_still_the_same_row() -> None:
    for version in ROOM_VERSIONS.values():
        assert pickle.loads(pickle.dumps(version)) is version
