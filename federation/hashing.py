"""Content hashes, reference hashes and the IDs made of them.

Source: Server-Server API, "Calculating the content hash for an event" and "Calculating the
reference hash for an event"; rooms/v1, v3, v4 and v12.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

from federation.canonical import JsonObject, encode_canonical, encode_legacy
from federation.encoding import decode_base64, encode_base64, encode_base64_url
from federation.errors import MalformedEvent
from federation.redaction import redact
from federation.room_versions import EventIdFormat, RoomVersion

_NOT_HASHED = frozenset({"unsigned", "signatures", "hashes"})


def content_hash(json: JsonObject) -> str:
    """SHA-256 over the whole event but ``unsigned``, ``signatures`` and ``hashes``; unpadded Base64."""
    return encode_base64(_content_digest(json))


def check_content_hash(json: JsonObject) -> bool:
    """Whether ``hashes.sha256`` is the event's content hash.

    If not, the event is to be redacted before anything else is done with it. Source: Server-Server
    API, "Validating hashes and signatures on received events".
    """
    hashes = json.get("hashes")
    claimed = hashes.get("sha256") if isinstance(hashes, dict) else None
    if not isinstance(claimed, str):
        return False
    try:
        # "The content hash … of the received event is base64-decoded, and the two are compared"
        digest = decode_base64(claimed)
    except ValueError:
        return False
    return hmac.compare_digest(digest, _content_digest(json))


def reference_bytes(json: JsonObject, version: RoomVersion) -> bytes:
    """What the reference hash is taken of, and what servers sign: the redacted event without
    ``signatures`` and ``unsigned``, encoded. Raises NotCanonical.
    """
    redacted = redact(json, version)
    redacted.pop("signatures", None)
    redacted.pop("unsigned", None)
    return encode_canonical(redacted) if version.strict_canonical_json else encode_legacy(redacted)


def reference_digest(json: JsonObject, version: RoomVersion) -> bytes:
    """The 32 bytes of the reference hash."""
    return sha256(reference_bytes(json, version)).digest()


def reference_hash(json: JsonObject, version: RoomVersion) -> str:
    """The reference hash in standard unpadded Base64, as references of room versions 1 and 2 hold it."""
    return encode_base64(reference_digest(json, version))


def event_id_of(json: JsonObject, version: RoomVersion) -> str:
    """The event's ID: carried in it until room version 2, hashed from it later.

    Raises MalformedEvent if it should be carried and is not.
    """
    if version.event_id_format is EventIdFormat.CHOSEN_BY_SERVER:
        event_id = json.get("event_id")
        if not isinstance(event_id, str):
            raise MalformedEvent("event_id is missing")
        return event_id
    return event_id_of_digest(reference_digest(json, version), version)


def event_id_of_digest(digest: bytes, version: RoomVersion) -> str:
    """The ID that a reference hash gives from room version 3 on."""
    if version.event_id_format is EventIdFormat.REFERENCE_HASH:
        return "$" + encode_base64(digest)
    return "$" + encode_base64_url(digest)


def room_id_of_create(json: JsonObject, version: RoomVersion) -> str:
    """The ID of the room that this ``m.room.create`` event starts. Source: rooms/v12, rule 1.2.

    Raises MalformedEvent if the event should carry it and does not.
    """
    if version.room_id_is_create_hash:
        return "!" + event_id_of(json, version)[1:]
    room_id = json.get("room_id")
    if not isinstance(room_id, str):
        raise MalformedEvent("room_id is missing")
    return room_id


def _content_digest(json: JsonObject) -> bytes:
    # Legacy encoding equals canonical wherever that exists; the event format is checked elsewhere.
    return sha256(encode_legacy({k: v for k, v in json.items() if k not in _NOT_HASHED})).digest()
