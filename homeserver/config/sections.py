"""Every setting of a node, one frozen class a section of the TOML file.

The string under a field is the comment of that field in the sample (``sample``), so it speaks to the
administrator. Times end in ``_ms``, sizes in ``_bytes``. Relative paths are relative to the file's folder.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from federation.errors import BadIdentifier
from federation.server_names import parse_server_name

Purpose = Literal["client", "federation", "metrics"]
LogLevel = Literal["debug", "info", "warning", "error"]
Count = Annotated[int, Meta(ge=1)]
Bytes = Annotated[int, Meta(ge=1)]
Milliseconds = Annotated[int, Meta(ge=1)]

MIB = 1024 * 1024
LIVEKIT_SECRET_LENGTH_MIN = 32  # LiveKit warns of shorter ones: tokens are signed with it


def _check_url(name: str, url: str, schemes: tuple[str, ...]) -> None:
    parts = urlsplit(url)
    if parts.scheme not in schemes:
        raise ValueError(f"{name} must start with {' or '.join(f'{scheme}://' for scheme in schemes)}")


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
            _check_url("public_baseurl", self.public_baseurl, ("https", "http"))


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
            _check_url("url", self.url, ("postgresql", "postgres"))
        if self.connections_min > self.connections_max:
            raise ValueError("connections_min is larger than connections_max")


class RegistrationConfig(Struct, frozen=True, kw_only=True):
    """Who may make an account. Administrators always can: `veche user add`."""

    mode: Literal["closed", "token", "open"] = "closed"
    """"closed": nobody; "token": whoever has a registration token; "open": everyone who reaches the node."""

    tokens: Annotated[tuple[str, ...], Meta(examples=[["a-long-random-word"]])] = ()
    """Registration tokens for the mode "token", each to be used any number of times."""

    guests: bool = False
    """Whether guests may look at rooms that let them, without an account."""

    display_names: bool = False
    """Whether new users, also those of `veche user add`, begin with their user name as display name."""

    shared_secret: Annotated[str | None, Meta(examples=["a-long-random-word"])] = None
    """Lets provisioning tools that know it register users. Better kept in shared_secret_file."""

    shared_secret_file: Annotated[str | None, Meta(examples=["registration.secret"])] = None
    """A file with that secret."""

    def __post_init__(self) -> None:
        if self.shared_secret is not None and self.shared_secret_file is not None:
            raise ValueError("give shared_secret or shared_secret_file, not both")

    def __repr__(self) -> str:
        return (
            f"RegistrationConfig(mode={self.mode!r}, guests={self.guests!r}, …)"  # no secrets in tracebacks
        )


class AuthConfig(Struct, frozen=True, kw_only=True):
    """Passwords, tokens and sessions."""

    argon2_time_cost: Count = 2
    """Passes of argon2id over its memory; with the two below, what a guess at a password costs a thief."""

    argon2_memory_kib: Annotated[int, Meta(ge=8)] = 19_456
    """Memory of one hash, in KiB."""

    argon2_parallelism: Count = 1
    """Lanes of one hash."""

    hash_threads: Count = 1
    """How many passwords are hashed at the same time. Each takes argon2_memory_kib of memory."""

    password_min_length: Count = 8
    """The shortest password a user may choose."""

    access_token_lifetime_ms: Milliseconds = 300_000
    """How long an access token is valid, for clients that can refresh it."""

    refresh_token_lifetime_ms: Annotated[Milliseconds | None, Meta(examples=[2_592_000_000])] = None
    """How long a refresh token is valid if it isn't used. Unset: until the user logs out."""

    session_lifetime_ms: Annotated[Milliseconds | None, Meta(examples=[7_776_000_000])] = None
    """How long a login is valid for clients that cannot refresh. Unset: until the user logs out.

    Afterwards the client is asked to log in again and keeps its data (soft logout)."""

    login_token_lifetime_ms: Milliseconds = 120_000
    """How long a token for logging in another device is valid."""

    openid_token_lifetime_ms: Milliseconds = 3_600_000
    """How long a token is valid by which a user proves who they are to a third party."""

    ui_auth_session_lifetime_ms: Milliseconds = 900_000
    """How long a user may take to confirm who they are before an operation that asks for it."""


class RateLimit(Struct, frozen=True, kw_only=True):
    """So many at once (burst), and so many a second in the long run."""

    per_second: Annotated[float, Meta(gt=0)]
    burst: Count


