"""Making and signing an event: the hot path of every local send.

Source: Server-Server API, "Adding hashes and signatures to outgoing events".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import orjson

from federation.canonical import INTEGER_MAX, JsonObject, check_canonical, encode_canonical, encode_checked
from federation.encoding import encode_base64, encode_base64_url
from federation.errors import EventTooLarge, MalformedEvent
from federation.event import PDU, redacted_event_id
from federation.event_format import MAX_EVENT_BYTES, check_reference_counts, check_size
from federation.hashing import event_id_of_digest
from federation.keys import SigningKey
from federation.redaction import redact_content
from federation.room_versions import RoomVersion

_OPAQUE_ID_BYTES = 18  # 24 characters of Base64


def build_event(
    *,
    version: RoomVersion,
    room_id: str | None,
    type: str,
    state_key: str | None,
    sender: str,
    content: JsonObject,
    prev_events: Sequence[str],
    auth_events: Sequence[str],
    depth: int,
    origin_server_ts: int,
    redacts: str | None = None,
    server_name: str,
    key: SigningKey,
    unsigned: JsonObject | None = None,
    reference_hashes: Mapping[str, str] | None = None,
    with_origin: bool = False,
) -> tuple[PDU, bytes]:
    """A signed event, and its canonical JSON with hashes and signatures: what is stored and sent.

    ``room_id`` is ``None`` for the create event of a room whose ID will be its hash, and only there.
    ``redacts`` goes where the room version wants it. ``reference_hashes`` (event ID to unpadded Base64)
    is read in room versions 1 and 2 only, whose references carry hashes: `hashing.reference_hash` of
    each event named. ``with_origin`` names our server in the event too, as the endpoints for joins, knocks,
    leaves and invites still want it. ``content`` is kept in the event, not copied: hand it over for good.

    Raises NotCanonical if ``content`` or ``unsigned`` is not canonical in *any* room version,
    EventTooLarge, and MalformedEvent for other breaches of the event format.
    """
    _check_arguments(version, room_id, type, state_key, sender, depth, origin_server_ts, redacts)
    check_reference_counts(len(prev_events), len(auth_events))
    if redacts is not None and version.redacts_in_content:
        content = {**content, "redacts": redacts}
    # Content may be large, so it is walked and encoded once, and spliced in from then on.
    encoded_content = encode_canonical(content)
    if unsigned is not None:
        check_canonical(unsigned)

    event: JsonObject = {
        "auth_events": _references(auth_events, version, reference_hashes),
        "content": orjson.Fragment(encoded_content),
        "depth": depth,
        "origin_server_ts": origin_server_ts,
        "prev_events": _references(prev_events, version, reference_hashes),
        "sender": sender,
        "type": type,
    }
    if room_id is not None:
        event["room_id"] = room_id
    if state_key is not None:
        event["state_key"] = state_key
    if redacts is not None and not version.redacts_in_content:
        event["redacts"] = redacts
    if with_origin:
        event["origin"] = server_name
    if not version.event_id_is_hash:
        event["event_id"] = _opaque_event_id(event, server_name)

    event["hashes"] = {"sha256": encode_base64(sha256(encode_checked(event)).digest())}
    signed_bytes = _reference_bytes(event, content, encoded_content, version)
    # From room version 3 on, the signature covers just what the ID is a hash of: one encoding for both.
    event_id: str = event.get("event_id") or event_id_of_digest(sha256(signed_bytes).digest(), version)
    event["signatures"] = {server_name: {key.key_id: encode_base64(key.sign(signed_bytes))}}
    if unsigned is not None:
        event["unsigned"] = unsigned
    encoded = encode_checked(event)
    if len(encoded) > MAX_EVENT_BYTES:
        raise EventTooLarge(f"An event has at most {MAX_EVENT_BYTES} bytes")

    event["content"] = content
    pdu = PDU(
        version=version,
        event_id=event_id,
        room_id="!" + event_id[1:] if room_id is None else room_id,
        type=type,
        state_key=state_key,
        sender=sender,
        content=content,
        origin_server_ts=origin_server_ts,
        depth=depth,
        prev_events=tuple(prev_events),
        auth_events=tuple(auth_events),
        redacts=redacted_event_id(event, version) if type == "m.room.redaction" else None,
        json=event,
    )
    return pdu, encoded


def _check_arguments(
    version: RoomVersion,
    room_id: str | None,
    event_type: str,
    state_key: str | None,
    sender: str,
    depth: int,
    origin_server_ts: int,
    redacts: str | None,
) -> None:
    check_size("type", event_type)
    check_size("sender", sender)
    if state_key is not None:
        check_size("state_key", state_key)
    if room_id is not None:
        check_size("room_id", room_id)
    if (room_id is None) != (version.room_id_is_create_hash and event_type == "m.room.create"):
        raise MalformedEvent("Every event has a room_id, but the create event of a room named by its hash")
    if redacts is not None and event_type != "m.room.redaction":
        raise MalformedEvent("Only an m.room.redaction redacts")
    if not 0 <= depth <= INTEGER_MAX or not 0 <= origin_server_ts <= INTEGER_MAX:
        raise MalformedEvent(f"depth and origin_server_ts are integers from 0 to {INTEGER_MAX}")


def _references(
    event_ids: Sequence[str], version: RoomVersion, reference_hashes: Mapping[str, str] | None
) -> list[Any]:
    if version.event_id_is_hash:
        return list(event_ids)
    try:
        return [[event_id, {"sha256": (reference_hashes or {})[event_id]}] for event_id in event_ids]
    except KeyError as cause:
        raise MalformedEvent("This room version's references need their events' hashes") from cause


def _reference_bytes(
    event: JsonObject, content: JsonObject, encoded_content: bytes, version: RoomVersion
) -> bytes:
    """`hashing.reference_bytes` of an event without signatures, knowing the fields that it can have."""
    redacted_content = redact_content(event["type"], content, version)
    if redacted_content.keys() == content.keys() and "third_party_invite" not in content:
        kept = encoded_content
    else:
        kept = encode_checked(redacted_content)
    redacted = {**event, "content": orjson.Fragment(kept)}
    # The only top-level fields of ours that not every room version keeps.
    redacted.pop("redacts", None)
    if "origin" not in version.redaction.top_level:
        redacted.pop("origin", None)
    return encode_checked(redacted)


def _opaque_event_id(event: JsonObject, server_name: str) -> str:
    # "a locally-unique string": taken from the event's own bytes, which hold its place in the graph,
    # so that building stays free of randomness.
    digest = sha256(encode_checked(event)).digest()
    return f"${encode_base64_url(digest[:_OPAQUE_ID_BYTES])}:{server_name}"
