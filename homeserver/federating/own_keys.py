"""This server's published keys. Source: Server-Server API, "Publishing Keys"."""

from __future__ import annotations

from collections.abc import Sequence

from federation.canonical import JsonObject
from federation.keys import SigningKey
from federation.server_keys import OldVerifyKey, ServerKeys, make_server_keys, read_server_keys
from homeserver.clock import Clock, now_ms

LIFETIME_MS = 24 * 3600 * 1000
RENEWED_AFTER_MS = 3600 * 1000
"""The document is signed anew after this long, so that it is always good for most of its lifetime."""


class OwnKeys:
    """The key document, signed when it is asked for and kept for an hour."""

    def __init__(
        self, server_name: str, key: SigningKey, old_keys: Sequence[OldVerifyKey], clock: Clock = now_ms
    ) -> None:
        self.server_name = server_name
        self.key = key
        # A rotation that was interrupted has listed the key that is still in use.
        self._old_keys = [old for old in old_keys if old.key.key_id != key.key_id]
        self._clock = clock
        self._made_ms = 0
        self._keys: ServerKeys | None = None

    def current(self) -> ServerKeys:
        """Our keys as others see them."""
        now = self._clock()
        if self._keys is None or now >= self._made_ms + RENEWED_AFTER_MS:
            document = make_server_keys(self.server_name, [self.key], self._old_keys, now + LIFETIME_MS)
            self._keys, self._made_ms = read_server_keys(document, self.server_name, now), now
        return self._keys

    def document(self) -> JsonObject:
        """`getServerKey`."""
        return self.current().json
