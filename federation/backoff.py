"""When to try again what failed: the longer it fails, the rarer. No clock, no chance: both are arguments."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

DELAY_MIN_MS = 1_000
DELAY_MAX_MS = 3_600_000
KEYS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Backoff:
    """How something fared lately."""

    failures: int
    """In a row."""
    retry_at_ms: int


def after_failure(before: Backoff | None, now_ms: int, jitter: float, least_ms: int = 0) -> Backoff:
    """What a failure at ``now_ms`` leads to.

    The delay doubles from `DELAY_MIN_MS` to `DELAY_MAX_MS`, and is shortened by up to a half by ``jitter``
    (0 to 1), so that servers that failed together do not come back together. ``least_ms`` is what the
    other side asked for, and is cut to the maximum too.
    """
    failures = (before.failures if before else 0) + 1
    delay_ms = min(DELAY_MIN_MS << min(failures - 1, 30), DELAY_MAX_MS)
    delay_ms -= int(delay_ms * jitter / 2)
    return Backoff(failures, now_ms + max(delay_ms, min(least_ms, DELAY_MAX_MS)))


class Backoffs:
    """Back-offs by key, such as a server name; what does not fail takes no place.

    At most `KEYS_MAX`: the one that failed longest ago is forgotten first.
    """

    def __init__(self) -> None:
        self._states: OrderedDict[str, Backoff] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    def get(self, key: str) -> Backoff | None:
        """How it fared; None if the last attempt succeeded or nothing is known."""
        return self._states.get(key)

    def retry_at_ms(self, key: str, now_ms: int) -> int | None:
        """When the next attempt is due, or None for now."""
        state = self._states.get(key)
        return state.retry_at_ms if state is not None and state.retry_at_ms > now_ms else None

    def failed(self, key: str, now_ms: int, jitter: float, least_ms: int = 0) -> Backoff:
        """Note a failure; see `after_failure`. One that began before the present delay changes nothing,
        so that ten requests that fail together count once."""
        before = self._states.get(key)
        if before is not None and before.retry_at_ms > now_ms:
            return before
        state = after_failure(before, now_ms, jitter, least_ms)
        self._states[key] = state
        self._states.move_to_end(key)
        if len(self._states) > KEYS_MAX:
            self._states.popitem(last=False)
        return state

    def succeeded(self, key: str) -> None:
        """It works, or the other side was heard from: no more delay."""
        self._states.pop(key, None)
