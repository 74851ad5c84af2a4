"""Types of settings, and checks that several sections make."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta

Count = Annotated[int, Meta(ge=1)]
Bytes = Annotated[int, Meta(ge=1)]
Milliseconds = Annotated[int, Meta(ge=1)]

MIB = 1024 * 1024


def check_url(name: str, url: str, schemes: tuple[str, ...]) -> None:
    """Raise ValueError unless a URL has one of the schemes."""
    parts = urlsplit(url)
    if parts.scheme not in schemes:
        raise ValueError(f"{name} must start with {' or '.join(f'{scheme}://' for scheme in schemes)}")
