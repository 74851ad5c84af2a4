"""Other servers. See sections.py."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from msgspec import Meta, Struct

from federation.errors import BadIdentifier
from federation.server_names import parse_server_name
from homeserver.config.values import Count

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

    identity_servers: Annotated[tuple[str, ...], Meta(examples=[["identity.example"]])] = ()
    """Identity servers that users may have asked whose an e-mail address is, to invite people by it. They
    learn who invites whom. "*" is every one that a user's client names."""

    def __post_init__(self) -> None:
        for network in self.allowed_networks:
            ipaddress.ip_network(network)
        partners = [n for n in (*self.presence_servers, *self.identity_servers) if n != EVERY_SERVER]
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
