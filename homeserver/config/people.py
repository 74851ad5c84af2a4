"""Users: how they come by an account, log in, find each other, and hear from the server. See sections.py."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from homeserver.config.values import Count, Milliseconds


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


class ServerNoticesConfig(Struct, frozen=True, kw_only=True):
    """The user that speaks for the server, and the room in which it does."""

    localpart: str = "notices"
    """The local part of its user ID. Nobody can register it."""

    display_name: str = "Server notices"
    """Its display name."""

    room_name: str = "Server notices"
    """The name of the room, one for each user who gets a notice."""
