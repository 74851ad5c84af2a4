"""Back-off: doubling, bounded, ended by success."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from federation.backoff import DELAY_MAX_MS, DELAY_MIN_MS, KEYS_MAX, Backoffs, after_failure

NOW_MS = 1_700_000_000_000


@given(st.lists(st.floats(0, 1), min_size=1, max_size=80))
def test_the_delay_doubles_within_its_bounds(jitters: list[float]) -> None:
    state, now = None, NOW_MS
    for count, jitter in enumerate(jitters, start=1):
        state = after_failure(state, now, jitter)
        full = min(DELAY_MIN_MS * 2 ** (count - 1), DELAY_MAX_MS)
        assert state.failures == count
        assert full / 2 <= state.retry_at_ms - now <= full
        now = state.retry_at_ms


def test_what_the_other_side_asks_for_is_kept_to_within_reason() -> None:
    assert after_failure(None, NOW_MS, 0, 60_000).retry_at_ms == NOW_MS + 60_000
    assert after_failure(None, NOW_MS, 0, 10**12).retry_at_ms == NOW_MS + DELAY_MAX_MS


def test_requests_that_fail_together_count_once() -> None:
    backoffs = Backoffs()
    first = backoffs.failed("a.example", NOW_MS, 0)
    assert backoffs.failed("a.example", NOW_MS + 1, 0) == first
    assert backoffs.failed("a.example", first.retry_at_ms, 0).failures == 2


def test_success_ends_it() -> None:
    backoffs = Backoffs()
    backoffs.failed("a.example", NOW_MS, 0)
    assert backoffs.retry_at_ms("a.example", NOW_MS) == NOW_MS + DELAY_MIN_MS
    assert backoffs.retry_at_ms("a.example", NOW_MS + DELAY_MIN_MS) is None
    backoffs.succeeded("a.example")
    assert backoffs.get("a.example") is None
    assert backoffs.failed("a.example", NOW_MS, 0).failures == 1


def test_no_more_are_kept_than_the_bound() -> None:
    backoffs = Backoffs()
    for number in range(KEYS_MAX + 10):
        backoffs.failed(f"{number}.example", NOW_MS, 0)
    assert len(backoffs) == KEYS_MAX
    assert backoffs.get("0.example") is None
