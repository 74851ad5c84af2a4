"""Invites of somebody known by an e-mail address or a phone number.

Source: Server-Server API, "Third-party invites"; authorisation rules, v12 rule 5.4.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, product

from federation.canonical import JsonObject, encode_canonical
from federation.encoding import decode_base64
from federation.errors import BadKey, NotCanonical
from federation.keys import VerifyKey

CHECKS_MAX = 64
"""Signatures tried on one invite. Without a bound one event of 64 KiB could cost minutes."""


def public_keys_of(content: JsonObject) -> list[str]:
    """The keys that an ``m.room.third_party_invite`` names, in Base64, as they stand.

    "1. A single public key in the `public_key` property. 2. A list of public keys in the
    `public_keys` property." Entries of another shape are left out.
    """
    entries = [content]
    public_keys = content.get("public_keys")
    if isinstance(public_keys, list):
        entries += [entry for entry in public_keys if isinstance(entry, dict)]
    keys = [entry.get("public_key") for entry in entries]
    return [key for key in keys if isinstance(key, str)]


def verify_token_signature(signed: JsonObject, public_keys: Iterable[str]) -> bool:
    """Whether "any signature in `signed` matches any public key", in Base64, given.

    ``signed`` is ``content.third_party_invite.signed`` of the member event. At most `CHECKS_MAX`
    pairs are tried.
    """
    covered = {key: value for key, value in signed.items() if key not in ("signatures", "unsigned")}
    try:
        message = encode_canonical(covered)
    except NotCanonical:
        return False
    pairs = product(_keys(public_keys), _signatures(signed))
    return any(key.verify(message, signature) for key, signature in islice(pairs, CHECKS_MAX))


def _keys(public_keys: Iterable[str]) -> Iterator[VerifyKey]:
    for text in islice(public_keys, CHECKS_MAX):
        try:
            yield VerifyKey.from_base64("ed25519:0", text)
        except BadKey:
            continue


def _signatures(signed: JsonObject) -> Iterator[bytes]:
    by_signer = signed.get("signatures")
    if not isinstance(by_signer, dict):
        return
    entries = (entry for entry in by_signer.values() if isinstance(entry, dict))
    texts = (
        text
        for entry in entries
        for key_id, text in entry.items()
        if isinstance(text, str) and key_id.startswith("ed25519:")
    )
    for text in islice(texts, CHECKS_MAX):
        try:
            yield decode_base64(text)
        except ValueError:
            continue
