"""Keys as clients upload them: their form and bounds. Pure.

What the keys mean is between clients: the server checks what it relies on itself, and that cross-signing
keys are what they say. Source: Client-Server API, "Key algorithms", definitions/device_keys.yaml,
one_time_keys.yaml, cross_signing_key.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from federation.canonical import JsonObject
from federation.errors import FederationError
from federation.json_depth import has_more_levels
from federation.keys import VerifyKey
from federation.signing import verify_json
from homeserver.errors import BadJson, InvalidParam, InvalidSignature, TooLarge
from homeserver.storage.cross_signing import MASTER
from homeserver.storage.one_time_keys import KeyName

KEY_BYTES_MAX = 64 * 1024  # of one device's identity keys, signatures included, and of a cross-signing key
ONE_TIME_KEY_BYTES_MAX = 4096
KEY_LEVELS_MAX = 100  # of nesting; what comes from other servers was not bounded by its request
UPLOADED_KEYS_MAX = 1000  # in one request
NAME_LENGTH_MAX = 255  # of algorithms and key ids

CHECKED_MEMBERS = frozenset(("key", "signatures"))  # of a one-time key: nothing below them is deep
UNCOVERED = ("signatures", "unsigned")


@dataclass(frozen=True, slots=True)
class CrossSigningKey:
    """A key of the right form: its public half in Base64, as it names itself, and the whole object."""

    public: str
    json: JsonObject

    @property
    def verify_key(self) -> VerifyKey:
        return VerifyKey.from_base64(f"ed25519:{self.public}", self.public)


def encode_key(key: JsonObject | str) -> bytes:
    """A key as it is stored: the same bytes for the same key."""
    return orjson.dumps(key, option=orjson.OPT_SORT_KEYS)


def covered(key: JsonObject) -> JsonObject:
    """A key without what its signatures do not cover."""
    return {name: value for name, value in key.items() if name not in UNCOVERED}


def read_device_keys(value: object, user_id: str, device_id: str) -> JsonObject:
    """A device's identity keys, without ``unsigned``. Raises BadJson, InvalidParam, TooLarge."""
    if not isinstance(value, dict):
        raise BadJson("'device_keys' must be an object")
    for name, expected in (("user_id", user_id), ("device_id", device_id)):
        if value.get(name) != expected:
            raise InvalidParam(f"'device_keys' must carry your own {name}")
    algorithms, keys = value.get("algorithms"), value.get("keys")
    if not isinstance(algorithms, list) or not all(isinstance(one, str) for one in algorithms):
        raise BadJson("'algorithms' must be a list of strings")
    if not isinstance(keys, dict) or not all(isinstance(one, str) for one in keys.values()):
        raise BadJson("'keys' must map key ids to keys")
    check_signatures(value.get("signatures"))
    return _bounded({name: part for name, part in value.items() if name != "unsigned"})


def read_one_time_keys(value: object, field: str) -> dict[KeyName, bytes]:
    """One-time or fallback keys by algorithm and key id, encoded. Raises BadJson, InvalidParam, TooLarge."""
    if not isinstance(value, dict):
        raise BadJson(f"{field!r} must be an object")
    if len(value) > UPLOADED_KEYS_MAX:
        raise TooLarge(f"{UPLOADED_KEYS_MAX} keys at most can be uploaded at once")
    found: dict[KeyName, bytes] = {}
    for name, key in value.items():
        algorithm, colon, key_id = name.partition(":")
        if not colon or not algorithm or not key_id or len(name) > NAME_LENGTH_MAX or "\x00" in name:
            raise InvalidParam(f"{field!r} must have names of the form algorithm:key_id")
        if isinstance(key, dict):
            if not isinstance(key.get("key"), str):
                raise BadJson(f"A key of {field!r} has no 'key'")
            if "signatures" in key:
                check_signatures(key["signatures"])
            if not key.keys() <= CHECKED_MEMBERS:
                _check_levels(key)
        elif not isinstance(key, str):
            raise BadJson(f"{field!r} must hold strings or objects")
        encoded = encode_key(key)
        if len(encoded) > ONE_TIME_KEY_BYTES_MAX:
            raise TooLarge(f"A key of {field!r} may have {ONE_TIME_KEY_BYTES_MAX} bytes at most")
        found[algorithm, key_id] = encoded
    return found


def read_cross_signing_key(value: object, user_id: str, usage: str) -> CrossSigningKey:
    """A cross-signing key, whose signatures are not looked at. Raises BadJson, InvalidParam, TooLarge."""
    if not isinstance(value, dict):
        raise BadJson(f"The {usage} key must be an object")
    if value.get("user_id") != user_id:
        raise InvalidParam(f"The {usage} key must carry the user id of its owner")
    usages = value.get("usage")
    if not isinstance(usages, list) or usage not in usages:
        raise InvalidParam(f"The {usage} key must have {usage!r} in 'usage'")
    keys = value.get("keys")
    if not isinstance(keys, dict) or len(keys) != 1:
        raise InvalidParam(f"The {usage} key must have exactly one entry in 'keys'")
    [(name, public)] = keys.items()
    if not isinstance(public, str) or name != f"ed25519:{public}":
        raise InvalidParam(f"The {usage} key must be named after itself: ed25519:<public key>")
    key = CrossSigningKey(public, {name: part for name, part in value.items() if name != "unsigned"})
    try:
        _ = key.verify_key
    except FederationError as cause:
        raise InvalidParam(f"The {usage} key is no ed25519 key") from cause
    if "signatures" in value or usage != MASTER:
        check_signatures(value.get("signatures"))
    _bounded(key.json)
    return key


def check_signed_by(key: JsonObject, user_id: str, signer: VerifyKey) -> None:
    """Raise InvalidSignature unless a key is signed by another key of the user."""
    try:
        verify_json(key, user_id, signer)
    except FederationError as cause:
        raise InvalidSignature(str(cause)) from cause


def check_signatures(value: object) -> None:
    """Raise BadJson unless a value maps user ids to key ids to signatures."""
    if not isinstance(value, dict) or not all(
        isinstance(made, dict) and all(isinstance(one, str) for one in made.values())
        for made in value.values()
    ):
        raise BadJson("'signatures' must map user ids to key ids to signatures")


def merge_signatures(key: JsonObject, more: Mapping[str, Mapping[str, str]]) -> JsonObject:
    """A key with further signatures."""
    signatures: dict[str, dict[str, str]] = {**key.get("signatures", {})}
    for signer, made in more.items():
        signatures[signer] = {**signatures.get(signer, {}), **made}
    return {**key, "signatures": signatures}


def _check_levels(key: JsonObject | str) -> None:
    if isinstance(key, dict) and has_more_levels(key, KEY_LEVELS_MAX):
        raise BadJson(f"A key is nested in {KEY_LEVELS_MAX} levels at most")


def _bounded(key: JsonObject) -> JsonObject:
    _check_levels(key)
    if len(orjson.dumps(key)) > KEY_BYTES_MAX:
        raise TooLarge(f"A key may have {KEY_BYTES_MAX} bytes at most, with its signatures")
    return key
