"""Servers' published keys: making and reading the document, and which key counts for what, and when.

Source: Server-Server API, "Retrieving server keys" and "Validating hashes and signatures on received
events"; rooms/v5, "Signing key validity period". Fetching and storing the document is the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from federation.canonical import JsonObject, encode_canonical
from federation.errors import BadKey, BadSignature
from federation.keys import SigningKey, VerifyKey
from federation.room_versions import RoomVersion
from federation.signing import sign_json, signing_key_ids, verify_json

VALIDITY_MAX_MS = 7 * 24 * 3600 * 1000
"""How far ahead a published key may be trusted. Source: rooms/v5."""
KEYS_MAX = 64
"""Keys of each kind that a document may list; real servers list a handful."""
DOCUMENTS_MAX = 8  # earlier ones that are kept, of one server
DOCUMENT_BYTES_MAX = 4096  # of each of them


@dataclass(frozen=True, slots=True)
class OldVerifyKey:
    """A key that its server stopped using at ``expired_ms``; events from before stay valid."""

    key: VerifyKey
    expired_ms: int
    document: JsonObject | None = None
    """The last one that listed it as current, where its server dropped it without a word: for a notary."""


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """One server's keys, as it published them itself."""

    server_name: str
    verify_keys: Mapping[str, VerifyKey]
    old_verify_keys: Mapping[str, OldVerifyKey]
    valid_until_ms: int
    """When to fetch again, never more than `VALIDITY_MAX_MS` after the fetch."""
    json: JsonObject
    """The signed document, which a notary passes on."""

    def for_requests(self, now_ms: int) -> Mapping[str, VerifyKey]:
        """The keys that may sign requests and other JSON now; none once the document is out of date."""
        return self.verify_keys if now_ms <= self.valid_until_ms else {}

    def for_event(self, version: RoomVersion, origin_server_ts: int) -> Mapping[str, VerifyKey]:
        """The keys that may have signed an event: one server's part of `signing.ServerKeys`."""
        # "any keys that are known to have expired prior to the event's origin_server_ts are ignored"
        keys = {
            key_id: old.key
            for key_id, old in self.old_verify_keys.items()
            if old.expired_ms >= origin_server_ts
        }
        # "servers MUST enforce the valid_until_ts property … is at least as large as the
        # origin_server_ts for the event being validated" (v5); before, it "MUST be ignored".
        if self.valid_until_ms >= origin_server_ts or not version.enforce_key_validity:
            keys.update(self.verify_keys)
        return keys


def make_server_keys(
    server_name: str,
    keys: Sequence[SigningKey],
    old_verify_keys: Sequence[OldVerifyKey],
    valid_until_ms: int,
) -> JsonObject:
    """Our answer to `getServerKey`, signed by each current key."""
    document: JsonObject = {
        "server_name": server_name,
        "verify_keys": {key.key_id: {"key": key.verify_key_base64} for key in keys},
        "old_verify_keys": {
            old.key.key_id: {"key": old.key.base64, "expired_ts": old.expired_ms} for old in old_verify_keys
        },
        "valid_until_ts": valid_until_ms,
    }
    for key in keys:
        document = sign_json(document, server_name, key)
    return document


def read_server_keys(json: JsonObject, server_name: str, fetched_ms: int) -> ServerKeys:
    """Read and check a document that should be ``server_name``'s, fetched at ``fetched_ms``.

    Keys of other algorithms are left out. The document must be signed by one of its own current keys,
    and every such signature must verify: that proves possession, the connection's certificate or a
    notary's signature proves the name. Raises BadKey, BadSignature, NotCanonical.
    """
    if json.get("server_name") != server_name:
        raise BadKey("The key document names another server")
    valid_until_ts = json.get("valid_until_ts")
    if type(valid_until_ts) is not int:
        raise BadKey("valid_until_ts must be an integer")
    verify_keys = {
        key_id: VerifyKey.from_base64(key_id, text)
        for key_id, text, _ in _listed_keys(json.get("verify_keys"), "verify_keys")
    }
    signing = [key_id for key_id in signing_key_ids(json, server_name) if key_id in verify_keys]
    if not signing:
        raise BadSignature("The key document is not signed by a key that it lists")
    for key_id in signing:
        verify_json(json, server_name, verify_keys[key_id])
    return ServerKeys(
        server_name=server_name,
        verify_keys=verify_keys,
        old_verify_keys=_old_keys(json),
        # "Servers MUST use the lesser of this field and 7 days into the future"
        valid_until_ms=min(valid_until_ts, fetched_ms + VALIDITY_MAX_MS),
        json=json,
    )


