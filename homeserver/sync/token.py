"""Sync tokens: `s{position}_{ephemeral}`, a position of the commit log and a count of what is never stored.

Clients treat them as opaque (Client-Server API, "Syncing"); ours are told apart from the history tokens of
/messages by their first letter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from homeserver.errors import InvalidParam

_TOKEN = re.compile(r"s([0-9]{1,18})(?:_([0-9]{1,18}))?")


@dataclass(frozen=True, slots=True)
class SyncToken:
    """A point in the log, and one in the count of typing and presence."""

    position: int
    ephemeral: int = 0

    def __str__(self) -> str:
        return f"s{self.position}_{self.ephemeral}"


def parse_token(text: str) -> SyncToken:
    """Read a token that this node gave. Raises InvalidParam."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise InvalidParam("This is not a token that /sync gave: start again without it")
    return SyncToken(int(match[1]), int(match[2] or 0))
