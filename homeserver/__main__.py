"""``python -m homeserver``, the same as ``veche``."""

from __future__ import annotations

import sys

from homeserver.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
