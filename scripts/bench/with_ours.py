"""`python -m bench` of ../shared with our workloads beside its own: run it there, with the same options."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = str(Path(__file__).resolve().parent)
sys.path[0] = str(Path.cwd())  # of the folder that holds the package `bench`, not of this file

from bench.__main__ import main  # noqa: E402
from bench.workloads import WORKLOADS  # noqa: E402

sys.path.insert(1, HERE)

from workloads import WORKLOADS as OURS  # noqa: E402

if __name__ == "__main__":
    WORKLOADS.update(OURS)
    sys.exit(main())
