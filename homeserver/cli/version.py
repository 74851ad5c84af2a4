"""``veche version``."""

from __future__ import annotations

import platform
from importlib.metadata import version as version_of


def version() -> None:
    """Print the versions of Veche, Python and the database's driver: what a report of a fault should name."""
    print(
        f"veche {version_of('veche')} (Python {platform.python_version()}, asyncpg {version_of('asyncpg')})"
    )
