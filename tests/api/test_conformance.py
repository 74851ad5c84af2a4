"""What all tests of the run have seen, held against the specification. `tests/conftest.py` runs this last."""

from __future__ import annotations

import pytest

from tests.conformance import LEFT_OUT, OPERATIONS_MIN, Exchanges


def test_no_response_violates_the_specification(exchanges: Exchanges) -> None:
    if exchanges.recorder is None:
        pytest.skip(LEFT_OUT)
    assert exchanges.violations == {}


def test_enough_operations_are_answered(exchanges: Exchanges, all_api_tests_ran: bool) -> None:
    if exchanges.recorder is None:
        pytest.skip(LEFT_OUT)
    if not all_api_tests_ran:
        pytest.skip("the count of operations is that of a whole run, and this one chose among the tests")
    assert len(exchanges.succeeded) >= OPERATIONS_MIN, "missing:\n" + "\n".join(exchanges.missing())
