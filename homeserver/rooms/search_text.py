"""What a search of the directory looks at: names, aliases and topics without case and accents."""

from __future__ import annotations

from functools import lru_cache

from homeserver.storage.user_directory import fold

PART_LENGTH_MAX = 512  # characters of a name, alias or topic that can be found
WORDS_MAX = 16  # of a search
TERM_LENGTH_MAX = 512


def search_text(*parts: str | None) -> str:
    """The text in which the words of a search are looked for."""
    return _folded("\n".join(part[:PART_LENGTH_MAX] for part in parts if part))


@lru_cache(maxsize=256)  # a room's members come and go more often than its name
def _folded(text: str) -> str:
    return fold(text).replace("\x00", "")


def search_words(term: str) -> list[str]:
    """The folded words of a search, each of which has to be found somewhere in a room's text."""
    return fold(term[:TERM_LENGTH_MAX]).replace("\x00", "").split()[:WORDS_MAX]
