"""Signatures: the specification's vectors, the reference implementation, and what is refused."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import signedjson.key
import signedjson.sign
from hypothesis import given

from federation.canonical import JsonObject
from federation.encoding import decode_base64
from federation.errors import BadSignature, MalformedEvent, NotCanonical
from federation.keys import SigningKey
from federation.redaction import redact
from federation.room_versions import RoomVersion, room_version
from federation.signing import (
    hash_and_sign_event,
    required_keys,
    required_signers,
    sign_event,
    sign_json,
    signing_key_ids,
    verify_event,
    verify_event_signature,
    verify_json,
)
from tests.federation.samples import ALICE_KEY, ALL_VERSIONS, BOB_KEY, build, json_objects

# Appendices, "Cryptographic Test Vectors".
VECTOR_KEY = SigningKey.from_seed("1", decode_base64("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"))


@pytest.mark.parametrize(
    ("obj", "signature"),
    [
        ({}, "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"),
        (
            {"one": 1, "two": "Two"},
            "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
        ),
    ],
)
def test_specification_json_signing(obj: JsonObject, signature: str) -> None:
    signed = sign_json(obj, "domain", VECTOR_KEY)
    assert signed == {**obj, "signatures": {"domain": {"ed25519:1": signature}}}


@pytest.mark.parametrize(
    ("event", "content_hash", "signature"),
    [
        (
            {
                "room_id": "!x:domain", "sender": "@a:domain", "origin": "domain",
                "origin_server_ts": 1000000, "signatures": {}, "hashes": {}, "type": "X", "content": {},
                "prev_events": [], "auth_events": [], "depth": 3, "unsigned": {"age_ts": 1000000},
            },
            "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos",
            "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg",
        ),
        (
            {
                "content": {"body": "Here is the message content"}, "event_id": "$0:domain",
                "origin": "domain", "origin_server_ts": 1000000, "type": "m.room.message",
                "room_id": "!r:domain", "sender": "@u:domain", "signatures": {},
                "unsigned": {"age_ts": 1000000},
            },
            "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g",
            "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA",
        ),
    ],
    ids=["minimal", "redactable"],
)  # fmt: skip
def test_specification_event_signing(event: JsonObject, content_hash: str, signature: str) -> None:
    signed = hash_and_sign_event(event, room_version("1"), "domain", VECTOR_KEY)
    assert signed == {
        **event,
        "hashes": {"sha256": content_hash},
        "signatures": {"domain": {"ed25519:1": signature}},
    }


def reference_signing_key(key: SigningKey) -> Any:
    return signedjson.key.decode_signing_key_base64("ed25519", key.version, key.seed_base64)


@given(json_objects)
def test_signatures_are_those_of_the_reference_implementation(obj: JsonObject) -> None:
    obj = {key: value for key, value in obj.items() if key not in ("signatures", "unsigned")}
    ours = sign_json(obj, "example.org", ALICE_KEY)
    key = reference_signing_key(ALICE_KEY)
    assert ours == signedjson.sign.sign_json(deepcopy(obj), "example.org", key)
    signedjson.sign.verify_signed_json(deepcopy(ours), "example.org", signedjson.key.get_verify_key(key))
    verify_json(ours, "example.org", ALICE_KEY.verify_key)


def test_signing_keeps_and_does_not_cover_unsigned_and_other_signatures() -> None:
    original = {"a": 1, "unsigned": {"age": 1}}
    once = sign_json(original, "a.example", ALICE_KEY)
    twice = sign_json(once, "b.example", BOB_KEY)
    assert original == {"a": 1, "unsigned": {"age": 1}}
    assert once["signatures"].keys() == {"a.example"}
    changed = {**twice, "unsigned": {"age": 2}}
    verify_json(changed, "a.example", ALICE_KEY.verify_key)
    verify_json(changed, "b.example", BOB_KEY.verify_key)


@pytest.mark.parametrize(
    "signatures",
    [None, [], "x", {}, {"example.org": []}, {"example.org": {}}, {"example.org": {"ed25519:1": 5}},
     {"example.org": {"ed25519:1": "*"}}, {"example.org": {"ed25519:1": "AAAA"}},
     {"example.org": {"ed25519:2": "AAAA"}}, {"elsewhere.org": {"ed25519:1": "AAAA"}}],
    ids=repr,
)  # fmt: skip
def test_an_absent_or_unreadable_signature_is_refused(signatures: object) -> None:
    with pytest.raises(BadSignature):
        verify_json({"a": 1, "signatures": signatures}, "example.org", ALICE_KEY.verify_key)


def test_a_changed_object_is_refused() -> None:
    signed = sign_json({"a": 1}, "example.org", ALICE_KEY)
    with pytest.raises(BadSignature):
        verify_json({**signed, "a": 2}, "example.org", ALICE_KEY.verify_key)
    with pytest.raises(BadSignature):
        verify_json({**signed, "b": None}, "example.org", ALICE_KEY.verify_key)


def test_what_has_no_canonical_form_is_not_signed() -> None:
    with pytest.raises(NotCanonical):
        sign_json({"a": 0.5}, "example.org", ALICE_KEY)


@pytest.mark.parametrize("version", ALL_VERSIONS, ids=lambda version: version.id)
def test_a_redacted_event_still_verifies_and_a_changed_one_does_not(version: RoomVersion) -> None:
    pdu, _ = build(version)
    for json in (pdu.json, redact(pdu.json, version), {**pdu.json, "unsigned": {"age": 1}}):
        verify_event_signature(json, version, "example.org", ALICE_KEY.verify_key)
        verify_event(json, version, {"example.org": {"ed25519:1": ALICE_KEY.verify_key}})
    forged = {**pdu.json, "sender": "@bob:example.org"}
    with pytest.raises(BadSignature):
        verify_event(forged, version, {"example.org": {"ed25519:1": ALICE_KEY.verify_key}})


def test_unknown_keys_are_skipped_but_one_known_must_remain() -> None:
    version = room_version("12")
    pdu, _ = build(version)
    with pytest.raises(BadSignature):
        verify_event(pdu.json, version, {"example.org": {"ed25519:b": BOB_KEY.verify_key}})
    with pytest.raises(BadSignature):
        verify_event(pdu.json, version, {})
    both = sign_event(pdu.json, version, "example.org", BOB_KEY)
    verify_event(both, version, {"example.org": {"ed25519:b": BOB_KEY.verify_key}})


def test_every_signature_by_a_known_key_must_verify() -> None:
    version = room_version("12")
    both = sign_event(build(version)[0].json, version, "example.org", BOB_KEY)
    signatures = both["signatures"]["example.org"]
    broken = {"example.org": {**signatures, "ed25519:b": signatures["ed25519:1"]}}
    keys = {"ed25519:1": ALICE_KEY.verify_key, "ed25519:b": BOB_KEY.verify_key}
    verify_event(both, version, {"example.org": keys})
    with pytest.raises(BadSignature):
        verify_event({**both, "signatures": broken}, version, {"example.org": keys})


def member(version: RoomVersion, content: JsonObject) -> JsonObject:
    pdu, _ = build(version, type="m.room.member", state_key="@bob:b.example", content=content)
    return pdu.json


@pytest.mark.parametrize("version", ALL_VERSIONS, ids=lambda version: version.id)
def test_a_restricted_join_also_needs_the_authorising_server(version: RoomVersion) -> None:
    content = {"membership": "join", "join_authorised_via_users_server": "@bob:c.example"}
    expected = {"example.org"} | ({"c.example"} if int(version.id) >= 8 else set())
    assert required_signers(member(version, content), version) == expected


def test_an_authorising_user_that_is_none_is_refused() -> None:
    version = room_version("12")
    for value in (5, None, "bob", ["@bob:c.example"]):
        with pytest.raises(MalformedEvent):
            required_signers(
                member(version, {"membership": "join", "join_authorised_via_users_server": value}), version
            )


def test_a_third_party_invite_need_not_be_signed_by_the_senders_server() -> None:
    version = room_version("12")
    invite = {"membership": "invite", "third_party_invite": {"signed": {}}}
    assert required_signers(member(version, invite), version) == frozenset()
    assert required_signers(member(version, {**invite, "membership": "join"}), version) == {"example.org"}


@pytest.mark.parametrize(
    ("number", "expected"), [("2", {"example.org", "d.example"}), ("3", {"example.org"})]
)
def test_the_domain_of_the_event_id_signs_in_the_first_two_versions(number: str, expected: set[str]) -> None:
    json = {"type": "X", "content": {}, "sender": "@alice:example.org", "event_id": "$x:d.example"}
    assert required_signers(json, room_version(number)) == expected


def test_the_keys_to_fetch_are_those_of_required_signers_in_known_algorithms() -> None:
    version = room_version("12")
    pdu, _ = build(version)
    signatures = {
        "example.org": {"ed25519:1": "AA", "ed25519:old": "AA", "rsa:1": "AA"},
        "other.example": {"ed25519:x": "AA"},
    }
    assert set(required_keys({**pdu.json, "signatures": signatures}, version)) == {
        ("example.org", "ed25519:1"),
        ("example.org", "ed25519:old"),
    }


@pytest.mark.parametrize(
    "signatures", [None, [], {}, {"example.org": "x"}, {"example.org": {"rsa:1": "AA"}}], ids=repr
)
def test_without_readable_signatures_no_key_is_claimed(signatures: object) -> None:
    assert signing_key_ids({"signatures": signatures}, "example.org") == []


def test_one_changed_protected_field_breaks_an_events_signature() -> None:
    version = room_version("12")
    pdu, _ = build(version)
    with pytest.raises(BadSignature):
        verify_event_signature({**pdu.json, "depth": 6}, version, "example.org", ALICE_KEY.verify_key)
