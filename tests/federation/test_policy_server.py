"""What names a policy server, and its signature on events. Source: Server-Server API, "Policy Servers"."""

from __future__ import annotations

from typing import Any

import pytest

from federation.building import build_event
from federation.canonical import JsonObject
from federation.encoding import encode_base64
from federation.errors import BadSignature
from federation.hashing import reference_bytes
from federation.keys import SigningKey
from federation.policy_server import (
    KEY_ID,
    PolicyServer,
    is_recommended,
    needs_recommendation,
    parse_policy,
    with_recommendation,
)
from federation.redaction import redact
from federation.room_versions import ROOM_VERSIONS, RoomVersion
from federation.signing import verify_event_signature

ORIGIN_KEY = SigningKey.from_seed("1", bytes(32))
KEY = SigningKey.from_seed("policy_server", bytes(range(32)))
VIA = "policy.test"
POLICY = PolicyServer(VIA, KEY.verify_key)
PUBLIC_KEYS = {"ed25519": KEY.verify_key_base64}


def message(version: RoomVersion, server: str = "a.example") -> JsonObject:
    pdu, _ = build_event(
        version=version,
        room_id="!room:a.example",
        type="m.room.message",
        state_key=None,
        sender=f"@alice:{server}",
        content={"body": "hello"},
        prev_events=[],
        auth_events=[],
        depth=1,
        origin_server_ts=1,
        server_name=server,
        key=ORIGIN_KEY,
    )
    return pdu.json


def answer(event: JsonObject, version: RoomVersion, key: SigningKey = KEY) -> JsonObject:
    return {VIA: {KEY_ID: encode_base64(key.sign(reference_bytes(event, version)))}}


@pytest.mark.parametrize("more", [{}, {"public_keys": {**PUBLIC_KEYS, "other": 5}}, {"reason": "spam"}])
def test_a_whole_content_names_one(more: JsonObject) -> None:
    assert parse_policy({"via": VIA, "public_keys": PUBLIC_KEYS, **more}) == POLICY


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"via": VIA},
        {"public_keys": PUBLIC_KEYS},
        {"via": 7, "public_keys": PUBLIC_KEYS},
        {"via": "not a name", "public_keys": PUBLIC_KEYS},
        {"via": VIA, "public_keys": [KEY.verify_key_base64]},
        {"via": VIA, "public_keys": {"ed25519": None}},
        {"via": VIA, "public_keys": {"ed25519": "dG9vIHNob3J0"}},
    ],
)
def test_anything_less_names_none(content: JsonObject) -> None:
    assert parse_policy(content) is None


def test_it_has_a_say_in_all_but_the_event_that_names_it() -> None:
    assert not needs_recommendation("m.room.policy", "")
    for event_type, state_key in (
        ("m.room.policy", None),
        ("m.room.policy", "other"),
        ("m.room.member", "@a:b"),
        ("m.room.message", None),
    ):
        assert needs_recommendation(event_type, state_key)


@pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=lambda version: str(version.id))
def test_its_signature_stands_beside_the_others_and_outlives_redaction(version: RoomVersion) -> None:
    event = message(version)
    assert not is_recommended(event, version, POLICY)
    signed = with_recommendation(event, answer(event, version), POLICY)
    assert is_recommended(signed, version, POLICY)
    assert is_recommended(redact(signed, version), version, POLICY)
    verify_event_signature(signed, version, "a.example", ORIGIN_KEY.verify_key)
    assert VIA not in event["signatures"]  # which was copied
    other = SigningKey.generate("policy_server")
    assert not is_recommended(
        with_recommendation(event, answer(event, version, other), POLICY), version, POLICY
    )


def test_where_the_policy_server_sends_itself_both_its_signatures_stay() -> None:
    version = ROOM_VERSIONS["12"]
    event = message(version, VIA)
    signed = with_recommendation(event, answer(event, version), POLICY)
    assert set(signed["signatures"][VIA]) == {ORIGIN_KEY.key_id, KEY_ID}


@pytest.mark.parametrize("signatures", [None, 7, [], {VIA: "text"}, {VIA: {KEY_ID: 7}}, {VIA: {KEY_ID: "?"}}])
def test_strange_signatures_of_others_do_no_harm(signatures: Any) -> None:
    version = ROOM_VERSIONS["12"]
    event = {**message(version), "signatures": signatures}
    assert not is_recommended(event, version, POLICY)
    assert is_recommended(with_recommendation(event, answer(event, version), POLICY), version, POLICY)


@pytest.mark.parametrize(
    "said", [{}, {VIA: []}, {VIA: {KEY_ID: 1}}, {VIA: {}}, {"other.test": {KEY_ID: "x"}}]
)
def test_an_answer_without_its_signature_is_none(said: JsonObject) -> None:
    with pytest.raises(BadSignature):
        with_recommendation(message(ROOM_VERSIONS["12"]), said, POLICY)
