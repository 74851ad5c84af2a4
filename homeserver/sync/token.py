"""Sync tokens: `s{position}_{ephemeral}`, a position of the commit log and a count of what is never stored.

Where more to-device messages waited than one answer brings, a third number says up to where they were told.

Clients treat them as opaque (Client-Server API, "Syncing"); ours are told apart from the history tokens of
/messages by their first letter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from homeserver.errors import InvalidParam

_TOKEN = re.compile(r"s([0-9]{1,18})(?:_([0-9]{1,18})(?:_([0-9]{1,18}))?)?")


@dataclass(frozen=True, slots=True)
class SyncToken:
    """A point in the log, and one in the count of typing and presence.

    `behind` is the position up to which to-device messages were told, where that is not `position`.
    """

    position: int
    ephemeral: int = 0
    behind: int | None = None

    @property
    def to_device(self) -> int:
        """The position up to which to-device messages were told."""
        return self.position if self.behind is None else self.behind

    def __str__(self) -> str:
        if self.behind is None:
            return f"s{self.position}_{self.ephemeral}"
        return f"s{self.position}_{self.ephemeral}_{self.behind}"


def parse_token(text: str) -> SyncToken:
    """Read a token that this node gave. Raises InvalidParam."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise InvalidParam("This is not a token that /sync gave: start again without it")
    return SyncToken(int(match[1]), int(match[2] or 0), int(match[3]) if match[3] else None)
