"""The worked example in `federation/README.md` is true."""

from __future__ import annotations

import doctest
from pathlib import Path


def test_the_life_of_an_event_happens_as_told() -> None:
    readme = Path(__file__).parents[2] / "federation" / "README.md"
    results = doctest.testfile(str(readme), module_relative=False, optionflags=doctest.REPORT_NDIFF)
    assert results.attempted > 40
    assert results.failed == 0
