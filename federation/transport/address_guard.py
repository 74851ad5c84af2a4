"""Which addresses may be contacted: a server's name must not lead requests into our own network.

Whoever names a server, in a user ID or in an event, makes this node connect somewhere. Private, loopback,
link-local and all other addresses that are not globally reachable are refused unless they are configured.
The check is made on the very address that is connected to, so that a name cannot resolve to another one in
between.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

# RFC 6052: an IPv4 address behind a translator.
_NAT64 = IPv6Network("64:ff9b::/96")

# RFC 6890: not for the public, which not every version of `ipaddress` knows.
_PROTOCOL_ASSIGNMENTS = IPv4Network("192.0.0.0/24")


class AddressGuard:
    """Permits globally reachable addresses and those of ``allowed_networks``."""

    def __init__(self, allowed_networks: Iterable[str] = ()) -> None:
        self._allowed = tuple(ip_network(network) for network in allowed_networks)

    def permits(self, address: IPAddress) -> bool:
        """Whether ``address`` may be contacted."""
        if any(address in network for network in self._allowed):
            return True
        if isinstance(address, IPv6Address):
            if (inner := _embedded(address)) is not None:
                return self.permits(inner)
            if address.is_site_local or address.scope_id is not None:
                return False
        return (
            address.is_global
            and not address.is_multicast
            and not address.is_reserved
            and not address.is_unspecified
            and address not in _PROTOCOL_ASSIGNMENTS
        )


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that traffic to an IPv6 one ends at, if it names one."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo is not None:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour
