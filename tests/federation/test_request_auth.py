"""The X-Matrix header: what is written, what is read, and what a signature proves."""

from __future__ import annotations

import json

import pytest
import signedjson.key
import signedjson.sign
from hypothesis import given

from federation.canonical import JsonObject, encode_canonical, encode_legacy
from federation.errors import BadSignature
from federation.request_auth import (
    HEADER_LENGTH_MAX,
    BadAuthorization,
    WrongDestination,
    authorization_header,
    check_destination,
    parse_authorization,
    verify_request,
)
from tests.federation.samples import ALICE_KEY, BOB_KEY, json_objects

ORIGIN, DESTINATION = "a.example", "b.example:8448"
URI = "/_matrix/federation/v1/query/profile?user_id=%40bob%3Ab.example"
KEYS = {ALICE_KEY.key_id: ALICE_KEY.verify_key}
SIGNATURE = ALICE_KEY.sign(b"anything")


def header(content: JsonObject | None = None, method: str = "PUT") -> str:
    encoded = None if content is None else encode_canonical(content)
    return authorization_header(ALICE_KEY, method, URI, ORIGIN, DESTINATION, encoded)


def verify(text: str, body: bytes | None, **changes: str) -> None:
    sent = {"method": "PUT", "uri": URI, "destination": DESTINATION, **changes}
    verify_request(parse_authorization(text), sent["method"], sent["uri"], sent["destination"], body, KEYS)


@given(json_objects)
def test_a_header_is_what_signedjson_signs_and_it_verifies(content: JsonObject) -> None:
    text = header(content)
    reference = signedjson.key.decode_signing_key_base64("ed25519", "1", ALICE_KEY.seed_base64)
    signed = signedjson.sign.sign_json(
        {"method": "PUT", "uri": URI, "origin": ORIGIN, "destination": DESTINATION, "content": content},
        ORIGIN,
        reference,
    )
    assert f'sig="{signed["signatures"][ORIGIN]["ed25519:1"]}"' in text
    verify(text, encode_canonical(content))


def test_a_header_has_the_form_that_older_servers_read() -> None:
    text = header()
    assert text.startswith(f'X-Matrix origin="{ORIGIN}",destination="{DESTINATION}",key="ed25519:1",sig="')
    credentials = parse_authorization(text)
    assert (credentials.origin, credentials.destination) == (ORIGIN, DESTINATION)


def test_a_body_may_be_sent_in_another_form_than_the_signed_one() -> None:
    content = {"b": 1, "a": "ä"}
    verify(header(content), json.dumps(content, indent=2).encode())


def test_a_body_of_an_old_room_may_hold_floats() -> None:
    content = {"depth": 1.5}
    text = authorization_header(ALICE_KEY, "PUT", URI, ORIGIN, DESTINATION, encode_legacy(content))
    verify(text, b'{ "depth": 1.5 }')


@pytest.mark.parametrize(
    "changes", [{"method": "POST"}, {"uri": URI + "x"}, {"destination": "c.example"}], ids=str
)
def test_what_was_signed_cannot_be_used_for_something_else(changes: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        verify(header({"a": 1}), b'{"a":1}', **changes)


@pytest.mark.parametrize("body", [None, b"{}", b'{"a":2}', b'{"a":1,"b":1}'])
def test_another_body_does_not_verify(body: bytes | None) -> None:
    with pytest.raises(BadSignature):
        verify(header({"a": 1}), body)


def test_a_body_cannot_pose_as_other_fields() -> None:
    # What is spliced is parsed as one JSON value before; one that is none would be refused there.
    verify(header(), None)
    with pytest.raises(BadSignature):
        verify(header(), b'{"content":{}}')


def test_another_key_of_the_same_name_does_not_verify() -> None:
    with pytest.raises(BadSignature, match="does not verify"):
        verify_request(
            parse_authorization(header()), "PUT", URI, DESTINATION, None, {"ed25519:1": BOB_KEY.verify_key}
        )
    with pytest.raises(BadSignature, match="none of the origin's"):
        verify_request(parse_authorization(header()), "PUT", URI, DESTINATION, None, {})


def made(parameters: str, scheme: str = "X-Matrix ") -> str:
    return scheme + parameters


SIG = 'sig="' + "A" * 86 + '"'


@pytest.mark.parametrize(
    "text",
    [
        made(f'origin=a.example,key="ed25519:1",{SIG}'),
        made(f"origin=a.example,key=ed25519:1,{SIG}"),  # colons without quotes
        made(f'{SIG} \t, KEY="ed25519:1" ,\tOrigin="a.example"'),
        made(f'origin="\\a.exam\\ple",key="ed25519:1",{SIG}'),
        made(f'origin="a.example",key="ed25519:1",{SIG},later="\\"quoted\\", and, commas"'),
        made(f'origin="a.example",key="ed25519:1",{SIG}', scheme="x-matrix   "),
    ],
)
def test_all_allowed_forms_are_read(text: str) -> None:
    credentials = parse_authorization(text)
    assert (credentials.origin, credentials.key_id, credentials.destination) == (
        "a.example", "ed25519:1", None
    )  # fmt: skip
    check_destination(credentials, DESTINATION)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "X-Matrix",
        "Bearer abc",
        made(f'key="ed25519:1",{SIG}'),
        made('origin="a.example",key="ed25519:1"'),
        made(f'origin="a.example",origin="b.example",key="ed25519:1",{SIG}'),
        made(f'origin="a.example" key="ed25519:1" {SIG}'),
        made(f'origin="a.example",key="ed25519:1",{SIG},'),
        made(f'origin="a.example",key="ed25519:1",{SIG} x'),
        made(f'origin="a.example,key="ed25519:1",{SIG}'),
        made(f'origin="a example",key="ed25519:1",{SIG}'),
        made(f'origin="a/example",key="ed25519:1",{SIG}'),
        made(f'origin="a.example\n",key="ed25519:1",{SIG}'),
        made(f'origin="a.example",key="rsa:1",{SIG}'),
        made('origin="a.example",key="ed25519:1",sig="*"'),
        made('origin="a.example",key="ed25519:1",sig="ä"'),
        made(f'origin="a.example",key="ed25519:1",{SIG},' + ",".join(f"p{n}=1" for n in range(20))),
        made(f'origin="a.example",key="ed25519:1",{SIG},x="' + "x" * HEADER_LENGTH_MAX + '"'),
    ],
)
def test_all_else_is_refused(text: str) -> None:
    with pytest.raises(BadAuthorization):
        parse_authorization(text)


def test_a_request_for_another_server_is_refused() -> None:
    with pytest.raises(WrongDestination):
        check_destination(parse_authorization(header()), "c.example")
