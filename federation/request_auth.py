"""Who sent a request: the ``X-Matrix`` Authorization header, and the signature that it carries.

Source: Server-Server API, "Request Authentication"; RFC 9110, sections 5.6 and 11.4. Finding the keys is
the caller's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from federation.canonical import encode_checked, encode_legacy
from federation.encoding import decode_base64, encode_base64
from federation.errors import BadSignature, FederationError
from federation.identifiers import is_valid_server_name
from federation.keys import SigningKey, VerifyKey

SCHEME = "X-Matrix"
HEADER_LENGTH_MAX = 2048
"""Two server names, a key ID and a signature have less than 800 characters."""
PARAMETERS_MAX = 16
REENCODED_BYTES_MAX = 1024 * 1024

_SCHEME = re.compile(r"X-Matrix +", re.IGNORECASE)
# "the recipient should allow colons to be included in values without requiring … quotes": RFC 9110's
# token characters and the colon. Brackets and slashes would need quotes by both.
_PARAMETER = re.compile(
    r"(?P<name>[!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*=[ \t]*"
    r"(?:\"(?P<quoted>(?:[^\"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e\x80-\xff])*)\""
    r"|(?P<token>[!#$%&'*+\-.^_`|~0-9A-Za-z:]+))"
)
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_ESCAPED = re.compile(r"\\(.)")


class BadAuthorization(FederationError):
    """An Authorization header that does not say who sends the request."""


class WrongDestination(FederationError):
    """A request that was signed for another server."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one ``X-Matrix`` header says. Nothing in it is proven until `verify_request`."""

    origin: str
    destination: str | None
    """Older servers leave it out of the header; what they sign names it all the same."""
    key_id: str
    signature: bytes


def request_bytes(method: str, uri: str, origin: str, destination: str, content: bytes | None) -> bytes:
    """What a request's signature covers.

    ``uri`` is the target as sent: the encoded path and query. ``content`` is the body as canonical JSON, or
    None where there is none. It is spliced in, so that a large body is not encoded twice; the keys around
    it are in canonical order. Raises NotCanonical for text that has no UTF-8 form.
    """
    rest = encode_checked({"destination": destination, "method": method, "origin": origin, "uri": uri})
    return rest if content is None else b'{"content":' + content + b"," + rest[1:]


def authorization_header(
    key: SigningKey, method: str, uri: str, origin: str, destination: str, content: bytes | None
) -> str:
    """The header's value for a request of ours; see `request_bytes`. About 30 µs."""
    signature = key.sign(request_bytes(method, uri, origin, destination, content))
    # "For compatibility with older servers": one space, lower-case names, no space around commas.
    return (
        f'{SCHEME} origin="{origin}",destination="{destination}",key="{key.key_id}"'
        f',sig="{encode_base64(signature)}"'
    )


def parse_authorization(header: str) -> Credentials:
    """Read the value of an Authorization header. Raises BadAuthorization, saying what is wrong with it.

    Names are case-insensitive and come in any order, values are quoted strings or tokens, unknown
    parameters are ignored. A name given twice is refused: two readers could take two different values.
    """
    found = _parameters(header)
    try:
        origin, key_id, text = found["origin"], found["key"], found["sig"]
    except KeyError as cause:
        raise BadAuthorization(f"The parameter {cause.args[0]} is missing") from cause
    if not is_valid_server_name(origin):
        raise BadAuthorization("The origin is not a server name")
    if not key_id.startswith("ed25519:"):
        raise BadAuthorization("Only ed25519 keys are supported")
    try:
        signature = decode_base64(text)
    except ValueError as cause:
        raise BadAuthorization("The signature is not Base64") from cause
    return Credentials(origin, found.get("destination"), key_id, signature)


def _parameters(header: str) -> dict[str, str]:
    if len(header) > HEADER_LENGTH_MAX:
        raise BadAuthorization(f"The header has more than {HEADER_LENGTH_MAX} characters")
    scheme = _SCHEME.match(header)
    if scheme is None:
        raise BadAuthorization("The scheme must be X-Matrix")
    found: dict[str, str] = {}
    position = scheme.end()
    while True:
        parameter = _PARAMETER.match(header, position)
        if parameter is None or len(found) == PARAMETERS_MAX:
            raise BadAuthorization('The parameters must read: name="value", with commas between them')
        name = parameter["name"].lower()
        if name in found:
            raise BadAuthorization("A parameter is given twice")
        quoted = parameter["quoted"]
        found[name] = parameter["token"] if quoted is None else _ESCAPED.sub(r"\1", quoted)
        position = parameter.end()
        if not header[position:].strip(" \t"):
            return found
        comma = _COMMA.match(header, position)
        if comma is None:
            raise BadAuthorization('The parameters must read: name="value", with commas between them')
        position = comma.end()


def check_destination(credentials: Credentials, server_name: str) -> None:
    """Raise WrongDestination if the request names another server than ours."""
    if credentials.destination is not None and credentials.destination != server_name:
        raise WrongDestination("The request was signed for another server")


def verify_request(
    credentials: Credentials,
    method: str,
    uri: str,
    destination: str,
    body: bytes | None,
    keys: Mapping[str, VerifyKey],
) -> None:
    """Check a received request by the origin's current keys. Raises BadSignature.

    ``body`` is JSON as received, or None where there is none: parsed by the caller before, unless it is
    larger than `REENCODED_BYTES_MAX`. ``destination`` is our name. Most servers send canonical JSON, so that
    the bytes received are the bytes signed; only where they are not is the body decoded and encoded again,
    up to that size: who has not proven anything yet cannot have us work for long. About 60 µs.
    """
    key = keys.get(credentials.key_id)
    if key is None:
        raise BadSignature(f"The key {credentials.key_id} is none of the origin's current keys")
    as_sent = request_bytes(method, uri, credentials.origin, destination, body)
    if key.verify(as_sent, credentials.signature):
        return
    if body is not None and len(body) <= REENCODED_BYTES_MAX:
        # Events of old rooms may hold floats: `encode_legacy` writes them as other servers do.
        canonical = encode_legacy(orjson.loads(body))
        if canonical != body and key.verify(
            request_bytes(method, uri, credentials.origin, destination, canonical), credentials.signature
        ):
            return
    raise BadSignature("The request's signature does not verify")
