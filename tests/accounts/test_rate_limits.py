"""Rate limits: bursts, refilling, and their bounds."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.accounts import rate_limits
from homeserver.accounts.rate_limits import RateLimits
from homeserver.config.rates import RateLimitsConfig
from homeserver.errors import LimitExceeded
from tests.accounts.conftest import Serve
from tests.accounts.server import Clock
from tests.api.client import PASSWORD, refused


def limits(clock: Clock, *, per_second: float = 2, burst: int = 3, enabled: bool = True) -> RateLimits:
    config = {"enabled": enabled, "messages": {"per_second": per_second, "burst": burst}}
    return RateLimits(msgspec.convert(config, RateLimitsConfig), clock.seconds)


def test_a_burst_passes_then_the_wait_is_told() -> None:
    clock = Clock()
    service = limits(clock)
    for _ in range(3):
        service.check("messages", "alice")
    with pytest.raises(LimitExceeded) as refusal:
        service.check("messages", "alice")
    assert 500 <= refusal.value.retry_after_ms <= 501
    service.check("messages", "bob")
    clock.ms += refusal.value.retry_after_ms
    service.check("messages", "alice")
    with pytest.raises(LimitExceeded):
        service.check("messages", "alice")


def test_peeking_takes_nothing_and_spending_never_fails() -> None:
    service = limits(Clock())
    for _ in range(5):
        service.peek("messages", "alice")
    for _ in range(3):
        service.spend("messages", "alice")
    with pytest.raises(LimitExceeded):
        service.peek("messages", "alice")
    for _ in range(1000):
        service.spend("messages", "alice")
    with pytest.raises(LimitExceeded) as refusal:
        service.peek("messages", "alice")
    assert refusal.value.retry_after_ms < 3000


def test_addresses_of_one_customer_share_a_bucket() -> None:
    service = limits(Clock())
    for address in ("2001:db8:1:2::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::ffff"):
        service.check("messages", address)
    with pytest.raises(LimitExceeded):
        service.peek("messages", "2001:db8:1:2::2")
    service.check("messages", "2001:db8:1:3::1")
    for address in ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"):
        service.check("messages", address)
    with pytest.raises(LimitExceeded):
        service.peek("messages", "192.0.2.1")
    service.check("messages", "192.0.2.2")


def test_without_limits_everything_passes() -> None:
    service = limits(Clock(), enabled=False)
    for _ in range(100):
        service.check("messages", "alice")


def test_unknown_limits_are_faults() -> None:
    with pytest.raises(KeyError):
        limits(Clock()).check("mesages", "alice")


def test_buckets_are_bounded_and_the_emptiest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "BUCKETS_MAX", 8)
    service = limits(Clock(), per_second=0.001)
    for _ in range(3):
        service.check("messages", "mallory")
    for number in range(100):
        service.check("messages", f"user {number}")
    with pytest.raises(LimitExceeded):
        service.check("messages", "mallory")


@given(st.floats(0.01, 100), st.integers(1, 50), st.lists(st.integers(0, 5000), min_size=1, max_size=200))
def test_no_pattern_gets_more_than_burst_and_rate(per_second: float, burst: int, pauses: list[int]) -> None:
    clock = Clock()
    service = limits(clock, per_second=per_second, burst=burst)
    start, passed = clock.seconds(), 0
    for pause in pauses:
        clock.ms += pause
        try:
            service.check("messages", "alice")
        except LimitExceeded as refusal:
            clock.ms += refusal.retry_after_ms
            service.check("messages", "alice")  # what was told is true
        passed += 1
    assert passed <= burst + per_second * (clock.seconds() - start) + 1e-3


async def test_logins_are_limited_by_address_account_and_failures(serve: Serve) -> None:
    tight = {"per_second": 0.1, "burst": 3}
    loose = {"per_second": 1000, "burst": 1000}
    for name in ("login_address", "login_account", "login_failed"):
        limits_of = {"login_address": loose, "login_account": loose, "login_failed": loose, name: tight}
        services, api = await serve(rate_limits={"enabled": True, "registration": loose, **limits_of})
        user = await api.register()
        for _ in range(3):
            with refused(403, "M_FORBIDDEN"):
                await api.login(user.user_id, "wrong password")
        with refused(429, "M_LIMIT_EXCEEDED") as limited:
            await api.login(user.user_id, PASSWORD)
        services.clock.ms += limited.value.json["retry_after_ms"]
        await api.login(user.user_id, PASSWORD)
        await user.get("/v3/account/whoami")


async def test_registrations_are_limited_by_address(serve: Serve) -> None:
    _, api = await serve(rate_limits={"enabled": True, "registration": {"per_second": 0.1, "burst": 2}})
    await api.register()
    await api.get("/v3/register/available", query={"username": "free"})
    with refused(429, "M_LIMIT_EXCEEDED"):
        await api.get("/v3/register/available", query={"username": "free"})
