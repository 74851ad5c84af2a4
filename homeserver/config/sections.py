"""Every setting of a node, one frozen class a section of the TOML file, in the modules beside this one.

The string under a field is the comment of that field in the sample (``sample``), so it speaks to the
administrator. Times end in ``_ms``, sizes in ``_bytes``. Relative paths are relative to the file's folder.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from homeserver.config.federation import FederationConfig, PolicyServerConfig
from homeserver.config.node import (
    DatabaseConfig,
    LimitsConfig,
    ListenerConfig,
    LoggingConfig,
    ServerConfig,
    SupportConfig,
)
from homeserver.config.people import (
    AuthConfig,
    PresenceConfig,
    RegistrationConfig,
    ServerNoticesConfig,
    UserDirectoryConfig,
)
from homeserver.config.rates import RateLimitsConfig
from homeserver.config.rooms import LivekitConfig, RoomsConfig, VoipConfig


class Config(Struct, frozen=True, kw_only=True):
    """The whole file."""

    server: ServerConfig
    listeners: Annotated[tuple[ListenerConfig, ...], Meta(min_length=1)] = (
        ListenerConfig(),
        ListenerConfig(port=9008, purposes=("metrics",)),
    )
    support: SupportConfig = SupportConfig()
    database: DatabaseConfig = DatabaseConfig()
    registration: RegistrationConfig = RegistrationConfig()
    auth: AuthConfig = AuthConfig()
    rate_limits: RateLimitsConfig = RateLimitsConfig()
    rooms: RoomsConfig = RoomsConfig()
    presence: PresenceConfig = PresenceConfig()
    voip: VoipConfig = VoipConfig()
    livekit: LivekitConfig = LivekitConfig()
    user_directory: UserDirectoryConfig = UserDirectoryConfig()
    limits: LimitsConfig = LimitsConfig()
    logging: LoggingConfig = LoggingConfig()
    federation: FederationConfig = FederationConfig()
    policy_server: PolicyServerConfig = PolicyServerConfig()
    server_notices: ServerNoticesConfig = ServerNoticesConfig()

    def __post_init__(self) -> None:
        livekit = self.livekit
        if livekit.url is not None and livekit.service_url is None and self.server.public_baseurl is None:
            raise ValueError("[livekit] needs a service_url, or public_baseurl in [server]")
