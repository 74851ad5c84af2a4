"""Building an event gives what taking the specification's steps one by one gives."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.canonical import JsonObject, encode_canonical
from federation.errors import EventTooLarge, MalformedEvent, NotCanonical
from federation.event import PDU, parse_pdu
from federation.event_format import MAX_EVENT_BYTES, check_format
from federation.hashing import check_content_hash, event_id_of
from federation.room_versions import RoomVersion, room_version
from federation.signing import hash_and_sign_event, verify_event, verify_event_signature
from tests.federation.samples import (
    ALICE_KEY,
    ALL_VERSIONS,
    EVENT_TYPES,
    build,
    contents,
    event_id_in,
    json_objects,
    room_versions,
    texts,
)

each_version = pytest.mark.parametrize("version", ALL_VERSIONS, ids=lambda version: version.id)
KEYS = {"example.org": {ALICE_KEY.key_id: ALICE_KEY.verify_key}}


def fields(pdu: PDU) -> tuple[object, ...]:
    return tuple(getattr(pdu, name) for name in PDU.__slots__)


@settings(max_examples=300)
@given(
    room_versions,
    st.sampled_from(EVENT_TYPES),
    st.none() | texts,
    contents,
    st.none() | json_objects,
)
def test_the_event_equals_the_specifications_steps(
    version: RoomVersion,
    event_type: str,
    state_key: str | None,
    content: JsonObject,
    unsigned: JsonObject | None,
) -> None:
    changes: JsonObject = {
        "type": event_type,
        "state_key": state_key,
        "content": content,
        "unsigned": unsigned,
    }
    if version.room_id_is_create_hash and event_type == "m.room.create":
        changes["room_id"] = None
    pdu, encoded = build(version, **changes)
    assert encoded == encode_canonical(pdu.json)
    assert orjson.loads(encoded) == pdu.json
    assert check_format(pdu.json, version) == encoded
    assert check_content_hash(pdu.json)
    bare = {key: value for key, value in pdu.json.items() if key not in ("hashes", "signatures")}
    assert pdu.json == hash_and_sign_event(bare, version, "example.org", ALICE_KEY)
    assert pdu.event_id == event_id_of(pdu.json, version)
    assert fields(pdu) == fields(parse_pdu(orjson.loads(encoded), version))


@each_version
def test_what_is_built_verifies(version: RoomVersion) -> None:
    verify_event(build(version)[0].json, version, KEYS)


@each_version
def test_a_third_party_invite_is_signed_without_what_redaction_takes_from_inside_it(
    version: RoomVersion,
) -> None:
    invite = {"display_name": "b", "signed": {"mxid": "@bob:b.example", "token": "t"}}
    content = {"membership": "invite", "third_party_invite": invite}
    pdu, _ = build(version, type="m.room.member", state_key="@bob:b.example", content=content)
    assert pdu.event_id == event_id_of(pdu.json, version)
    verify_event_signature(pdu.json, version, "example.org", ALICE_KEY.verify_key)


@each_version
def test_a_redaction_names_its_target_where_the_version_wants_it(version: RoomVersion) -> None:
    target = event_id_in(version, "t")
    pdu, encoded = build(version, type="m.room.redaction", content={"reason": "spam"}, redacts=target)
    json = orjson.loads(encoded)
    assert pdu.redacts == target
    assert ("redacts" in json, "redacts" in json["content"]) == (
        not version.redacts_in_content,
        version.redacts_in_content,
    )
    assert check_content_hash(json) and event_id_of(json, version) == pdu.event_id
    with pytest.raises(MalformedEvent):
        build(version, redacts=target)


def test_the_create_event_names_its_room_from_version_12() -> None:
    create: JsonObject = {"type": "m.room.create", "state_key": "", "prev_events": [], "auth_events": []}
    pdu, encoded = build(room_version("12"), room_id=None, **create)
    assert pdu.room_id == "!" + pdu.event_id[1:]
    assert "room_id" not in orjson.loads(encoded)
    with pytest.raises(MalformedEvent):
        build(room_version("12"), room_id="!room:example.org", **create)
    with pytest.raises(MalformedEvent):
        build(room_version("11"), room_id=None, **create)
    with pytest.raises(MalformedEvent):
        build(room_version("12"), room_id=None)


def test_old_references_carry_hashes_and_old_ids_are_unique() -> None:
    version = room_version("2")
    pdu, _ = build(version)
    assert pdu.json["prev_events"] == [["$p:example.org", {"sha256": "cHJldg"}]]
    assert pdu.prev_events == ("$p:example.org",)
    assert pdu.event_id.endswith(":example.org")
    assert build(version, content={"body": "Other"})[0].event_id != pdu.event_id
    assert build(version, depth=6)[0].event_id != pdu.event_id
    with pytest.raises(MalformedEvent):
        build(version, reference_hashes={})


@each_version
def test_nobody_sends_what_is_not_canonical_even_into_old_rooms(version: RoomVersion) -> None:
    refused: list[JsonObject] = [{"a": 0.5}, {"a": 2**53}, {"a": "\ud800"}, {"a": b"x"}]
    for content in refused:
        with pytest.raises(NotCanonical):
            build(version, content=content)
        with pytest.raises(NotCanonical):
            build(version, unsigned=content)


@each_version
def test_the_size_limit_covers_signatures(version: RoomVersion) -> None:
    _, encoded = build(version, content={"body": ""})
    room_for = MAX_EVENT_BYTES - len(encoded)
    assert len(build(version, content={"body": "x" * room_for})[1]) == MAX_EVENT_BYTES
    with pytest.raises(EventTooLarge):
        build(version, content={"body": "x" * (room_for + 1)})


@pytest.mark.parametrize("field", ["type", "state_key", "sender", "room_id"])
def test_fields_have_at_most_255_bytes(field: str) -> None:
    with pytest.raises(EventTooLarge):
        build(room_version("12"), **{field: "é" * 128})


@pytest.mark.parametrize(
    "changes",
    [{"depth": -1}, {"depth": 2**53}, {"origin_server_ts": -1}, {"prev_events": ["$x"] * 21},
     {"auth_events": ["$x"] * 11}],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_other_limits(changes: JsonObject) -> None:
    with pytest.raises(MalformedEvent):
        build(room_version("12"), **changes)


def test_an_event_does_not_show_its_content() -> None:
    pdu, _ = build(room_version("12"))
    assert "Hello" not in repr(pdu)
    assert pdu.key is None
    assert build(room_version("12"), state_key="x")[0].key == ("m.room.message", "x")
