"""Credentials for TURN servers. Source: Client-Server API, "Voice over IP".

A TURN server that shares a secret with this node checks them by itself: the user name holds the time at which
they end, and the password is its HMAC ("TURN REST API", as coturn has it).
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from homeserver.clock import Clock, now_ms
from homeserver.config.rooms import VoipConfig
from homeserver.errors import Forbidden
from homeserver.requester import Requester

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TurnServers:
    """The configured TURN servers."""

    config: VoipConfig
    clock: Clock = now_ms

    def credentials(self, requester: Requester) -> JsonObject:
        """`getTurnServer`. Raises Forbidden where there are none: clients ask no further then."""
        secret = self.config.turn_shared_secret
        if secret is None or not self.config.turn_uris:
            raise Forbidden("This server has no TURN servers")
        lifetime_s = self.config.turn_lifetime_ms // 1000
        username = f"{self.clock() // 1000 + lifetime_s}:{requester.user_id}"
        digest = hmac.digest(secret.encode(), username.encode(), "sha1")
        return {
            "username": username,
            "password": b64encode(digest).decode(),
            "uris": list(self.config.turn_uris),
            "ttl": lifetime_s,
        }
