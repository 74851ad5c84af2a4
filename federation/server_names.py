"""Taking server names apart, and what ``/.well-known/matrix/server`` says about one.

Source: Appendices, "Server Name"; Server-Server API, "Resolving server names". The look-ups are in
`federation.transport`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv6Address, ip_address

import orjson

from federation.errors import BadIdentifier, FederationError
from federation.identifiers import check_server_name

DEFAULT_PORT = 8448

MINUTE_MS = 60 * 1000
HOUR_MS = 60 * MINUTE_MS
LIFETIME_DEFAULT_MS = 24 * HOUR_MS
LIFETIME_MAX_MS = 48 * HOUR_MS
LIFETIME_MIN_MS = MINUTE_MS
"""Even ``no-store`` keeps an answer this long: one burst of requests needs one look-up."""
ERROR_LIFETIME_MIN_MS = MINUTE_MS
ERROR_LIFETIME_MAX_MS = HOUR_MS

_MAX_AGE = re.compile(r"(?:^|,)\s*(?:s-maxage|max-age)\s*=\s*\"?([0-9]{1,9})\"?\s*(?:,|$)", re.IGNORECASE)
_UNCACHED = re.compile(r"(?:^|,)\s*(?:no-store|no-cache)\s*(?:,|$)", re.IGNORECASE)


class BadWellKnown(FederationError):
    """An answer that does not delegate: what follows is as if there were none."""


@dataclass(frozen=True, slots=True)
class ServerName:
    """A server name's parts."""

    host: str
    """A host name in lower case, or an address without brackets."""
    port: int | None
    address: IPv4Address | IPv6Address | None
    """The host, if it is an IP literal."""
    text: str
    """The whole name, which goes into the ``Host`` header."""


def parse_server_name(name: str) -> ServerName:
    """Take a server name apart. Raises BadIdentifier; ports run from 1 to 65535."""
    check_server_name(name)
    if name.startswith("["):
        host, _, port_text = name[1:].partition("]")
        port_text = port_text.removeprefix(":")
    else:
        host, _, port_text = name.partition(":")
    port = int(port_text) if port_text else None
    if port is not None and not 1 <= port <= 65535:
        raise BadIdentifier("Not a valid server name: a port runs from 1 to 65535")
    address: IPv4Address | IPv6Address | None
    try:
        address = ip_address(host)
    except ValueError as cause:
        if name.startswith("["):
            raise BadIdentifier("Not a valid server name: no IPv6 address in the brackets") from cause
        address = None
    if isinstance(address, IPv4Address) == name.startswith("[") and address is not None:
        raise BadIdentifier("Not a valid server name: an IPv6 address has brackets, an IPv4 address none")
    return ServerName(host.lower(), port, address, name)


def read_well_known(body: bytes) -> ServerName:
    """The name that a ``/.well-known/matrix/server`` delegates to. Raises BadWellKnown.

    "servers parsing the response should assume that the body is JSON regardless of type": wellknown.yaml.
    """
    try:
        json = orjson.loads(body)
    except orjson.JSONDecodeError as cause:
        raise BadWellKnown("Not JSON") from cause
    name = json.get("m.server") if isinstance(json, dict) else None
    if not isinstance(name, str):
        raise BadWellKnown("No m.server in it")
    try:
        return parse_server_name(name)
    except BadIdentifier as cause:
        raise BadWellKnown("m.server is not a server name") from cause


def well_known_lifetime_ms(headers: Mapping[str, str], now_ms: int) -> int:
    """How long to keep a valid answer, by its ``Cache-Control`` and ``Expires``. ``headers`` ignore case.

    "Servers should respect the cache control headers …, or use a sensible default …: 24 hours. Servers
    should additionally impose a maximum cache time …: 48 hours".
    """
    control = headers.get("Cache-Control", "")
    lifetime = LIFETIME_DEFAULT_MS
    if _UNCACHED.search(control):
        lifetime = 0
    elif (max_age := _MAX_AGE.search(control)) is not None:
        lifetime = int(max_age[1]) * 1000
    elif (expires := headers.get("Expires")) is not None:
        lifetime = _until_ms(expires, now_ms)
    return min(max(lifetime, LIFETIME_MIN_MS), LIFETIME_MAX_MS)


def _until_ms(expires: str, now_ms: int) -> int:
    try:
        return int(parsedate_to_datetime(expires).timestamp() * 1000) - now_ms
    except (ValueError, OverflowError):
        return 0  # RFC 9111, section 5.3: an invalid date, "0" above all, has passed


def error_lifetime_ms(failures: int) -> int:
    """How long to keep the ``failures``-th failure in a row: longer each time, "up to an hour"."""
    return min(ERROR_LIFETIME_MIN_MS << min(failures - 1, 10), ERROR_LIFETIME_MAX_MS)
