"""The server that a room has chosen to look at events before they count. Pure.

Source: Server-Server API, "Policy Servers"; Client-Server API, "Policy Servers".
"""

from __future__ import annotations

from dataclasses import dataclass

from federation.canonical import JsonObject
from federation.errors import BadIdentifier, BadKey, BadSignature, NotCanonical
from federation.keys import VerifyKey
from federation.room_versions import RoomVersion
from federation.server_names import parse_server_name
from federation.signing import verify_event_signature

POLICY = "m.room.policy"
POLICY_KEY = (POLICY, "")
KEY_ID = "ed25519:policy_server"
"""'The Key ID for the ed25519 key in m.room.policy is *always* ed25519:policy_server.'"""


@dataclass(frozen=True, slots=True)
class PolicyServer:
    """Whom to ask, and the key by which its recommendations are known."""

    server_name: str
    key: VerifyKey


def parse_policy(content: JsonObject) -> PolicyServer | None:
    """What the content of an ``m.room.policy`` event names; None if it is not valid."""
    # "Valid means content contains at least: A string value for via. An object value for public_keys
    # containing at least a string value for ed25519."
    via, keys = content.get("via"), content.get("public_keys")
    text = keys.get("ed25519") if isinstance(keys, dict) else None
    if not isinstance(via, str) or not isinstance(text, str):
        return None
    try:
        parse_server_name(via)
        return PolicyServer(via, VerifyKey.from_base64(KEY_ID, text))
    except (BadIdentifier, BadKey):
        return None


def needs_recommendation(event_type: str, state_key: str | None) -> bool:
    """Whether a policy server has a say in an event of this kind.

    "This endpoint MUST NOT be called for events which have a type of m.room.policy and an empty string
    state_key": so a room can always do without its policy server.
    """
    return (event_type, state_key) != POLICY_KEY


def is_recommended(event: JsonObject, version: RoomVersion, policy: PolicyServer) -> bool:
    """Whether an event that passed `event_format.check_format` has the policy server's valid signature."""
    try:
        verify_event_signature(event, version, policy.server_name, policy.key)
    except (BadSignature, NotCanonical):
        return False
    return True


def with_recommendation(event: JsonObject, answer: JsonObject, policy: PolicyServer) -> JsonObject:
    """Copy an event, with the signature in an answer of ``/sign`` beside those that it has.

    Raises BadSignature if there is none in it; whether it is right is `is_recommended`'s to say.
    """
    entry = answer.get(policy.server_name)
    text = entry.get(KEY_ID) if isinstance(entry, dict) else None
    if not isinstance(text, str):
        raise BadSignature(f"{policy.server_name} did not sign with {KEY_ID}")
    signatures = event.get("signatures")
    known = signatures if isinstance(signatures, dict) else {}
    own = known.get(policy.server_name)  # whatever its origin put there: nobody else has checked it
    signed = {**(own if isinstance(own, dict) else {}), KEY_ID: text}
    return {**event, "signatures": {**known, policy.server_name: signed}}
