"""Signing JSON and events, and checking who signed them.

Source: Appendices, "Signing JSON"; Server-Server API, "Signing Events".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from federation.canonical import JsonObject, encode_canonical
from federation.encoding import decode_base64, encode_base64
from federation.errors import BadSignature, MalformedEvent
from federation.hashing import content_hash, reference_bytes
from federation.identifiers import server_name_of
from federation.keys import SigningKey, VerifyKey
from federation.room_versions import RoomVersion

ServerKeys = Mapping[str, Mapping[str, VerifyKey]]
"""Server name to key ID to key: the keys that are known, and that were valid for the event."""


def sign_json(obj: JsonObject, signer: str, key: SigningKey) -> JsonObject:
    """Copy ``obj``, adding our entry under ``signatures[signer]``.

    ``unsigned`` and ``signatures`` are kept but not covered. Raises NotCanonical. Source: Appendices,
    "Signing Details".
    """
    return with_signature(obj, signer, key.key_id, key.sign(_signed_bytes(obj)))


def verify_json(obj: JsonObject, signer: str, verify_key: VerifyKey) -> None:
    """Check one entity's signature by one key. Raises BadSignature, NotCanonical.

    Source: Appendices, "Checking for a Signature".
    """
    signature = signature_of(obj, signer, verify_key.key_id)
    if not verify_key.verify(_signed_bytes(obj), signature):
        raise BadSignature(f"The signature by {signer} with {verify_key.key_id} does not verify")


def sign_event(json: JsonObject, version: RoomVersion, server_name: str, key: SigningKey) -> JsonObject:
    """Copy an event that has its ``hashes``, adding our signature to those of other servers.

    This is also how a second server co-signs an invite or a restricted join.
    """
    return with_signature(json, server_name, key.key_id, key.sign(reference_bytes(json, version)))


def hash_and_sign_event(
    json: JsonObject, version: RoomVersion, server_name: str, key: SigningKey
) -> JsonObject:
    """Copy an event with its content hash and our signature. `building.build_event` does it faster.

    Source: Server-Server API, "Adding hashes and signatures to outgoing events".
    """
    return sign_event({**json, "hashes": {"sha256": content_hash(json)}}, version, server_name, key)


def verify_event_signature(json: JsonObject, version: RoomVersion, server: str, key: VerifyKey) -> None:
    """Check one server's signature on an event, redacted or not. Raises BadSignature, NotCanonical."""
    signature = signature_of(json, server, key.key_id)
    if not key.verify(reference_bytes(json, version), signature):
        raise BadSignature(f"The signature by {server} with {key.key_id} does not verify")


def verify_event(json: JsonObject, version: RoomVersion, keys: ServerKeys) -> None:
    """Check everything that must be signed on a received event. Raises BadSignature, MalformedEvent.

    "If a signature is from an unknown or expired key, it is skipped": leave such keys out of ``keys``.
    Of each required server at least one signature must remain, and all that remain must verify. No
    I/O, no clock: safe in a thread. Source: "Validating hashes and signatures on received events".
    """
    message: bytes | None = None
    for server in required_signers(json, version):
        known = keys.get(server, {})
        key_ids = [key_id for key_id in signing_key_ids(json, server) if key_id in known]
        if not key_ids:
            raise BadSignature(f"No signature by {server} with a known key")
        if message is None:
            message = reference_bytes(json, version)
        for key_id in key_ids:
            if not known[key_id].verify(message, signature_of(json, server, key_id)):
                raise BadSignature(f"The signature by {server} with {key_id} does not verify")


def required_signers(json: JsonObject, version: RoomVersion) -> frozenset[str]:
    """The servers without whose signatures an event is dropped. Raises MalformedEvent.

    ``json`` passed `event_format.check_format`.
    """
    content = json["content"]
    is_member = json["type"] == "m.room.member"
    signers = set()
    # "unless the event is a 3rd party invite, only the signature(s) from the originating server …"
    if not (is_member and content.get("membership") == "invite" and "third_party_invite" in content):
        signers.add(server_name_of(json["sender"]))
    # "Room versions 1 and 2 also require that a signature is present from the domain in the `event_id`"
    if not version.event_id_is_hash:
        signers.add(server_name_of(json["event_id"]))
    # "If content has a join_authorised_via_users_server key: If the event is not validly signed by the
    # homeserver of the user ID denoted by the key, reject." (v8 rule 4.2, for any membership)
    if version.restricted_joins and is_member and "join_authorised_via_users_server" in content:
        authorising_user = content["join_authorised_via_users_server"]
        if not isinstance(authorising_user, str) or ":" not in authorising_user:
            raise MalformedEvent("join_authorised_via_users_server is not a user ID")
        signers.add(authorising_user.partition(":")[2])
    return frozenset(signers)


def signing_key_ids(json: JsonObject, signer: str) -> list[str]:
    """The ed25519 key IDs with which ``signer`` claims to have signed; empty if none.

    "Removes any signing key identifiers from the entry with algorithms it doesn't understand."
    """
    signatures = json.get("signatures")
    entry = signatures.get(signer) if isinstance(signatures, dict) else None
    if not isinstance(entry, dict):
        return []
    return [key_id for key_id in entry if key_id.startswith("ed25519:")]


def signature_of(json: JsonObject, signer: str, key_id: str) -> bytes:
    """One signature's bytes. Raises BadSignature if it is absent or not Base64."""
    signatures = json.get("signatures")
    entry = signatures.get(signer) if isinstance(signatures, dict) else None
    text = entry.get(key_id) if isinstance(entry, dict) else None
    if not isinstance(text, str):
        raise BadSignature(f"No signature by {signer} with {key_id}")
    try:
        return decode_base64(text)
    except ValueError as cause:
        raise BadSignature(f"The signature by {signer} with {key_id} is not Base64") from cause


def with_signature(json: JsonObject, signer: str, key_id: str, signature: bytes) -> JsonObject:
    """Copy a JSON object with one more signature; the original and its parts stay as they are."""
    signatures = json.get("signatures", {})
    entry = {**signatures.get(signer, {}), key_id: encode_base64(signature)}
    return {**json, "signatures": {**signatures, signer: entry}}


def required_keys(json: JsonObject, version: RoomVersion) -> Iterable[tuple[str, str]]:
    """``(server, key ID)`` of every key that `verify_event` could use: what to have fetched first."""
    for server in required_signers(json, version):
        for key_id in signing_key_ids(json, server):
            yield server, key_id


def _signed_bytes(obj: JsonObject) -> bytes:
    covered = {key: value for key, value in obj.items() if key not in ("signatures", "unsigned")}
    return encode_canonical(covered)
