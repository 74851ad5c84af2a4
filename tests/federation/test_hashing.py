"""Hashes and the identifiers made of them."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.canonical import JsonObject, encode_canonical
from federation.errors import MalformedEvent
from federation.hashing import (
    check_content_hash,
    content_hash,
    event_id_of,
    reference_hash,
    room_id_of_create,
)
from federation.redaction import redact
from federation.room_versions import RoomVersion, room_version
from tests.federation.samples import ALL_VERSIONS, build, event_jsons, json_objects, room_versions


@given(event_jsons(), room_versions, json_objects, json_objects)
def test_neither_redaction_nor_unsigned_nor_signatures_change_the_id(
    event: JsonObject, version: RoomVersion, unsigned: JsonObject, signatures: JsonObject
) -> None:
    event_id = event_id_of(event, version)
    assert event_id_of(redact(event, version), version) == event_id
    assert event_id_of({**event, "unsigned": unsigned, "signatures": signatures}, version) == event_id
    assert reference_hash(redact(event, version), version) == reference_hash(event, version)


@given(event_jsons(), room_versions)
def test_every_protected_field_changes_the_reference_hash(event: JsonObject, version: RoomVersion) -> None:
    for key in ("type", "sender", "depth", "prev_events", "auth_events", "hashes", "room_id"):
        changed = {**event, key: "changed"}
        assert reference_hash(changed, version) != reference_hash(event, version)


@given(event_jsons(), json_objects, json_objects)
def test_the_content_hash_covers_all_but_three_keys(
    event: JsonObject, unsigned: JsonObject, signatures: JsonObject
) -> None:
    event["hashes"] = {"sha256": content_hash(event)}
    assert check_content_hash({**event, "unsigned": unsigned, "signatures": signatures})
    assert not check_content_hash({**event, "another": 1})
    assert not check_content_hash({**event, "age_ts": "changed"})
    assert not check_content_hash({**event, "content": {**event["content"], "another": 1}})


@pytest.mark.parametrize(
    "hashes", [None, [], {}, {"sha256": None}, {"sha256": "*"}, {"sha256": ""}, {"sha1": "x"}], ids=repr
)
def test_an_unreadable_content_hash_is_a_wrong_one(hashes: object) -> None:
    assert not check_content_hash({"type": "X", "hashes": hashes})


def test_a_content_hash_may_be_padded() -> None:
    event: JsonObject = {"type": "X"}
    assert check_content_hash({**event, "hashes": {"sha256": content_hash(event) + "="}})


@given(st.sampled_from(ALL_VERSIONS[2:]))
def test_the_id_is_the_hash_of_the_redacted_event_step_by_step(version: RoomVersion) -> None:
    pdu, _ = build(version)
    kept = redact(pdu.json, version)
    del kept["signatures"]
    digest = hashlib.sha256(encode_canonical(kept)).digest()
    standard = base64.b64encode(digest).decode().rstrip("=")
    url_safe = standard.replace("+", "-").replace("/", "_")
    assert pdu.event_id == "$" + (standard if version.id == "3" else url_safe)


@pytest.mark.parametrize("number", ["1", "2"])
def test_old_events_carry_their_id(number: str) -> None:
    assert event_id_of({"event_id": "$x:example.org"}, room_version(number)) == "$x:example.org"
    with pytest.raises(MalformedEvent):
        event_id_of({"type": "X", "content": {}}, room_version(number))


@given(event_jsons())
def test_a_room_is_named_by_its_create_event_from_version_12(event: JsonObject) -> None:
    create = {**event, "type": "m.room.create"}
    assert room_id_of_create(create, room_version("11")) == event["room_id"]
    del create["room_id"]
    version = room_version("12")
    assert room_id_of_create(create, version) == "!" + event_id_of(create, version)[1:]
    with pytest.raises(MalformedEvent):
        room_id_of_create(create, room_version("11"))


def test_floats_in_old_rooms_are_hashed_and_in_new_ones_are_not() -> None:
    event: JsonObject = {"type": "m.room.power_levels", "content": {"ban": 50.5}}
    assert event_id_of(event, room_version("5")).startswith("$")
    # The redaction keeps `ban`, so the float is in what is hashed.
    with pytest.raises(Exception, match="Floats"):
        event_id_of(event, room_version("6"))
