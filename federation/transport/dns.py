"""Looking names up in the DNS: addresses and SRV records.

dnspython rather than aiodns: both are well kept and asynchronous; dnspython is pure Python with types, takes
any port of a name server (so that tests run against one on loopback), and has a bounded cache that keeps to
the records' lifetimes. The system's resolver (``getaddrinfo``) knows no SRV records and would hold a thread
for each name whose servers do not answer; names that only ``/etc/hosts`` knows belong into
``federation.hosts``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import ip_address
from random import Random

import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
from dns.asyncresolver import Resolver
from dns.rdtypes.IN.SRV import SRV

from federation.transport.address_guard import IPAddress

LOOKUP_S = 5.0
CACHE_ENTRIES = 20_000
ADDRESSES_MAX = 8
TARGETS_MAX = 8


class DnsError(Exception):
    """A name could not be looked up now: a server that fails or does not answer, or no name at all."""


@dataclass(frozen=True, slots=True)
class SrvTarget:
    """Where an SRV record points."""

    host: str
    port: int
    priority: int
    weight: int


class Dns:
    """Asks the system's name servers, or those that are named, as ``(addresses, port)``."""

    def __init__(self, nameservers: tuple[list[str], int] | None = None) -> None:
        try:
            self._resolver = Resolver(configure=nameservers is None)
        except dns.resolver.NoResolverConfiguration:
            self._resolver = Resolver(configure=False)  # then every look-up ends in DnsError
        if nameservers is not None:
            self._resolver.port = nameservers[1]  # first: it is read when the servers are set
            self._resolver.nameservers = list(nameservers[0])
        self._resolver.cache = dns.resolver.LRUCache(CACHE_ENTRIES)
        self._resolver.lifetime = LOOKUP_S

    async def addresses(self, host: str) -> list[IPAddress]:
        """The host's addresses, IPv6 first, aliases (CNAME) followed; empty if it has none.

        Raises DnsError if both look-ups fail; one that succeeds is enough.
        """
        if host.lower() == "localhost":
            # RFC 6761, 6.3: "Name resolution APIs and libraries SHOULD recognize localhost names as special".
            return [ip_address("127.0.0.1"), ip_address("::1")]
        answers = await asyncio.gather(
            self._records(host, dns.rdatatype.AAAA),
            self._records(host, dns.rdatatype.A),
            return_exceptions=True,
        )
        found: list[IPAddress] = []
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, DnsError):
                raise answer
            if isinstance(answer, list):
                found += [ip_address(record.to_text()) for record in answer[:ADDRESSES_MAX]]
        if not found and isinstance(answers[0], DnsError) and isinstance(answers[1], DnsError):
            raise answers[1]
        return found

    async def service(self, name: str, random: Random) -> list[SrvTarget] | None:
        """The targets of an SRV record, in the order to try them; None if there is no such record.

        An empty list says that the service is "decidedly not available at this domain" (a target of ``.``).
        Raises DnsError.
        """
        records = await self._records(name, dns.rdatatype.SRV)
        if not records:
            return None
        targets = [
            SrvTarget(record.target.to_text(omit_final_dot=True), record.port, record.priority, record.weight)
            for record in records[:TARGETS_MAX]
            if isinstance(record, SRV) and record.target != dns.name.root
        ]
        return in_order(targets, random)

    async def _records(self, name: str, kind: dns.rdatatype.RdataType) -> list[dns.rdata.Rdata]:
        try:
            absolute = dns.name.from_text(name).derelativize(dns.name.root)
            answer = await self._resolver.resolve(absolute, kind, search=False, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            return []
        except (dns.exception.DNSException, OSError, UnicodeError) as cause:
            raise DnsError(f"{kind.name} of {name[:255]!r}: {type(cause).__name__}") from cause
        return list(answer.rrset or ())


def in_order(targets: list[SrvTarget], random: Random) -> list[SrvTarget]:
    """Lowest priority first; within one, by chance in proportion to the weights. Source: RFC 2782."""
    ordered: list[SrvTarget] = []
    for priority in sorted({target.priority for target in targets}):
        rest = [target for target in targets if target.priority == priority]
        while rest:
            # A weight of 0 has "a very small chance": one part in a hundred of the smallest other.
            weights = [target.weight or 0.01 for target in rest]
            chosen = random.choices(rest, weights)[0]
            rest.remove(chosen)
            ordered.append(chosen)
    return ordered