class RateLimitsConfig(Struct, frozen=True, kw_only=True):
    """How often something may be done before the answer is 429 and a time to wait."""

    enabled: bool = True
    """false lifts all of them, for load tests."""

    messages: RateLimit = RateLimit(per_second=10, burst=100)
    """Events sent, by a user."""

    room_creation: RateLimit = RateLimit(per_second=0.5, burst=20)
    """Rooms created or upgraded, by a user."""

    joins: RateLimit = RateLimit(per_second=1, burst=50)
    """Rooms joined or knocked on, by a user."""

    invites: RateLimit = RateLimit(per_second=1, burst=100)
    """Invitations sent, by a user."""

    registration: RateLimit = RateLimit(per_second=0.2, burst=10)
    """Accounts made and names tried, from an address."""

    login_address: RateLimit = RateLimit(per_second=0.5, burst=20)
    """Logins tried, from an address."""

    login_account: RateLimit = RateLimit(per_second=0.2, burst=10)
    """Logins tried, to an account."""

    login_failed: RateLimit = RateLimit(per_second=0.05, burst=6)
    """Wrong passwords, for an account. Afterwards even the right one has to wait."""

    profile: RateLimit = RateLimit(per_second=0.5, burst=10)
    """Changes of name and picture, by a user: each goes to all their rooms."""

    user_data: RateLimit = RateLimit(per_second=20, burst=200)
    """Receipts, typing, presence, account data, tags, filters and push rules set, by a user."""

    keys: RateLimit = RateLimit(per_second=20, burst=500)
    """Encryption keys uploaded, queried and claimed, by a user."""

    to_device: RateLimit = RateLimit(per_second=50, burst=1000)
    """Requests that send messages from device to device, by a user."""

    search: RateLimit = RateLimit(per_second=2, burst=30)
    """Searches of the user directory and the public rooms, by a user."""

    remote_lookups: RateLimit = RateLimit(per_second=5, burst=100)
    """Profiles, aliases, spaces and directories of other servers asked for, by a user or an address."""

    calls: RateLimit = RateLimit(per_second=2, burst=60)
    """Tokens for calls, from an address."""

    reports: RateLimit = RateLimit(per_second=0.1, burst=10)
    """Reports of rooms, users and events, by a user."""

    key_queries: RateLimit = RateLimit(per_second=5, burst=100)
    """Questions for other servers' keys, from an address."""

    federation_queries: RateLimit = RateLimit(per_second=50, burst=500)
    """Questions for profiles, aliases, spaces and public rooms, by another server."""

    federation_membership: RateLimit = RateLimit(per_second=20, burst=300)
    """Joins, invites, knocks and leaves, by another server."""

    third_party_invites: RateLimit = RateLimit(per_second=0.5, burst=10)
    """Reports of identity servers that an address belongs to a user, from an address."""


class RoomsConfig(Struct, frozen=True, kw_only=True):
    """What rooms are like, and who may make them."""

    default_version: Literal["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"] = "12"
    """The room version of new rooms."""

    creation: Literal["users", "admins"] = "users"
    """Who may create rooms."""

    publication: Literal["users", "admins"] = "users"
    """Who may put rooms into the public directory, in rooms where they are allowed to."""

    public_directory: bool = False
    """Whether the directory of public rooms is shown to whoever is not logged in."""


class VoipConfig(Struct, frozen=True, kw_only=True):
    """TURN servers, which relay calls between people who cannot reach each other directly."""

    turn_uris: Annotated[
        tuple[str, ...],
        Meta(examples=[["turn:turn.example.com:3478?transport=udp", "turns:turn.example.com"]]),
    ] = ()
    """What clients are told to use. They have to share turn_shared_secret with this node."""

    turn_shared_secret: Annotated[str | None, Meta(examples=["a long random text"])] = None
    """What the TURN servers check credentials with: static-auth-secret of coturn."""

    turn_lifetime_ms: Milliseconds = 86_400_000
    """How long a client may use the credentials that it is given."""

    def __post_init__(self) -> None:
        for uri in self.turn_uris:
            if not uri.startswith(("turn:", "turns:")):
                raise ValueError(f"turn_uris: {uri} does not begin with turn: or turns:")
        if self.turn_uris and not self.turn_shared_secret:
            raise ValueError("turn_uris need a turn_shared_secret")

    def __repr__(self) -> str:
        return f"VoipConfig(turn_uris={self.turn_uris!r}, …)"  # no secrets in tracebacks


