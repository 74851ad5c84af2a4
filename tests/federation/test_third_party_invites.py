"""Checking that an identity server signed an invite. Source: v12 rule 5.4.1.7."""

from __future__ import annotations

import pytest

from federation.canonical import JsonObject
from federation.encoding import encode_base64
from federation.keys import SigningKey
from federation.signing import sign_json
from federation.third_party_invites import CHECKS_MAX, public_keys_of, verify_token_signature
from tests.federation.samples import ALICE_KEY, BOB_KEY

SIGNED = sign_json({"mxid": "@bob:b.example", "token": "abc"}, "id.example", ALICE_KEY)
KEY = ALICE_KEY.verify_key_base64


def test_any_key_may_match_any_signature() -> None:
    assert verify_token_signature(SIGNED, [KEY])
    assert verify_token_signature(SIGNED, ["not a key", "", BOB_KEY.verify_key_base64, KEY])
    assert verify_token_signature(sign_json(SIGNED, "other.example", BOB_KEY), [BOB_KEY.verify_key_base64])


def test_no_matching_key_or_a_changed_object_is_refused() -> None:
    assert not verify_token_signature(SIGNED, [])
    assert not verify_token_signature(SIGNED, [BOB_KEY.verify_key_base64])
    assert not verify_token_signature({**SIGNED, "mxid": "@alice:b.example"}, [KEY])


@pytest.mark.parametrize(
    "signatures",
    [None, [], "x", {}, {"id.example": []}, {"id.example": {"ed25519:1": 5}}, {"id.example": {"rsa:1": "AA"}},
     {"id.example": {"ed25519:1": "*"}}],
    ids=repr,
)  # fmt: skip
def test_unreadable_signatures_are_refused(signatures: object) -> None:
    assert not verify_token_signature({**SIGNED, "signatures": signatures}, [KEY])


def test_what_has_no_canonical_form_is_refused() -> None:
    assert not verify_token_signature({**SIGNED, "number": 0.5}, [KEY])


def test_a_flood_of_signatures_is_not_worked_through() -> None:
    wrong = BOB_KEY.sign(b"something else")
    flood = {f"ed25519:f{number}": wrong.hex()[:86] for number in range(CHECKS_MAX)}
    signatures = {"id.example": {**flood, **SIGNED["signatures"]["id.example"]}}
    assert not verify_token_signature({**SIGNED, "signatures": signatures}, [KEY])
    del signatures["id.example"]["ed25519:f0"]
    assert verify_token_signature({**SIGNED, "signatures": signatures}, [KEY])


def test_many_keys_times_many_signatures_are_not_worked_through() -> None:
    wrong_keys = [SigningKey.generate().verify_key_base64 for _ in range(9)]
    wrong = {f"ed25519:f{number}": encode_base64(BOB_KEY.sign(b"else")) for number in range(9)}
    signatures = {"id.example": {**wrong, **SIGNED["signatures"]["id.example"]}}
    assert 9 * 10 > CHECKS_MAX > 9 * 6
    assert not verify_token_signature({**SIGNED, "signatures": signatures}, [*wrong_keys, KEY])
    assert verify_token_signature(SIGNED, [*wrong_keys, KEY])


def test_keys_are_read_from_both_places() -> None:
    content: JsonObject = {
        "public_key": "a",
        "public_keys": [{"public_key": "b", "key_validity_url": "x"}, {"public_key": 5}, "c", {}],
    }
    assert public_keys_of(content) == ["a", "b"]
    assert public_keys_of({"public_keys": {"public_key": "b"}}) == []
    assert public_keys_of({"public_key": ["a"]}) == []
