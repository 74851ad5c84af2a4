"""Who the node is, where it listens and keeps its data, how much of the machine it takes. See sections.py."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from msgspec import Meta, Struct

from homeserver.config.values import MIB, Bytes, Count, Milliseconds, check_url

Purpose = Literal["client", "federation", "metrics"]
LogLevel = Literal["debug", "info", "warning", "error"]


class ServerConfig(Struct, frozen=True, kw_only=True):
    """Who this node is."""

    server_name: Annotated[str, Meta(min_length=1, max_length=230, examples=["example.com"])]
    """The domain in the names of users and rooms: @alice:example.com. It can never be changed."""

    data_dir: str = "data"
    """The folder for everything the node keeps: the embedded database, media, caches."""

    signing_key_file: str = "signing.key"
    """The key that signs this server's events. Keep a copy in a safe place: it is the server's identity."""

    old_keys_file: str = "old.keys"
    """The public halves of keys that signed events before: `veche keys rotate` adds to it. Not secret."""

    public_baseurl: Annotated[str | None, Meta(examples=["https://matrix.example.com"])] = None
    """Where clients reach this node from outside, told to them by /.well-known/matrix/client."""

    public_federation_address: Annotated[str | None, Meta(examples=["matrix.example.com:443"])] = None
    """Where other servers reach this node, told to them by /.well-known/matrix/server."""

    def __post_init__(self) -> None:
        if self.public_baseurl is not None:
            check_url("public_baseurl", self.public_baseurl, ("https", "http"))


class SupportContact(Struct, frozen=True, kw_only=True):
    """Someone to ask about this server."""

    role: Annotated[
        Literal["m.role.admin", "m.role.moderator", "m.role.security", "m.role.dpo"],
        Meta(examples=["m.role.admin"]),
    ]
    """Responsible for what: admin, moderator, security, or dpo (data protection)."""

    matrix_id: Annotated[str | None, Meta(examples=["@admin:example.com"])] = None
    """Their user ID; this, an email address, or both."""

    email_address: Annotated[str | None, Meta(examples=["admin@example.com"])] = None
    """Their email address."""

    def __post_init__(self) -> None:
        if self.matrix_id is None and self.email_address is None:
            raise ValueError("a contact needs a matrix_id or an email_address")


class SupportConfig(Struct, frozen=True, kw_only=True):
    """Whom users and other administrators may ask, published at /.well-known/matrix/support."""

    support_page: Annotated[str | None, Meta(examples=["https://example.com/support"])] = None
    """A page that tells how to get help."""

    contacts: tuple[SupportContact, ...] = ()
    """People to ask, each a table of its own, with a matrix_id, an email_address, or both."""


class ListenerConfig(Struct, frozen=True, kw_only=True):
    """An address to serve on. Add one such table for each; /health is answered on all of them."""

    address: str = "127.0.0.1"
    """The IP address to listen on. 0.0.0.0 or :: means all of them."""

    port: Annotated[int, Meta(ge=0, le=65535)] = 8008
    """The TCP port; 0 takes any free one."""

    purposes: Annotated[tuple[Purpose, ...], Meta(min_length=1)] = ("client",)
    """What is served here: "client", "federation", "metrics", or several of them."""

    tls_certificate: Annotated[str | None, Meta(examples=["fullchain.pem"])] = None
    """A PEM file with the certificate and its chain. Without it, plain HTTP is spoken (to a proxy)."""

    tls_key: Annotated[str | None, Meta(examples=["privkey.pem"])] = None
    """The PEM file with the certificate's private key."""

    trusted_proxies: Annotated[tuple[str, ...], Meta(examples=[["127.0.0.1/32"]])] = ()
    """Networks of reverse proxies whose X-Forwarded-For header is believed."""

    def __post_init__(self) -> None:
        ipaddress.ip_address(self.address)
        for network in self.trusted_proxies:
            ipaddress.ip_network(network)
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together: give both or neither")


class DatabaseConfig(Struct, frozen=True, kw_only=True):
    """Where PostgreSQL is. Without a url, the node runs its own in data_dir."""

    url: Annotated[str | None, Meta(examples=["postgresql://veche@db.example.com/veche"])] = None
    """A PostgreSQL server of yours (14 or newer) with an empty UTF-8 database of its own for the node."""

    connections_min: Count = 4
    """Connections that are kept open."""

    connections_max: Count = 12
    """Connections that are opened at most, by each process of the node."""

    embedded_shared_buffers_bytes: Annotated[int, Meta(ge=MIB)] = 64 * MIB
    """Page cache of the embedded PostgreSQL. The operating system caches files besides."""

    def __post_init__(self) -> None:
        if self.url is not None:
            check_url("url", self.url, ("postgresql", "postgres"))
        if self.connections_min > self.connections_max:
            raise ValueError("connections_min is larger than connections_max")


class LimitsConfig(Struct, frozen=True, kw_only=True):
    """Bounds that keep the node small and answering."""

    max_request_body_bytes: Bytes = 1 * MIB
    """The largest request body, media uploads aside."""

    max_connections: Count = 20_000
    """Open connections on all listeners together."""

    sync_timeout_max_ms: Milliseconds = 120_000
    """The longest time that a client's sync may wait for something new."""

    room_cache_bytes: Bytes = 24 * MIB
    """Rooms kept in memory, about 1 kB a member."""

    tail_bytes: Bytes = 12 * MIB
    """The newest changes, from which waiting clients are answered without asking the database."""

    account_cache_bytes: Bytes = 16 * MIB
    """Access tokens (half of it), push rules, filters and lists of ignored users kept in memory."""

    sliding_sync_cache_bytes: Bytes = 16 * MIB
    """Room lists (half of it) and connections of sliding sync kept in memory."""

    commit_queue_max: Count = 10_000
    """Changes that wait to be written; beyond, requests are answered 503 and told to come back."""

    delayed_event_max_ms: Milliseconds = 86_400_000
    """How far ahead an event may be scheduled; calls schedule the leaving of whoever is gone."""

    delayed_events_per_user: Count = 100
    """How many events a user may have scheduled at a time."""


class LoggingConfig(Struct, frozen=True, kw_only=True):
    """The log, on standard error."""

    level: LogLevel = "info"
    """The least that is logged: "debug", "info", "warning" or "error"."""

    format: Literal["json", "console"] = "console"
    """"json": one object a line, for collectors; "console": for reading."""
