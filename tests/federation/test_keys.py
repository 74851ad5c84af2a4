"""Signing keys and verify keys."""

from __future__ import annotations

import pytest
import signedjson.key
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import BadKey
from federation.keys import SigningKey, VerifyKey
from tests.federation.samples import ALICE_KEY, BOB_KEY


def test_a_key_file_line_is_read_as_other_servers_read_it() -> None:
    key = SigningKey.generate("a_test")
    [reference] = signedjson.key.read_signing_keys([key.to_line()])
    assert (f"{reference.alg}:{reference.version}", reference.encode()) == (key.key_id, key._seed)
    public = signedjson.key.get_verify_key(reference)
    assert signedjson.key.encode_verify_key_base64(public) == key.verify_key_base64
    assert SigningKey.from_line(key.to_line()) == key


def test_generated_keys_never_share_an_id() -> None:
    assert len({SigningKey.generate().key_id for _ in range(20)}) == 20


@pytest.mark.parametrize(
    "line",
    ["", "ed25519 1", "ed25519 1 AAAA", "ed25519 1 ****", "rsa 1 " + "A" * 43, "ed25519 a:b " + "A" * 43,
     "ed25519 1 " + "A" * 43 + " x"],
)  # fmt: skip
def test_a_line_that_is_no_key_is_refused(line: str) -> None:
    with pytest.raises(BadKey):
        SigningKey.from_line(line)


@pytest.mark.parametrize(
    ("key_id", "text"),
    [("ed25519:1", "AAAA"), ("ed25519:1", "é"), ("curve25519:1", "A" * 43), ("1", "A" * 43)],
)
def test_a_verify_key_that_cannot_be_used_is_refused(key_id: str, text: str) -> None:
    with pytest.raises(BadKey):
        VerifyKey.from_base64(key_id, text)


@given(st.binary(max_size=100), st.integers(0, 63))
def test_a_signature_verifies_only_for_its_message_and_key(message: bytes, position: int) -> None:
    signature = ALICE_KEY.sign(message)
    assert ALICE_KEY.verify_key.verify(message, signature)
    assert not ALICE_KEY.verify_key.verify(message + b"x", signature)
    assert not BOB_KEY.verify_key.verify(message, signature)
    broken = bytearray(signature)
    broken[position] ^= 1
    assert not ALICE_KEY.verify_key.verify(message, bytes(broken))


@pytest.mark.parametrize("length", [0, 63, 65, 128])
def test_a_signature_of_another_length_does_not_verify(length: int) -> None:
    # A longer one must not push its tail into the message.
    signature = (ALICE_KEY.sign(b"xmessage") + b"x" * 64)[:length]
    assert not ALICE_KEY.verify_key.verify(b"message", signature)


def test_the_secret_is_not_in_the_representation() -> None:
    assert ALICE_KEY.seed_base64 not in repr(ALICE_KEY)
    assert repr(ALICE_KEY._seed) not in repr(ALICE_KEY)
    assert repr(ALICE_KEY._secret) not in repr(ALICE_KEY)
