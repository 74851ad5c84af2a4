"""Rooms and calls. See sections.py."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from homeserver.config.values import Milliseconds, check_url

LIVEKIT_SECRET_LENGTH_MIN = 32  # LiveKit warns of shorter ones: tokens are signed with it


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
            check_url("url", self.url, ("wss", "ws"))
            if self.api_key is None or (self.api_secret is None and self.api_secret_file is None):
                raise ValueError("a url needs an api_key and an api_secret or api_secret_file")
        for name in ("api_url", "service_url"):
            if (value := getattr(self, name)) is not None:
                check_url(name, value, ("https", "http"))
        if self.api_secret is not None and self.api_secret_file is not None:
            raise ValueError("give api_secret or api_secret_file, not both")
        if self.api_secret is not None and len(self.api_secret) < LIVEKIT_SECRET_LENGTH_MIN:
            raise ValueError(f"api_secret must have {LIVEKIT_SECRET_LENGTH_MIN} characters at least")

    def __repr__(self) -> str:
        return f"LivekitConfig(url={self.url!r}, …)"  # no secrets in tracebacks
