"""Whether JSON is an event of its room version, before any rule looks at it.

Source: Server-Server API, "Checks performed on receipt of a PDU", check 1; rooms/, "Event format";
Client-Server API, "Size limits".
"""

from __future__ import annotations

from typing import Any

from federation.canonical import JsonObject, encode_canonical, encode_legacy
from federation.errors import BadIdentifier, EventTooLarge, MalformedEvent, MissingHash, NotCanonical
from federation.identifiers import MAX_ID_BYTES, check_event_id, check_user_id, exceeds_bytes, server_name_of
from federation.json_depth import is_nested_deeper
from federation.room_versions import RoomVersion

MAX_EVENT_BYTES = 65536
EVENT_LEVELS_MAX = 200
"""Of nested objects and lists. The specification names no limit, but every parser has one: many stop at 128,
orjson writes 254, and what is made of an event nests it further."""
PREV_EVENTS_MAX = 20
AUTH_EVENTS_MAX = 10

_INT64_MAX = 2**63 - 1
_UNSIGNED_KEPT = frozenset({"age"})
_UNSIGNED_KEPT_OF_MEMBER = frozenset({"age", "invite_room_state", "knock_room_state"})


def check_format(json: JsonObject, version: RoomVersion, *, limit_references: bool = True) -> bytes:
    """Check an event that came from elsewhere, and return its canonical encoding.

    Without ``limit_references`` it may name any number of events: "the response of backfill MUST NOT be
    validated on these specific restrictions" (backfill.yaml). Raises MalformedEvent (EventTooLarge where it
    is only that): the event must be dropped. After it, `event.parse_pdu` and every rule may rely on the
    fields' types. Rules on what the values mean, such as that a create event has no ``prev_events``, belong
    to the authorisation rules.
    """
    if type(json) is not dict:
        raise MalformedEvent("An event is a JSON object")
    encoded = _encode(json, version)
    if len(encoded) > MAX_EVENT_BYTES:
        raise EventTooLarge(f"An event has at most {MAX_EVENT_BYTES} bytes")
    if is_nested_deeper(json, encoded, EVENT_LEVELS_MAX):
        raise MalformedEvent(f"An event is nested in at most {EVENT_LEVELS_MAX} levels")
    event_type = _string(json, "type")
    check_size("type", event_type)
    if "state_key" in json:
        check_size("state_key", _string(json, "state_key"))
    sender = _string(json, "sender")
    check_size("sender", sender)
    try:
        check_user_id(sender)
    except BadIdentifier as cause:
        raise MalformedEvent("sender is not a user ID") from cause
    if type(json.get("content")) is not dict:
        raise MalformedEvent("content must be an object")
    _check_integer("origin_server_ts", json.get("origin_server_ts"), -_INT64_MAX, _INT64_MAX)
    # "Must be less than the maximum value for an integer … the depth must be set to the limit."
    _check_integer("depth", json.get("depth"), 0, version.depth_max)
    _check_ids(json, version, limit_references)
    _check_hashes_and_signatures(json)
    if type(json.get("unsigned", {})) is not dict:
        raise MalformedEvent("unsigned must be an object")
    return encoded


def without_foreign_unsigned(json: JsonObject) -> JsonObject:
    """A received event with only those ``unsigned`` keys that another server may tell us.

    Anyone on the way can write ``unsigned``: a forged ``redacted_because`` or ``prev_content`` must
    not reach a client. The same object where there is nothing to drop.
    """
    unsigned = json.get("unsigned")
    if unsigned is None:
        return json
    kept = _UNSIGNED_KEPT_OF_MEMBER if json.get("type") == "m.room.member" else _UNSIGNED_KEPT
    if not isinstance(unsigned, dict):
        return {key: value for key, value in json.items() if key != "unsigned"}
    if unsigned.keys() <= kept:
        return json
    return {**json, "unsigned": {key: value for key, value in unsigned.items() if key in kept}}


def check_size(name: str, value: str) -> None:
    """Raise EventTooLarge if a field is over 255 bytes. Source: Client-Server API, "Size limits"."""
    if exceeds_bytes(value):
        raise EventTooLarge(f"{name} has at most {MAX_ID_BYTES} bytes")


def check_reference_counts(prev_events_count: int, auth_events_count: int) -> None:
    """Raise MalformedEvent if an event refers to too many others. Source: the PDU schemas."""
    if prev_events_count > PREV_EVENTS_MAX:
        raise MalformedEvent(f"An event has at most {PREV_EVENTS_MAX} prev_events")
    if auth_events_count > AUTH_EVENTS_MAX:
        raise MalformedEvent(f"An event has at most {AUTH_EVENTS_MAX} auth_events")


def _encode(json: JsonObject, version: RoomVersion) -> bytes:
    try:
        return encode_canonical(json) if version.strict_canonical_json else encode_legacy(json)
    except NotCanonical as cause:
        raise MalformedEvent(f"Not canonical JSON: {cause}") from cause


def _check_ids(json: JsonObject, version: RoomVersion, limit_references: bool) -> None:
    if version.room_id_is_create_hash and json["type"] == "m.room.create":
        # "If the event has a room_id, reject." (v12 rule 1.2)
        if "room_id" in json:
            raise MalformedEvent("A create event of this room version has no room_id")
    else:
        room_id = _string(json, "room_id")
        check_size("room_id", room_id)
        if not room_id.startswith("!"):
            raise MalformedEvent("room_id is not a room ID")
    if not version.event_id_is_hash:
        event_id = _string(json, "event_id")
        check_size("event_id", event_id)
        try:
            check_event_id(event_id)
            server_name_of(event_id)
        except BadIdentifier as cause:
            raise MalformedEvent("event_id is not $opaque_id:domain") from cause
    prev_events, auth_events = json.get("prev_events"), json.get("auth_events")
    if type(prev_events) is not list or type(auth_events) is not list:
        raise MalformedEvent("prev_events and auth_events must be lists")
    if limit_references:
        check_reference_counts(len(prev_events), len(auth_events))
    for reference in (*prev_events, *auth_events):
        _check_reference(reference, version)


def _check_reference(reference: Any, version: RoomVersion) -> None:
    if not version.event_id_is_hash:
        # Room versions 1 and 2: [event_id, {"sha256": reference hash}].
        if type(reference) is not list or len(reference) != 2 or type(reference[1]) is not dict:
            raise MalformedEvent("An event reference must be a pair of event ID and hashes")
        reference = reference[0]
    if type(reference) is not str:
        raise MalformedEvent("An event reference must be an event ID")
    try:
        check_event_id(reference)
    except BadIdentifier as cause:
        raise MalformedEvent("An event reference is not an event ID") from cause


def _check_hashes_and_signatures(json: JsonObject) -> None:
    hashes = json.get("hashes")
    if type(hashes) is not dict or type(hashes.get("sha256")) is not str:
        raise MissingHash("hashes must be an object with sha256")
    signatures = json.get("signatures")
    if type(signatures) is not dict:
        raise MalformedEvent("signatures must be an object")
    for entry in signatures.values():
        if type(entry) is not dict or not all(type(signature) is str for signature in entry.values()):
            raise MalformedEvent("signatures must hold one object of strings a server")


def _string(json: JsonObject, name: str) -> str:
    value = json.get(name)
    if type(value) is not str:
        raise MalformedEvent(f"{name} must be a string")
    return value


def _check_integer(name: str, value: object, low: int, high: int) -> None:
    # `type` rather than `isinstance`: true and false are no integers here.
    if type(value) is not int or not low <= value <= high:
        raise MalformedEvent(f"{name} must be an integer from {low} to {high}")
