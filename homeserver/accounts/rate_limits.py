"""How often something may be done: a token bucket for each limit and key.

A bucket is one number, the time at which it will be full again (the generic cell rate algorithm): taking
a token puts that time off by `1 / per_second`, and what would put it beyond `burst` of these is refused.
A bucket that is full again is the same as none, so forgetting those loses nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from homeserver.config.rates import RateLimit, RateLimitsConfig
from homeserver.errors import LimitExceeded

BUCKETS_MAX = 20_000  # of one limit; beyond, those that will be full soonest are forgotten
SWEEP_SHARE = 4  # a sweep of a limit with too many buckets frees at least a quarter


@dataclass(slots=True)
class _Limit:
    interval_s: float
    span_s: float
    full_at: dict[str, float] = field(default_factory=dict)


class RateLimits:
    """All limits of a node, by the names of the fields of `RateLimitsConfig`.

    Keys are user ids or addresses. Unknown names raise KeyError: they are faults of a caller.
    """

    __slots__ = ("enabled", "_limits", "_clock")

    def __init__(self, config: RateLimitsConfig, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds."""
        self.enabled = config.enabled
        self._clock = clock
        self._limits = {
            name: _Limit(1 / limit.per_second, limit.burst / limit.per_second)
            for name in config.__struct_fields__
            if isinstance(limit := getattr(config, name), RateLimit)
        }

    def check(self, name: str, key: str) -> None:
        """Take a token. Raises LimitExceeded, and takes none, if there is none."""
        if not self.enabled:
            return
        key = _counted_as(key)
        limit, now = self._limits[name], self._clock()
        full_at = max(limit.full_at.get(key, now), now) + limit.interval_s
        _refuse_beyond(limit, full_at, now)
        self._set(limit, key, full_at, now)

    def peek(self, name: str, key: str) -> None:
        """As `check`, without taking a token."""
        if not self.enabled:
            return
        key = _counted_as(key)
        limit, now = self._limits[name], self._clock()
        _refuse_beyond(limit, max(limit.full_at.get(key, now), now) + limit.interval_s, now)

    def spend(self, name: str, key: str) -> None:
        """Take a token, even where there is none: for what has happened already, such as a wrong password.

        A bucket's debt is bounded by its burst, so that nobody is shut out for long.
        """
        if not self.enabled:
            return
        key = _counted_as(key)
        limit, now = self._limits[name], self._clock()
        full_at = max(limit.full_at.get(key, now), now) + limit.interval_s
        self._set(limit, key, min(full_at, now + 2 * limit.span_s), now)

    def _set(self, limit: _Limit, key: str, full_at: float, now: float) -> None:
        if key not in limit.full_at and len(limit.full_at) >= BUCKETS_MAX:
            _sweep(limit, now)
        limit.full_at[key] = full_at


def _counted_as(key: str) -> str:
    """The key of a bucket. IPv6 addresses count by their /64, all of which one customer commonly has."""
    if ":" not in key or key.startswith("@"):
        return key
    try:
        address = IPv6Address(key)
    except ValueError:
        return key
    return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))


def _refuse_beyond(limit: _Limit, full_at: float, now: float) -> None:
    """Raise LimitExceeded if a bucket would be full only after its whole span."""
    wait_s = full_at - limit.span_s - now
    if wait_s > 1e-6:  # what rounding leaves is no reason to refuse
        raise LimitExceeded(max(1, int(wait_s * 1000) + 1))


def _sweep(limit: _Limit, now: float) -> None:
    """Forget the buckets that are full again; where these are too few, those that will be full soonest."""
    limit.full_at = {key: full_at for key, full_at in limit.full_at.items() if full_at > now}
    keep = BUCKETS_MAX - BUCKETS_MAX // SWEEP_SHARE
    if len(limit.full_at) > keep:
        fullest = sorted(limit.full_at.items(), key=lambda item: item[1], reverse=True)
        limit.full_at = dict(fullest[:keep])
