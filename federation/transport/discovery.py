"""From a server's name to where it is reached and which certificate it must show.

Source: Server-Server API, "Resolving server names", whose steps are numbered here.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

import aiohttp
from yarl import URL

from federation.errors import BadIdentifier
from federation.server_names import (
    DEFAULT_PORT,
    BadWellKnown,
    ServerName,
    error_lifetime_ms,
    parse_server_name,
    read_well_known,
    well_known_lifetime_ms,
)
from federation.transport.connecting import Connections, Endpoint, Target, read_bounded
from federation.transport.dns import Dns, DnsError, SrvTarget
from federation.transport.errors import RequestFailed, Unreachable
from federation.transport.single_flight import SingleFlight

WELL_KNOWN = "/.well-known/matrix/server"
HTTPS_PORT = WELL_KNOWN_PORT = 443
WELL_KNOWN_BYTES_MAX = 50 * 1024
WELL_KNOWN_S = 10.0
REDIRECTS_MAX = 5
CACHE_ENTRIES = 20_000
SERVICES = ("_matrix-fed._tcp", "_matrix._tcp")  # the second is deprecated, and still in use


@dataclass(frozen=True, slots=True)
class _WellKnown:
    delegated: ServerName | None
    until_ms: int
    failures: int


class Discovery:
    """Resolves server names. ``hosts`` are fixed addresses by server name, as configured."""

    def __init__(
        self,
        connections: Connections,
        dns: Dns,
        hosts: Mapping[str, str],
        clock: Callable[[], int],
        random: Random,
        well_known_port: int = WELL_KNOWN_PORT,
    ) -> None:
        """Raises BadIdentifier if one of ``hosts`` is no host name or address, perhaps with a port."""
        self._connections = connections
        self._dns = dns
        self._hosts = {name: _configured(name, address) for name, address in hosts.items()}
        self._clock = clock
        self._random = random
        self._well_known_port = well_known_port
        self._cache: OrderedDict[str, _WellKnown] = OrderedDict()
        self._fetches: SingleFlight[str, _WellKnown] = SingleFlight()

    async def find(self, server_name: str) -> Target:
        """Where ``server_name`` is reached. Raises Unreachable, also for what is no server name."""
        configured = self._hosts.get(server_name)
        if configured is not None:
            return configured
        try:
            name = parse_server_name(server_name)
        except BadIdentifier as cause:
            raise Unreachable(server_name, str(cause)) from cause
        if name.address is not None or name.port is not None:
            return _direct(name)  # steps 1 and 2
        delegated = await self._delegated(name.host)
        if delegated is None:
            return await self._by_service(server_name, name)  # steps 4 to 6
        if delegated.address is not None or delegated.port is not None:
            return _direct(delegated)  # steps 3.1 and 3.2
        return await self._by_service(server_name, delegated)  # steps 3.3 to 3.5

    async def _by_service(self, server_name: str, name: ServerName) -> Target:
        """By SRV record, or else on port 8448. Host header and certificate are of ``name`` either way."""
        endpoints = [Endpoint(name.host, DEFAULT_PORT)]
        for service in SERVICES:
            targets = await self._service(f"{service}.{name.host}.")
            if targets is None:
                continue
            if not targets:
                raise Unreachable(server_name, "its SRV record says that there is no such service")
            endpoints = [Endpoint(target.host, target.port) for target in targets]
            break
        return Target(endpoints, name.text, name.host)

    async def _service(self, name: str) -> list[SrvTarget] | None:
        try:
            return await self._dns.service(name, self._random)
        except DnsError:
            # As if there were none: whoever answers on the fallback must show the same certificate.
            return None

    async def _delegated(self, host: str) -> ServerName | None:
        """The name that the host's well-known file delegates to, if it does. Step 3."""
        known = self._cache.get(host)
        if known is None or known.until_ms <= self._clock():
            known = await self._fetches.run(host, lambda: self._refresh(host))
        else:
            self._cache.move_to_end(host)
        return known.delegated

    async def _refresh(self, host: str) -> _WellKnown:
        before = self._cache.get(host)
        try:
            async with asyncio.timeout(WELL_KNOWN_S):
                delegated, lifetime_ms = await self._fetch(host)
        except (RequestFailed, BadWellKnown, aiohttp.ClientError, TimeoutError, ValueError):
            failures = (before.failures if before else 0) + 1
            known = _WellKnown(None, self._clock() + error_lifetime_ms(failures), failures)
        else:
            known = _WellKnown(delegated, self._clock() + lifetime_ms, 0)
        self._cache[host] = known
        self._cache.move_to_end(host)
        if len(self._cache) > CACHE_ENTRIES:
            self._cache.popitem(last=False)
        return known

    async def _fetch(self, host: str) -> tuple[ServerName, int]:
        """The delegated name, and how long to keep it in milliseconds."""
        url = URL.build(scheme="https", host=host, port=self._well_known_port, path=WELL_KNOWN)
        for _ in range(REDIRECTS_MAX + 1):
            if url.scheme != "https" or url.host is None or url.port is None:
                raise BadWellKnown("Redirected to what is not HTTPS")
            target = Target([Endpoint(url.host, url.port)], url.authority, url.host)
            headers = {"Accept": "application/json"}
            async with self._connections.request(host, target, "GET", url.raw_path_qs, headers) as response:
                if response.status in (301, 302, 303, 307, 308):
                    url = url.join(URL(response.headers.get("Location", ""), encoded=True))
                    continue
                if response.status != 200:
                    raise BadWellKnown(f"Status {response.status}")
                body = await read_bounded(response, WELL_KNOWN_BYTES_MAX)
                if body is None:
                    raise BadWellKnown(f"More than {WELL_KNOWN_BYTES_MAX} bytes")
                return read_well_known(body), well_known_lifetime_ms(response.headers, self._clock())
        raise BadWellKnown(f"More than {REDIRECTS_MAX} redirects")


class ByHttps:
    """Finds servers of other kinds, such as identity servers: nothing is delegated, and the port is 443 if
    none is named. ``hosts`` are fixed addresses by name. Raises as `Discovery`."""

    def __init__(self, hosts: Mapping[str, str]) -> None:
        self._hosts = {name: _configured(name, address, HTTPS_PORT) for name, address in hosts.items()}

    async def find(self, server_name: str) -> Target:
        """As `Discovery.find`."""
        configured = self._hosts.get(server_name)
        if configured is not None:
            return configured
        try:
            return _direct(parse_server_name(server_name), HTTPS_PORT)
        except BadIdentifier as cause:
            raise Unreachable(server_name, str(cause)) from cause


def _direct(name: ServerName, default_port: int = DEFAULT_PORT) -> Target:
    endpoint = Endpoint(name.host, default_port if name.port is None else name.port)
    return Target([endpoint], name.text, name.host)


def _configured(server_name: str, address: str, default_port: int = DEFAULT_PORT) -> Target:
    """A fixed address: the certificate and ``Host`` are still the server's own."""
    fixed, name = parse_server_name(address), parse_server_name(server_name)
    port = fixed.port or name.port or default_port
    return Target([Endpoint(fixed.host, port, is_configured=True)], name.text, name.host)
