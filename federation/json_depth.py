"""How deeply JSON from strangers is nested: what walks it later recurses."""

from __future__ import annotations

from typing import Any

# Longer text has brackets enough, and takes longer to look through than its values.
COUNTED_BYTES_MAX = 16 * 1024


def is_nested_deeper(value: Any, encoded: bytes, levels: int) -> bool:
    """Whether a JSON value has more than so many levels; `encoded` is its text.

    Most text has too few brackets for that, which is seen without a walk.
    """
    size_bytes = len(encoded)
    if size_bytes <= COUNTED_BYTES_MAX and (
        size_bytes <= levels or encoded.count(b"[") + encoded.count(b"{") <= levels
    ):
        return False
    return has_more_levels(value, levels)


def has_more_levels(value: Any, levels: int) -> bool:
    """As `is_nested_deeper`, of a value whose text is not at hand: what a JSON parser makes."""
    level = [value]
    for _ in range(levels):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True
