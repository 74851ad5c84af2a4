"""Unpadded Base64. Source: Appendices, "Unpadded Base64"."""

from __future__ import annotations

import pytest
import unpaddedbase64
from hypothesis import given
from hypothesis import strategies as st

from federation.encoding import decode_base64, encode_base64, encode_base64_url

SPECIFICATION_EXAMPLES = [
    ("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("fooba", "Zm9vYmE"),
    ("foobar", "Zm9vYmFy"),
]  # fmt: skip


@pytest.mark.parametrize(("plain", "encoded"), SPECIFICATION_EXAMPLES)
def test_specification_examples(plain: str, encoded: str) -> None:
    assert encode_base64(plain.encode()) == encoded
    assert decode_base64(encoded) == plain.encode()


@given(st.binary())
def test_equal_to_the_reference_implementation(data: bytes) -> None:
    assert encode_base64(data) == unpaddedbase64.encode_base64(data)
    assert encode_base64_url(data) == unpaddedbase64.encode_base64(data, urlsafe=True)


@given(st.binary())
def test_decoding_accepts_padding_and_both_alphabets(data: bytes) -> None:
    encoded = encode_base64(data)
    assert decode_base64(encoded) == data
    assert decode_base64(encoded + "=" * (-len(encoded) % 4)) == data
    assert decode_base64(encode_base64_url(data)) == data


@pytest.mark.parametrize("text", ["A", "Zm9v Zg", "Zm9v\n", "Zg=x", "=Zg", "Zm9vé", "****", "Z"])
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode_base64(text)
