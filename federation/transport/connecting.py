"""One HTTPS request to a host whose addresses were checked: what discovery and the client share."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address

import aiohttp
from yarl import URL

from federation.transport.address_guard import AddressGuard, IPAddress
from federation.transport.dns import Dns, DnsError
from federation.transport.errors import ForbiddenAddress, RequestFailed, Unreachable

CONNECT_S = 10.0
ATTEMPTS_MAX = 4
CONNECTIONS_MAX = 1_000
CONNECTIONS_PER_SERVER_MAX = 8
KEEPALIVE_S = 60.0
HEADER_BYTES_MAX = 16 * 1024
HEADERS_MAX = 100


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host name or IP address, and a port. ``is_configured`` exempts an IP address from the guard."""

    host: str
    port: int
    is_configured: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server is reached, and who it has to prove to be."""

    endpoints: Sequence[Endpoint]
    """In the order to try them."""
    host_header: str
    certificate_name: str
    """A host name, also sent as SNI, or an IP address."""


def trust(ca_file: str | None) -> ssl.SSLContext:
    """Whom to believe: the system's authorities, or those of a PEM file. Raises OSError, ssl.SSLError."""
    return ssl.create_default_context(cafile=ca_file)


class Connections:
    """A pool of connections. `close` ends it."""

    def __init__(self, dns: Dns, guard: AddressGuard, tls: ssl.SSLContext, user_agent: str) -> None:
        self._dns = dns
        self._guard = guard
        # A connection is used again only for the same address, port and certificate name.
        connector = aiohttp.TCPConnector(
            ssl=tls,
            limit=CONNECTIONS_MAX,
            limit_per_host=CONNECTIONS_PER_SERVER_MAX,
            keepalive_timeout=KEEPALIVE_S,
            use_dns_cache=False,
        )
        self._http = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": user_agent},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            max_headers=HEADERS_MAX,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    @asynccontextmanager
    async def request(
        self,
        server: str,
        target: Target,
        method: str,
        uri: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response's head, its body still to be read; ``server`` is for errors only.

        Addresses are tried one after the other until one takes the connection; a request that was sent
        is never sent again. The caller bounds the time. Raises Unreachable, ForbiddenAddress.
        """
        all_headers = {"Host": target.host_header, **headers}
        last: Exception | None = None
        for address, port in await self._addresses(server, target.endpoints):
            authority = f"[{address}]" if address.version == 6 else str(address)
            try:
                response = await self._http.request(
                    method,
                    URL(f"https://{authority}:{port}{uri}", encoded=True),
                    data=body,
                    headers=all_headers,
                    server_hostname=target.certificate_name,
                    allow_redirects=False,
                )
            except aiohttp.ClientConnectorError as error:  # certificates that are not valid among them
                last = error
                continue
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                if isinstance(error, aiohttp.ConnectionTimeoutError):
                    last = error
                    continue
                raise Unreachable(server, _reason(error)) from error
            async with response:
                yield response
            return
        raise Unreachable(server, _reason(last)) from last

    async def _addresses(self, server: str, endpoints: Sequence[Endpoint]) -> list[tuple[IPAddress, int]]:
        """The addresses to try, each permitted. Raises ForbiddenAddress if only others were found."""
        found: list[tuple[IPAddress, int]] = []
        forbidden = False
        failure: DnsError | None = None
        for endpoint in endpoints:
            try:
                literal = ip_address(endpoint.host)
            except ValueError:
                try:
                    addresses = await self._dns.addresses(endpoint.host)
                except DnsError as error:
                    failure = error
                    continue
                permitted = [address for address in addresses if self._guard.permits(address)]
                forbidden = forbidden or len(permitted) < len(addresses)
            else:
                permitted = [literal] if endpoint.is_configured or self._guard.permits(literal) else []
                forbidden = forbidden or not permitted
            found += [(address, endpoint.port) for address in permitted]
        if found:
            return found[:ATTEMPTS_MAX]
        if forbidden:
            raise ForbiddenAddress(
                server, "leads to an address that is not public: see federation.allowed_networks"
            )
        raise Unreachable(server, str(failure) if failure else "has no address in the DNS") from failure


async def read_bounded(response: aiohttp.ClientResponse, bytes_max: int) -> bytes | None:
    """The body, decompressed, or None if it is larger. Raises aiohttp.ClientError."""
    if response.content_length is not None and response.content_length > bytes_max:
        return None
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > bytes_max:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def failure_of(server: str, error: Exception) -> RequestFailed:
    """A failure while a response was read, as one of ours."""
    return error if isinstance(error, RequestFailed) else Unreachable(server, _reason(error))


def _reason(error: Exception | None) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not valid: {error.certificate_error}"
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    return f"{type(error).__name__}: {error}"[:300]
