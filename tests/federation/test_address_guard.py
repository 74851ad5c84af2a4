"""Which addresses other servers' names may lead to."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from federation.transport.address_guard import AddressGuard

INSIDE = [
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.0.8", "198.18.0.1", "203.0.113.1",
    "::", "::1", "fe80::1", "fc00::1", "fec0::1", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1", "100::1",
]  # fmt: skip
OUTSIDE = ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not AddressGuard().permits(ip_address(address))


@pytest.mark.parametrize("address", OUTSIDE)
def test_public_addresses_are_permitted(address: str) -> None:
    assert AddressGuard().permits(ip_address(address))


def test_configured_networks_are_permitted_and_no_others() -> None:
    guard = AddressGuard(["10.20.0.0/16", "fd00:1::/32"])
    for address in ("10.20.3.4", "fd00:1::5", "::ffff:10.20.3.4"):
        assert guard.permits(ip_address(address))
    for address in ("10.21.0.1", "127.0.0.1", "fd00:2::1"):
        assert not guard.permits(ip_address(address))