class LivekitConfig(Struct, frozen=True, kw_only=True):
    """A LiveKit server for calls of many people (Element Call): who may join is decided here.

    Set room.auto_create to false in LiveKit: only users of this node may then begin a call on it."""

    url: Annotated[str | None, Meta(examples=["wss://livekit.example.com"])] = None
    """Where clients reach the LiveKit server. Without it, none is offered."""

    api_url: Annotated[str | None, Meta(examples=["http://127.0.0.1:7880"])] = None
    """Where this node reaches it, to make a call's room. Unset: the url above."""

    api_key: Annotated[str | None, Meta(examples=["veche"])] = None
    """The name of a key in LiveKit's configuration."""

    api_secret: Annotated[str | None, Meta(examples=["a random text of 32 characters or more"])] = None
    """That key's secret. Better kept in api_secret_file."""

    api_secret_file: Annotated[str | None, Meta(examples=["livekit.secret"])] = None
    """A file with that secret."""

    service_url: Annotated[str | None, Meta(examples=["https://matrix.example.com/livekit/jwt"])] = None
    """Where clients reach this node's /livekit/jwt. Unset: below public_baseurl."""

    token_lifetime_ms: Milliseconds = 3_600_000
    """How long a client may use a token to join a call. Who has joined is not thrown out by its end."""

    def __post_init__(self) -> None:
        if self.url is not None:
            _check_url("url", self.url, ("wss", "ws"))
            if self.api_key is None or (self.api_secret is None and self.api_secret_file is None):
                raise ValueError("a url needs an api_key and an api_secret or api_secret_file")
        for name in ("api_url", "service_url"):
            if (value := getattr(self, name)) is not None:
                _check_url(name, value, ("https", "http"))
        if self.api_secret is not None and self.api_secret_file is not None:
            raise ValueError("give api_secret or api_secret_file, not both")
        if self.api_secret is not None and len(self.api_secret) < LIVEKIT_SECRET_LENGTH_MIN:
            raise ValueError(f"api_secret must have {LIVEKIT_SECRET_LENGTH_MIN} characters at least")

    def __repr__(self) -> str:
        return f"LivekitConfig(url={self.url!r}, …)"  # no secrets in tracebacks


class PresenceConfig(Struct, frozen=True, kw_only=True):
    """Who is online."""

    enabled: bool = True
    """Whether users see each other's presence."""

    idle_after_ms: Milliseconds = 300_000
    """Without activity for this long, a user is shown as unavailable."""

    offline_after_ms: Milliseconds = 30_000
    """Without any connected client for this long, a user is shown as offline."""


class UserDirectoryConfig(Struct, frozen=True, kw_only=True):
    """Finding people."""

    search_all_users: bool = True
    """true: users find everyone on this node; false: only whom they share a room with, or a public room."""


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


EVERY_SERVER = "*"


class FederationConfig(Struct, frozen=True, kw_only=True):
    """Which other servers this node talks to."""

    mode: Literal["closed", "open"] = "closed"
    """"closed": only with allowed_servers; "open": with every Matrix server."""

    allowed_servers: Annotated[tuple[str, ...], Meta(examples=[["partner.example"]])] = ()
    """The servers to talk to in the mode "closed"."""

    hosts: Annotated[dict[str, str], Meta(examples=[{"partner.example": "192.0.2.7:8448"}])] = {}
    """Fixed addresses of named servers, for closed networks without public DNS."""

    ca_file: Annotated[str | None, Meta(examples=["company-ca.pem"])] = None
    """A PEM file of certificate authorities to trust instead of the system's."""

    allowed_networks: Annotated[tuple[str, ...], Meta(examples=[["10.20.0.0/16"]])] = ()
    """Private networks in which servers may be found by DNS; besides, only public addresses are contacted.

    Otherwise a server's name could be used to reach into your network. Addresses in hosts are exempt."""

    omit_members_from: Annotated[int, Meta(ge=1)] = 2_500
    """Members of a room from which on servers that join it, and can do with that, are not told of all of them
    at once: they fetch them when they are in."""

    notaries: Annotated[tuple[str, ...], Meta(examples=[["keys.example"]])] = ()
    """Servers to ask for the keys of those that do not answer. Their word is believed."""

    presence_servers: Annotated[tuple[str, ...], Meta(examples=[["partner.example"]])] = ()
    """Servers that exchange with this one who is online, for users who share a room. "*" is all of them."""

    def __post_init__(self) -> None:
        for network in self.allowed_networks:
            ipaddress.ip_network(network)
        partners = [name for name in self.presence_servers if name != EVERY_SERVER]
        named = (*self.allowed_servers, *self.notaries, *partners)
        for name in (*named, *self.hosts, *self.hosts.values()):
            try:
                parse_server_name(name)
            except BadIdentifier as error:
                raise ValueError(f"{name!r} is not a server name") from error


class PolicyServerConfig(Struct, frozen=True, kw_only=True):
    """Rooms may choose a server that looks at all events before they are sent (m.room.policy)."""

    enabled: bool = False
    """Whether rooms in which this server has a user may choose it. Clients find its key by
    /.well-known/matrix/policy_server."""

    key_file: str = "policy.key"
    """The key that signs what is let through. It is made at the first start."""

    mentions_max: Count = 50
    """Messages that mention more users are refused."""

    refused_words: Annotated[tuple[str, ...], Meta(examples=[["lottery"]])] = ()
    """Messages, names and topics with one of these words, in capitals or not, are refused."""

    def __post_init__(self) -> None:
        if not all(word.strip() for word in self.refused_words):
            raise ValueError("refused_words holds an empty word")


class ServerNoticesConfig(Struct, frozen=True, kw_only=True):
    """The user that speaks for the server, and the room in which it does."""

    localpart: str = "notices"
    """The local part of its user ID. Nobody can register it."""

    display_name: str = "Server notices"
    """Its display name."""

    room_name: str = "Server notices"
    """The name of the room, one for each user who gets a notice."""


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
