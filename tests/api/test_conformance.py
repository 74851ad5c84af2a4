"""What all tests of the run have seen, held against the specification. `tests/conftest.py` runs this last."""

from __future__ import annotations

import pytest

from tests.conformance import LEFT_OUT, OPERATIONS_MIN, SERVER_OPERATIONS_MIN, SERVER_SERVER, Exchanges


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


def test_enough_operations_are_answered_for_other_servers(
    exchanges: Exchanges, all_server_tests_ran: bool
) -> None:
    if exchanges.recorder is None:
        pytest.skip(LEFT_OUT)
    if not all_server_tests_ran:
        pytest.skip("the count of operations is that of a whole run, and this one chose among the tests")
    missing = exchanges.missing(SERVER_SERVER)
    assert len(exchanges.succeeded_for_servers) >= SERVER_OPERATIONS_MIN, "missing:\n" + "\n".join(missing)
