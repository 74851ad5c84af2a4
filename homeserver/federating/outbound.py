"""Making the client for other servers out of the configuration."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from importlib.metadata import version
from random import Random

from federation.keys import SigningKey
from federation.transport.address_guard import AddressGuard
from federation.transport.client import FederationClient, Finder
from federation.transport.connecting import Connections, trust
from federation.transport.discovery import ByHttps, Discovery
from federation.transport.dns import Dns
from homeserver.clock import now_ms
from homeserver.config.federation import FederationConfig
from homeserver.config.load import ConfigError
from homeserver.federating.servers import Servers
from homeserver.metrics import Metrics


def make_clients(
    server_name: str, key: SigningKey, config: FederationConfig, servers: Servers, metrics: Metrics
) -> tuple[FederationClient, FederationClient]:
    """A client that signs as ``server_name``, and one for identity servers, on the same connections.

    Within a running event loop. Raises ConfigError.
    """
    try:
        tls = trust(config.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"[federation] ca_file: {config.ca_file} cannot be used: {error}") from error
    dns, random = Dns(), Random()
    connections = Connections(
        dns, AddressGuard(config.allowed_networks), tls, user_agent=f"Veche/{version('veche')}"
    )

    def client(finder: Finder, permits: Callable[[str], bool]) -> FederationClient:
        return FederationClient(
            server_name,
            key,
            connections,
            finder,
            permits=permits,
            clock=now_ms,
            random=random,
            observe=metrics.count_federation_request,
        )

    discovery = Discovery(connections, dns, config.hosts, now_ms, random)
    return client(discovery, servers.may_ask), client(ByHttps(config.hosts), lambda _: True)
