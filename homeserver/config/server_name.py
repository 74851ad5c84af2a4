"""Whether a name is fit to be a server's for ever: a server's name can never be changed."""

from __future__ import annotations

import ipaddress
import re

from federation.identifiers import is_valid_server_name

# Room and event IDs had 255 bytes to share with the name; user IDs still do.
SERVER_NAME_BYTES_MAX = 230
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# RFC 2606 and RFC 6761: names that nobody can own.
_RESERVED = ("example.com", "example.net", "example.org")
_RESERVED_TOP_LEVEL = ("example", "invalid", "onion")


class DoubtfulServerName(Exception):
    """The name is wrong, or works today and is regretted later; the message says what to use instead.

    ``forceable`` is whether whoever insists may have it.
    """

    def __init__(self, message: str, *, forceable: bool = False) -> None:
        super().__init__(message)
        self.forceable = forceable


def check_new_server_name(name: str, *, force: bool = False) -> None:
    """Raise DoubtfulServerName unless ``name`` is a domain of one's own, or ``localhost``, perhaps with port.

    ``force`` lets through what the specification permits: IP addresses, ports, names without a dot.
    Source: Appendices, "Server Name".
    """
    try:
        _check(name)
    except DoubtfulServerName as doubt:
        if not (force and doubt.forceable):
            raise


def _check(name: str) -> None:
    host, port = _split_port(name)
    if "://" in name or "/" in name:
        wanted = name.partition("://")[2].partition("/")[0] if "://" in name else name.partition("/")[0]
        raise DoubtfulServerName(
            f"a server name is a domain, not an address of a page: did you mean {wanted!r}?"
        )
    if "@" in name:
        raise DoubtfulServerName(
            f"a server name has no user in it: did you mean {name.rpartition('@')[2]!r}?"
        )
    if not name.isascii():
        raise DoubtfulServerName(f"a server name is ASCII{_in_ascii(name)}")
    if name != name.lower():
        raise DoubtfulServerName(f"a server name is written in lower case: did you mean {name.lower()!r}?")
    if not is_valid_server_name(name) or len(name) > SERVER_NAME_BYTES_MAX:
        raise DoubtfulServerName(f"{name!r} is not a domain, such as company.com")
    if host == "localhost":
        return
    if _is_ip_literal(host):
        raise DoubtfulServerName(
            f"{name!r} is an IP address, which will change or pass to somebody else: use a domain of yours",
            forceable=True,
        )
    if not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise DoubtfulServerName(f"{name!r} is not a domain, such as company.com")
    if "." not in host:
        raise DoubtfulServerName(
            f"{name!r} has no dot, so no other server could ever find it: use a domain of yours, "
            "or localhost to try things out on this machine",
            forceable=True,
        )
    if host in _RESERVED or host.rpartition(".")[2] in _RESERVED_TOP_LEVEL:
        raise DoubtfulServerName(f"{name!r} is reserved for examples: use a domain of yours", forceable=True)
    if port:
        raise DoubtfulServerName(
            f"the port in {name!r} would be part of every user's name for ever: use {host!r}, and tell other "
            "servers the port by server.public_federation_address",
            forceable=True,
        )


def _split_port(name: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.*?)(?::(\d{1,5}))?", name)
    return (match[1], match[2] or "") if match else (name, "")


def _is_ip_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _in_ascii(name: str) -> str:
    try:
        return f": {name!r} is written {name.encode('idna').decode()!r}"
    except UnicodeError:
        return ""
