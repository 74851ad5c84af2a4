"""How often something may be done. See sections.py."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from homeserver.config.values import Count


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
