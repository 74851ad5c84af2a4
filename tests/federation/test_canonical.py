"""Canonical JSON: the specification's examples, and equality with the reference implementation."""

from __future__ import annotations

import enum
import json
import uuid
from typing import Any

import canonicaljson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.canonical import (
    DEPTH_MAX,
    INTEGER_MAX,
    check_canonical,
    encode_canonical,
    encode_legacy,
)
from federation.errors import NotCanonical
from tests.federation.samples import json_values

# Appendices, "Canonical JSON", "Examples".
SPECIFICATION_EXAMPLES = [
    ("{}", "{}"),
    ('{"one": 1, "two": "Two"}', '{"one":1,"two":"Two"}'),
    ('{"b": "2", "a": "1"}', '{"a":"1","b":"2"}'),
    ('{"b":"2","a":"1"}', '{"a":"1","b":"2"}'),
    (
        """{"auth": {"success": true, "mxid": "@john.doe:example.com", "profile": {
            "display_name": "John Doe", "three_pids": [
                {"medium": "email", "address": "john.doe@example.org"},
                {"medium": "msisdn", "address": "123456789"}]}}}""",
        '{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":'
        '[{"address":"john.doe@example.org","medium":"email"},'
        '{"address":"123456789","medium":"msisdn"}]},"success":true}}',
    ),
    ('{"a": "日本語"}', '{"a":"日本語"}'),
    ('{"本": 2, "日": 1}', '{"日":1,"本":2}'),
    ('{"a": "\\u65E5"}', '{"a":"日"}'),
    ('{"a": null}', '{"a":null}'),
    ('{"a": -0}', '{"a":0}'),
]


@pytest.mark.parametrize(("given_json", "expected"), SPECIFICATION_EXAMPLES)
def test_specification_examples(given_json: str, expected: str) -> None:
    value = json.loads(given_json)
    assert encode_canonical(value) == expected.encode()
    assert encode_legacy(value) == expected.encode()


def test_an_exponent_is_a_float_to_the_parser_and_is_refused() -> None:
    # The specification's last example holds 1e10; its canonical form is that of the integer.
    with pytest.raises(NotCanonical):
        encode_canonical(json.loads('{"a": -0, "b": 1e10}'))
    assert encode_canonical({"a": 0, "b": 10_000_000_000}) == b'{"a":0,"b":10000000000}'


@given(json_values)
def test_bytes_equal_the_reference_implementation(value: Any) -> None:
    expected = canonicaljson.encode_canonical_json(value)
    assert encode_canonical(value) == expected
    assert encode_legacy(value) == expected


@given(st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0x2030)))
def test_every_character_is_escaped_as_the_reference_does(text: str) -> None:
    assert encode_canonical({text: text}) == canonicaljson.encode_canonical_json({text: text})


def test_control_characters_follow_the_grammar() -> None:
    text = "".join(map(chr, range(0x20))) + '"\\\x7f'
    expected = (
        r'"\u0000\u0001\u0002\u0003\u0004\u0005\u0006\u0007\b\t\n\u000b\f\r\u000e\u000f'
        r"\u0010\u0011\u0012\u0013\u0014\u0015\u0016\u0017\u0018\u0019\u001a\u001b\u001c\u001d\u001e\u001f"
        '\\"\\\\\x7f"'
    )
    assert encode_canonical(text) == expected.encode()


def test_keys_are_sorted_by_code_point_beyond_the_basic_plane() -> None:
    # UTF-16 would put U+1F600 (a surrogate pair from 0xD83D) before U+FF01.
    assert encode_canonical({"\U0001f600": 1, "！": 2}) == '{"！":2,"\U0001f600":1}'.encode()


@given(st.floats(), json_values)
def test_floats_are_refused_wherever_they_stand(number: float, beside: Any) -> None:
    with pytest.raises(NotCanonical):
        encode_canonical({"a": [beside, {"b": number}]})


@pytest.mark.parametrize("number", [INTEGER_MAX, -INTEGER_MAX])
def test_the_widest_integers_pass(number: int) -> None:
    assert encode_canonical([number]) == f"[{number}]".encode()


@pytest.mark.parametrize("number", [INTEGER_MAX + 1, -INTEGER_MAX - 1, 2**63, 2**64, -(2**70)])
def test_wider_integers_pass_only_in_old_rooms(number: int) -> None:
    with pytest.raises(NotCanonical):
        encode_canonical({"n": number})
    assert encode_legacy({"n": number}) == b'{"n":%d}' % number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_old_rooms_write_floats_as_the_reference_does(number: float) -> None:
    assert encode_legacy({"n": number}) == canonicaljson.encode_canonical_json({"n": number})


class Colour(enum.Enum):
    RED = "red"


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), -float("inf"), "\ud800", {"\udfff": 1}, {1: 2}, {None: 2}, b"x", {1, 2},
     Colour.RED, uuid.UUID(int=0), ..., Text("x")],
    ids=repr,
)  # fmt: skip
def test_what_is_not_json_is_refused(value: Any) -> None:
    with pytest.raises(NotCanonical):
        encode_canonical([value])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {1: 2}, b"x", ...], ids=repr)
def test_what_is_not_json_is_refused_in_old_rooms_too(value: Any) -> None:
    with pytest.raises(NotCanonical):
        encode_legacy([value, 0.5])


def nested(levels: int) -> Any:
    value: Any = "x"
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize("levels", [1, 253, 254, 255, 300, DEPTH_MAX])
def test_nesting_is_encoded_as_the_reference_does(levels: int) -> None:
    assert encode_canonical(nested(levels)) == canonicaljson.encode_canonical_json(nested(levels))


@pytest.mark.parametrize("levels", [DEPTH_MAX + 1, 5_000, 30_000])
def test_hostile_nesting_is_refused_without_exhausting_the_stack(levels: int) -> None:
    check_canonical(nested(levels))
    for encode in (encode_canonical, encode_legacy):
        with pytest.raises(NotCanonical):
            encode(nested(levels))
