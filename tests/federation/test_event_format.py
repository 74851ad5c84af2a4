"""What is dropped before any rule looks at it, and the size limits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.canonical import JsonObject, encode_canonical
from federation.errors import EventTooLarge, FederationError, MalformedEvent
from federation.event import parse_pdu
from federation.event_format import (
    EVENT_LEVELS_MAX,
    MAX_EVENT_BYTES,
    check_format,
    without_foreign_unsigned,
)
from federation.room_versions import RoomVersion, room_version
from federation.signing import required_signers
from tests.federation.samples import ALL_VERSIONS, build, event_id_in, json_values, room_versions

WRONG_REFERENCES: list[object] = [
    5, {}, "x", [5], [None], ["x"], ["$"], [[]], [["$x"]], [["$x", "$y"]], ["$" + "x" * 255],
]  # fmt: skip
WRONG: dict[str, list[object]] = {
    "sender": ["", "alice", "@alice", "@alice:", "@alice:exa mple"],
    "room_id": [5, None, "", "room", "#room:example.org", "!" + "x" * 255],
    "content": [[], "x", None],
    "unsigned": [[], "x", None],
    "origin_server_ts": ["5", True, None, 5.0, 2**63],
    "depth": ["5", True, None, 5.0, -1, 2**63],
    "hashes": [[], {}, {"sha256": 5}, None],
    "signatures": [[], None, {"a": []}, {"a": {"ed25519:1": 5}}],
    "prev_events": WRONG_REFERENCES,
    "auth_events": WRONG_REFERENCES,
}
REQUIRED = [
    "type", "sender", "content", "origin_server_ts", "depth", "room_id", "prev_events", "auth_events",
    "hashes", "signatures",
]  # fmt: skip
NOT_A_SHORT_STRING: list[object] = [5, None, [], "x" * 256, "é" * 128]

each_version = pytest.mark.parametrize("version", ALL_VERSIONS, ids=lambda version: version.id)
DROP = object()


def changed(version: RoomVersion, **changes: object) -> JsonObject:
    json = {**build(version, state_key="")[0].json, **changes}
    return {key: value for key, value in json.items() if value is not DROP}


@each_version
def test_a_well_formed_event_passes_and_gives_its_encoding(version: RoomVersion) -> None:
    json = changed(version, unsigned={"age": 5}, another={"key": []})
    assert check_format(json, version) == encode_canonical(json)


@each_version
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, value) for field in ("type", "sender", "state_key") for value in NOT_A_SHORT_STRING),
        *((field, DROP) for field in REQUIRED),
        *((field, value) for field, values in WRONG.items() for value in values),
    ],
    ids=lambda value: "absent" if value is DROP else repr(value)[:24],
)
def test_a_field_of_a_wrong_shape_is_dropped(version: RoomVersion, field: str, value: object) -> None:
    with pytest.raises(MalformedEvent):
        check_format(changed(version, **{field: value}), version)


@each_version
def test_an_event_is_an_object(version: RoomVersion) -> None:
    not_objects: list[Any] = [[], "x", None, 5]
    for value in not_objects:
        with pytest.raises(MalformedEvent):
            check_format(value, version)


@each_version
def test_references_have_the_versions_form(version: RoomVersion) -> None:
    pair, plain = ["$x:example.org", {"sha256": "AA"}], "$" + "x" * 43
    ours, other = (plain, pair) if version.event_id_is_hash else (pair, plain)
    check_format(changed(version, prev_events=[ours], auth_events=[ours]), version)
    with pytest.raises(MalformedEvent):
        check_format(changed(version, prev_events=[other]), version)


@each_version
def test_references_are_counted(version: RoomVersion) -> None:
    reference: object = event_id_in(version, "x")
    if not version.event_id_is_hash:
        reference = [reference, {}]
    check_format(changed(version, prev_events=[reference] * 20, auth_events=[reference] * 10), version)
    for field, count in (("prev_events", 21), ("auth_events", 11)):
        with pytest.raises(MalformedEvent):
            check_format(changed(version, **{field: [reference] * count}), version)


@each_version
def test_the_depth_limit_is_the_versions(version: RoomVersion) -> None:
    check_format(changed(version, depth=version.depth_max), version)
    with pytest.raises(MalformedEvent):
        check_format(changed(version, depth=version.depth_max + 1), version)


@each_version
def test_floats_are_dropped_from_version_6(version: RoomVersion) -> None:
    for content in ({"a": 0.5}, {"a": 2**53}):
        if version.strict_canonical_json:
            with pytest.raises(MalformedEvent):
                check_format(changed(version, content=content), version)
        else:
            check_format(changed(version, content=content), version)
    with pytest.raises(MalformedEvent):
        check_format(changed(version, content={"a": float("nan")}), version)
    with pytest.raises(MalformedEvent):
        check_format(changed(version, content={"a": "\ud800"}), version)


@each_version
def test_an_event_id_is_carried_in_the_first_two_versions_only(version: RoomVersion) -> None:
    values: list[object] = [
        DROP,
        5,
        "",
        "$",
        "$no_domain",
        "$x:",
        "x:example.org",
        "$" + "x" * 250 + ":b.example",
    ]
    for value in values:
        json = changed(version, event_id=value)
        if version.event_id_is_hash:
            # Not ours to use, but unknown keys are allowed: the ID is computed all the same.
            check_format(json, version)
            assert parse_pdu(json, version).event_id != value
        else:
            with pytest.raises(MalformedEvent):
                check_format(json, version)


@each_version
def test_only_create_events_of_version_12_have_no_room_id(version: RoomVersion) -> None:
    with_room_id = changed(version, type="m.room.create")
    without = changed(version, type="m.room.create", room_id=DROP)
    allowed, refused = (without, with_room_id) if version.room_id_is_create_hash else (with_room_id, without)
    check_format(allowed, version)
    with pytest.raises(MalformedEvent):
        check_format(refused, version)


@each_version
def test_65536_bytes_are_allowed_and_no_more(version: RoomVersion) -> None:
    rest = len(check_format(changed(version, content={"body": ""}), version))
    at_limit = changed(version, content={"body": "x" * (MAX_EVENT_BYTES - rest)})
    assert len(check_format(at_limit, version)) == MAX_EVENT_BYTES
    with pytest.raises(EventTooLarge):
        check_format({**at_limit, "content": {"body": at_limit["content"]["body"] + "x"}}, version)


@each_version
def test_255_bytes_a_field_are_allowed(version: RoomVersion) -> None:
    sender = "@" + "a" * 242 + ":example.org"
    check_format(changed(version, type="t" * 255, state_key="é" * 127, sender=sender), version)


@given(room_versions, st.sampled_from(sorted(changed(room_version("1")))), json_values)
def test_whatever_passes_can_be_read(version: RoomVersion, field: str, value: Any) -> None:
    json = changed(version, **{field: value})
    try:
        check_format(json, version)
    except MalformedEvent:
        return
    pdu = parse_pdu(json, version)
    assert all(isinstance(event_id, str) for event_id in (*pdu.prev_events, *pdu.auth_events, pdu.event_id))
    assert isinstance(pdu.room_id, str)
    try:
        required_signers(json, version)
    except FederationError:
        pass


def test_only_what_another_server_may_tell_stays_in_unsigned() -> None:
    unsigned = {"age": 5, "redacted_because": {}, "prev_content": {}, "invite_room_state": [], "x": 1}
    message = {"type": "m.room.message", "unsigned": unsigned}
    member = {"type": "m.room.member", "unsigned": unsigned}
    assert without_foreign_unsigned(message)["unsigned"] == {"age": 5}
    assert without_foreign_unsigned(member)["unsigned"] == {"age": 5, "invite_room_state": []}
    assert message["unsigned"] is unsigned
    clean: JsonObject
    for clean in ({"type": "X"}, {"type": "X", "unsigned": {"age": 1}}):
        assert without_foreign_unsigned(clean) is clean
    assert without_foreign_unsigned({"type": "X", "unsigned": 5}) == {"type": "X"}


@each_version
def test_an_event_is_nested_in_no_more_levels_than_every_part_of_the_node_can_write(
    version: RoomVersion,
) -> None:
    content: JsonObject = {}
    for _ in range(EVENT_LEVELS_MAX - 2):  # the event and its content are two
        content = {"a": content}
    check_format(changed(version, content=content), version)
    with pytest.raises(MalformedEvent, match="levels"):
        check_format(changed(version, content={"a": content}), version)
