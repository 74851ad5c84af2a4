"""What the node says about itself to whoever asks: versions, well-known files, capabilities.

All of it follows from the configuration, so it is encoded once. Source: Client-Server API, "Server
Discovery" and "Capabilities negotiation"; Server-Server API, "Server discovery".
"""

from __future__ import annotations

from importlib.metadata import version

import orjson

from federation.event import JsonObject
from federation.room_versions import ROOM_VERSIONS
from homeserver.config.node import SupportConfig
from homeserver.config.sections import Config
from homeserver.errors import NotFound
from homeserver.requester import Requester

# r0.6.1 and what came after it, whose endpoints are all served; r0 is answered as v3.
SPECIFICATION_VERSIONS = ("r0.6.1", *(f"v1.{minor}" for minor in range(1, 20)))

LIVEKIT_PATH = "/livekit/jwt"  # below public_baseurl, where clients get tokens for LiveKit
# What clients ask for before it is in the specification.
UNSTABLE_FEATURES = (
    "org.matrix.simplified_msc3575",  # sliding sync
    "org.matrix.msc4140",  # delayed events
    "org.matrix.msc3814",  # dehydrated devices
    "org.matrix.msc4306",  # thread subscriptions
    "org.matrix.msc4308",  # those in sliding sync
)


class Discovery:
    """The answers, as encoded JSON."""

    __slots__ = (
        "versions",
        "federation_version",
        "rtc_transports",
        "_well_known_client",
        "_well_known_server",
        "_well_known_support",
        "_capabilities",
        "_capabilities_of_admins",
    )

    def __init__(self, config: Config) -> None:
        self.versions = orjson.dumps(
            {"versions": SPECIFICATION_VERSIONS, "unstable_features": dict.fromkeys(UNSTABLE_FEATURES, True)}
        )
        self.federation_version = orjson.dumps({"server": {"name": "Veche", "version": version("veche")}})
        server = config.server
        transports = _rtc_transports(config)
        self.rtc_transports = orjson.dumps({"rtc_transports": transports})
        self._well_known_client = _client(server.public_baseurl, transports)
        self._well_known_server = (
            orjson.dumps({"m.server": server.public_federation_address})
            if server.public_federation_address
            else None
        )
        self._well_known_support = _support(config.support)
        capabilities = _capabilities(config.rooms.default_version)
        capabilities["org.matrix.msc4140.delayed_events"] = {
            "max_delay_ms": config.limits.delayed_event_max_ms,
            "max_scheduled": config.limits.delayed_events_per_user,
        }
        self._capabilities = orjson.dumps({"capabilities": capabilities})
        moderation = {"m.account_moderation": {"suspend": True, "lock": True}}
        self._capabilities_of_admins = orjson.dumps({"capabilities": capabilities | moderation})

    def well_known_client(self) -> bytes:
        """Raises NotFound where no public address is configured."""
        return _or_not_found(self._well_known_client)

    def well_known_server(self) -> bytes:
        """Raises NotFound where no public federation address is configured."""
        return _or_not_found(self._well_known_server)

    def well_known_support(self) -> bytes:
        """Raises NotFound where neither contacts nor a page are configured."""
        return _or_not_found(self._well_known_support)

    def capabilities(self, requester: Requester) -> bytes:
        """What a user may do here."""
        return self._capabilities_of_admins if requester.is_admin else self._capabilities


def _or_not_found(body: bytes | None) -> bytes:
    if body is None:
        raise NotFound("This server publishes no such information")
    return body


def _rtc_transports(config: Config) -> list[JsonObject]:
    """Where calls can take place. Source: MSC4143, MSC4195."""
    if config.livekit.url is None:
        return []
    base = (config.server.public_baseurl or "").rstrip("/")
    service_url = config.livekit.service_url or f"{base}{LIVEKIT_PATH}"
    return [{"type": "livekit", "livekit_service_url": service_url.rstrip("/")}]


def _client(public_baseurl: str | None, transports: list[JsonObject]) -> bytes | None:
    if not public_baseurl:
        return None
    body: JsonObject = {"m.homeserver": {"base_url": public_baseurl.rstrip("/")}}
    if transports:  # from before there was an endpoint for them (MSC4143)
        body["org.matrix.msc4143.rtc_foci"] = transports
    return orjson.dumps(body)


def _support(config: SupportConfig) -> bytes | None:
    body: JsonObject = {}
    if config.contacts:
        body["contacts"] = [
            {
                "role": contact.role,
                **({"matrix_id": contact.matrix_id} if contact.matrix_id else {}),
                **({"email_address": contact.email_address} if contact.email_address else {}),
            }
            for contact in config.contacts
        ]
    if config.support_page:
        body["support_page"] = config.support_page
    return orjson.dumps(body) if body else None


def _capabilities(default_room_version: str) -> JsonObject:
    return {
        "m.change_password": {"enabled": True},
        "m.room_versions": {
            "default": default_room_version,
            "available": dict.fromkeys(ROOM_VERSIONS, "stable"),
        },
        "m.profile_fields": {"enabled": True},
        "m.set_displayname": {"enabled": True},
        "m.set_avatar_url": {"enabled": True},
        "m.3pid_changes": {"enabled": False},
        "m.get_login_token": {"enabled": True},
        "m.forget_forced_upon_leave": {"enabled": False},
    }
