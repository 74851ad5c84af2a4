"""What this server lets through where a room has chosen it as its policy server. Pure.

Source: Server-Server API, "Policy Servers": what is checked is left to the server. The same event always gets
the same answer, so nothing has to be remembered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from federation.canonical import JsonObject
from federation.encoding import encode_base64
from federation.hashing import reference_bytes
from federation.keys import SigningKey
from federation.policy_server import KEY_ID, PolicyServer, needs_recommendation
from federation.room_versions import RoomVersion
from homeserver.config.federation import PolicyServerConfig
from homeserver.errors import MatrixError

TEXTS = ("body", "formatted_body", "topic", "name", "displayname", "reason")


class NotRecommended(MatrixError):
    """The policy server refuses to sign an event (room_policy.yaml)."""

    errcode = "M_FORBIDDEN"


class OwnPolicy:
    """The rules of the configuration, and the key that says that an event keeps them."""

    def __init__(self, server_name: str, key: SigningKey, config: PolicyServerConfig) -> None:
        self.server_name = server_name
        self.key = key
        self._mentions_max = config.mentions_max
        self._refused_words = _words_pattern(config.refused_words)

    def sign(self, event: JsonObject, version: RoomVersion) -> JsonObject:
        """The answer of `askPolicyServerToSign` for an event of the right format. Raises NotRecommended."""
        if not needs_recommendation(event["type"], event.get("state_key")):
            raise NotRecommended("Policy servers do not sign m.room.policy")
        self._check(event["content"])
        signature = self.key.sign(reference_bytes(event, version))
        return {self.server_name: {KEY_ID: encode_base64(signature)}}

    def is_chosen(self, policy: PolicyServer) -> bool:
        """Whether this is what a room names, with our key: signatures with it would be worth nothing else."""
        is_ours = policy.server_name == self.server_name
        return is_ours and policy.key.public_bytes == self.key.verify_key.public_bytes

    def public_keys(self) -> JsonObject:
        """The answer of `getWellknownPolicy`, for whoever sets a room's policy server."""
        return {"public_keys": {"ed25519": self.key.verify_key_base64}}

    def _check(self, content: JsonObject) -> None:
        mentions = content.get("m.mentions")
        mentioned = mentions.get("user_ids") if isinstance(mentions, dict) else None
        if isinstance(mentioned, list) and len(mentioned) > self._mentions_max:
            raise NotRecommended(f"A message may mention {self._mentions_max} users at most")
        if self._refused_words is None:
            return
        for text in map(content.get, TEXTS):
            if isinstance(text, str) and self._refused_words.search(text):
                raise NotRecommended("There are words in this that the room's policy server does not allow")


def _words_pattern(words: Sequence[str]) -> re.Pattern[str] | None:
    if not words:
        return None
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)", re.IGNORECASE)
