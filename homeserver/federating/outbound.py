"""Making the client for other servers out of the configuration."""

from __future__ import annotations

import ssl
from importlib.metadata import version
from random import Random

from federation.keys import SigningKey
from federation.transport.address_guard import AddressGuard
from federation.transport.client import FederationClient
from federation.transport.connecting import Connections, trust
from federation.transport.discovery import Discovery
from federation.transport.dns import Dns
from homeserver.clock import now_ms
from homeserver.config.federation import FederationConfig
from homeserver.config.load import ConfigError
from homeserver.federating.servers import Servers
from homeserver.metrics import Metrics


def make_client(
    server_name: str, key: SigningKey, config: FederationConfig, servers: Servers, metrics: Metrics
) -> FederationClient:
    """A client that signs as ``server_name``; within a running event loop. Raises ConfigError."""
    try:
        tls = trust(config.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"[federation] ca_file: {config.ca_file} cannot be used: {error}") from error
    dns, random = Dns(), Random()
    connections = Connections(
        dns, AddressGuard(config.allowed_networks), tls, user_agent=f"Veche/{version('veche')}"
    )
    return FederationClient(
        server_name,
        key,
        connections,
        Discovery(connections, dns, config.hosts, now_ms, random),
        permits=servers.may_ask,
        clock=now_ms,
        random=random,
        observe=metrics.count_federation_request,
    )
