"""Which servers may take part in a room. Source: Client-Server API, "Server Access Control Lists (ACLs)".

Only about what comes over the network: no authorisation rule looks at it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeGuard

from federation.canonical import JsonObject
from federation.errors import BadIdentifier
from federation.identifiers import MAX_ID_BYTES
from federation.server_names import parse_server_name

_STARS = re.compile(r"\*+")
_WILDCARD = re.compile(r"[*?]")


@dataclass(frozen=True, slots=True)
class ServerGlobs:
    """A list of glob-style patterns, in lower case."""

    names: frozenset[str]
    """Those without wildcards, which most are."""
    pattern: re.Pattern[str] | None
    """All others."""

    @classmethod
    def of(cls, entries: object) -> ServerGlobs:
        """What is no list of strings is an empty one."""
        texts = {entry.lower() for entry in entries if isinstance(entry, str)} if _is_list(entries) else set()
        globs = sorted(text for text in texts if _WILDCARD.search(text) and _fits(text))
        pattern = re.compile("|".join(map(_translated, globs)), re.DOTALL) if globs else None
        return cls(frozenset(text for text in texts if not _WILDCARD.search(text)), pattern)

    def match(self, host: str) -> bool:
        """Whether one of them matches the whole of a host in lower case."""
        return host in self.names or (self.pattern is not None and self.pattern.fullmatch(host) is not None)


@dataclass(frozen=True, slots=True)
class ServerAcl:
    """The content of an ``m.room.server_acl`` event, read once."""

    allow: ServerGlobs
    deny: ServerGlobs
    allow_ip_literals: bool = True

    @classmethod
    def of(cls, content: JsonObject) -> ServerAcl:
        """What an event's content says; what has the wrong type says nothing."""
        return cls(
            allow=ServerGlobs.of(content.get("allow")),
            deny=ServerGlobs.of(content.get("deny")),
            # "Defaults to true if missing or otherwise not a boolean."
            allow_ip_literals=content.get("allow_ip_literals") is not False,
        )

    def permits(self, server_name: str) -> bool:
        """Whether a server may take part; what is no server name may not."""
        try:
            # "the suspect server's port number must not be considered"
            name = parse_server_name(server_name)
        except BadIdentifier:
            return False
        # "2. If the server name is an IP address (v4 or v6) literal, and allow_ip_literals is present and
        # false, deny."
        if name.address is not None and not self.allow_ip_literals:
            return False
        # An IPv6 literal is written in brackets, wherever it is named.
        host = f"[{name.host}]" if name.text.startswith("[") else name.host
        # "3. If the server name matches an entry in the deny list, deny."
        # "4. If the server name matches an entry in the allow list, allow." "5. Otherwise, deny."
        return not self.deny.match(host) and self.allow.match(host)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _fits(glob: str) -> bool:
    """Whether a server's name can be long enough for a glob."""
    return len(glob) - glob.count("*") <= MAX_ID_BYTES


def _translated(glob: str) -> str:
    """A glob as a pattern that is never slow: the leftmost place for each part between stars leaves the most
    room for the next, so that none of them is ever tried elsewhere (atomic groups)."""
    first, *parts = (
        "".join("." if character == "?" else re.escape(character) for character in part)
        for part in _STARS.split(glob)
    )
    if not parts:
        return first
    *between, last = parts
    return first + "".join(f"(?>.*?{part})" for part in between) + f".*{last}"