def with_retired(keys: ServerKeys, retired: JsonObject) -> ServerKeys:
    """Add keys that the document no longer lists, in the form of `retired_keys`. Raises BadKey."""
    earlier = {
        key_id: replace(old, document=retired[key_id].get("document"))
        for key_id, old in _old_keys({"old_verify_keys": retired}).items()
    }
    unlisted = {key_id: old for key_id, old in earlier.items() if key_id not in keys.verify_keys}
    return replace(keys, old_verify_keys={**unlisted, **keys.old_verify_keys})


def retired_keys(keys: ServerKeys) -> JsonObject:
    """The keys that `with_retired` added, in the form of ``old_verify_keys``, some with their document."""
    listed = keys.json.get("old_verify_keys", {})
    retired: JsonObject = {}
    for key_id, old in keys.old_verify_keys.items():
        if key_id not in listed:
            retired[key_id] = {"key": old.key.base64, "expired_ts": old.expired_ms}
            if old.document is not None:
                retired[key_id]["document"] = old.document
    return retired


def succeed(newer: ServerKeys, older: ServerKeys) -> ServerKeys:
    """``newer`` with what only ``older`` lists, so that what was signed before can still be checked.

    A key that its server dropped without a word counts until the document that listed it ran out. At most
    `KEYS_MAX` such keys are kept, those that ran out last, and the documents of the first `DOCUMENTS_MAX`.
    """
    document = older.json if len(encode_canonical(older.json)) <= DOCUMENT_BYTES_MAX else None
    dropped = {
        **older.old_verify_keys,
        **{
            key_id: OldVerifyKey(key, older.valid_until_ms, document)
            for key_id, key in older.verify_keys.items()
        },
    }
    unlisted = [
        (key_id, old)
        for key_id, old in dropped.items()
        if key_id not in newer.verify_keys and key_id not in newer.old_verify_keys
    ]
    unlisted.sort(key=lambda item: item[1].expired_ms, reverse=True)
    kept = dict(unlisted[:KEYS_MAX])
    for key_id, old in unlisted[DOCUMENTS_MAX:KEYS_MAX]:
        kept[key_id] = replace(old, document=None)
    return replace(newer, old_verify_keys={**kept, **newer.old_verify_keys})


def _old_keys(json: JsonObject) -> dict[str, OldVerifyKey]:
    keys = {}
    for key_id, text, entry in _listed_keys(json.get("old_verify_keys", {}), "old_verify_keys"):
        expired_ts = entry.get("expired_ts")
        if type(expired_ts) is not int:
            raise BadKey("expired_ts must be an integer")
        keys[key_id] = OldVerifyKey(VerifyKey.from_base64(key_id, text), expired_ts)
    return keys


def _listed_keys(listed: object, name: str) -> list[tuple[str, str, JsonObject]]:
    """``(key ID, Base64, entry)`` of the ed25519 keys among those listed."""
    if not isinstance(listed, dict) or len(listed) > KEYS_MAX:
        raise BadKey(f"{name} must be an object of at most {KEYS_MAX} keys")
    keys = []
    for key_id, entry in listed.items():
        if not key_id.startswith("ed25519:"):
            continue
        text = entry.get("key") if isinstance(entry, dict) else None
        if not isinstance(text, str):
            raise BadKey(f"{name} must hold an object with a key for each key ID")
        keys.append((key_id, text, entry))
    return keys
