"""The redaction algorithm of each version, against the lists of rooms/v1, v6, v8, v9 and v11."""

from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import given

from federation.canonical import JsonObject
from federation.redaction import redact
from federation.room_versions import RoomVersion, room_version
from tests.federation.samples import ALL_VERSIONS, event_jsons, room_versions

TOP_LEVEL_ALWAYS = {
    "event_id", "type", "room_id", "sender", "state_key", "content", "hashes", "signatures", "depth",
    "prev_events", "auth_events", "origin_server_ts",
}  # fmt: skip
TOP_LEVEL_UNTIL_V10 = {"prev_state", "origin", "membership"}

POWER_LEVELS = {
    "ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default",
}  # fmt: skip
# Event type, first version of a list, the keys kept from then on.
CONTENT_KEPT: list[tuple[str, int, set[str]]] = [
    ("m.room.member", 1, {"membership"}),
    ("m.room.member", 9, {"membership", "join_authorised_via_users_server"}),
    ("m.room.create", 1, {"creator"}),
    ("m.room.join_rules", 1, {"join_rule"}),
    ("m.room.join_rules", 8, {"join_rule", "allow"}),
    ("m.room.power_levels", 1, POWER_LEVELS),
    ("m.room.power_levels", 11, POWER_LEVELS | {"invite"}),
    ("m.room.aliases", 1, {"aliases"}),
    ("m.room.aliases", 6, set()),
    ("m.room.history_visibility", 1, {"history_visibility"}),
    ("m.room.redaction", 1, set()),
    ("m.room.redaction", 11, {"redacts"}),
    ("m.room.message", 1, set()),
    ("m.room.topic", 1, set()),
    ("m.room.third_party_invite", 1, set()),
]
EVERY_KEY = POWER_LEVELS | {
    "membership", "join_authorised_via_users_server", "creator", "join_rule", "allow", "invite", "aliases",
    "history_visibility", "redacts", "body", "notifications", "room_version", "m.federate", "predecessor",
    "additional_creators", "displayname", "reason", "public_key", "topic",
}  # fmt: skip


def kept_content(event_type: str, number: int) -> set[str]:
    kept: set[str] = set()
    for kind, since, keys in CONTENT_KEPT:
        if kind == event_type and number >= since:
            kept = keys
    if event_type == "m.room.create" and number >= 11:
        return EVERY_KEY
    return kept


@pytest.mark.parametrize("number", range(1, 13))
@pytest.mark.parametrize("event_type", sorted({kind for kind, _, _ in CONTENT_KEPT}))
def test_content_keeps_what_the_version_lists(event_type: str, number: int) -> None:
    event = {"type": event_type, "content": {key: {"of": key} for key in EVERY_KEY}}
    redacted = redact(event, room_version(str(number)))
    assert redacted["content"] == {key: {"of": key} for key in kept_content(event_type, number)}


@pytest.mark.parametrize("number", range(1, 13))
def test_top_level_keeps_what_the_version_lists(number: int) -> None:
    keys = TOP_LEVEL_ALWAYS | TOP_LEVEL_UNTIL_V10 | {"unsigned", "redacts", "age_ts", "x", "user_id"}
    event: JsonObject = {key: key for key in keys} | {"content": {}, "type": "m.room.message"}
    expected = TOP_LEVEL_ALWAYS | (TOP_LEVEL_UNTIL_V10 if number < 11 else set())
    assert redact(event, room_version(str(number))).keys() == expected


@pytest.mark.parametrize("version", ALL_VERSIONS, ids=lambda version: version.id)
@pytest.mark.parametrize(
    ("invite", "from_v11"),
    [
        ({"signed": {"mxid": "@bob:b.example"}, "display_name": "b"}, {"signed": {"mxid": "@bob:b.example"}}),
        ({"display_name": "b"}, {}),
        ("not an object", None),
    ],
)
def test_a_third_party_invite_keeps_only_signed_and_only_from_v11(
    version: RoomVersion, invite: object, from_v11: object
) -> None:
    event = {"type": "m.room.member", "content": {"membership": "invite", "third_party_invite": invite}}
    expected: JsonObject = {"membership": "invite"}
    if int(version.id) >= 11 and from_v11 is not None:
        expected["third_party_invite"] = from_v11
    assert redact(event, version)["content"] == expected


@given(event_jsons(), room_versions)
def test_redacting_twice_changes_nothing_more(event: JsonObject, version: RoomVersion) -> None:
    once = redact(event, version)
    assert redact(once, version) == once


@given(event_jsons(), room_versions)
def test_the_input_is_untouched(event: JsonObject, version: RoomVersion) -> None:
    before = deepcopy(event)
    redact(event, version)
    assert event == before


@given(event_jsons(), room_versions)
def test_nothing_is_invented(event: JsonObject, version: RoomVersion) -> None:
    redacted = redact(event, version)
    assert redacted.keys() <= event.keys()
    assert redacted["content"].keys() <= event["content"].keys()


def test_content_of_a_wrong_shape_is_emptied() -> None:
    assert redact({"type": "m.room.member", "content": "x"}, room_version("12"))["content"] == {}
    assert (
        redact({"type": ["m.room.member"], "content": {"membership": 1}}, room_version("9"))["content"] == {}
    )
