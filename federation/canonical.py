"""Canonical JSON. Source: Appendices, "Canonical JSON"; rooms/v1 and rooms/v6, "Canonical JSON".

orjson writes the same bytes as the reference implementation (`canonicaljson`) at a twentieth of the
cost, except that it accepts floats and wide integers, and stops at 254 levels. The walk before it
and the slow path behind it make up for both; a property test holds the two byte-equal.
"""

from __future__ import annotations

from typing import Any

import canonicaljson
import orjson

from federation.errors import NotCanonical

JsonObject = dict[str, Any]

INTEGER_MAX = 2**53 - 1
DEPTH_MAX = 512
"""Levels of nesting that we encode. The specification names no limit, and every parser has one."""

_OPTIONS = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)


def encode_canonical(value: Any) -> bytes:
    """The one canonical encoding of a JSON value.

    Raises NotCanonical on floats, on integers beyond ±(2**53 - 1), on keys that are not strings, on
    lone surrogates, and on nesting deeper than `DEPTH_MAX`.
    """
    check_canonical(value)
    return encode_checked(value)


def encode_legacy(value: Any) -> bytes:
    """As `encode_canonical`, for rooms before version 6: floats and wide integers pass.

    They are written as `canonicaljson` writes them, which is what old events' hashes were made of.
    Raises NotCanonical for all else that has no encoding, NaN and infinities among it.
    """
    try:
        check_canonical(value)
    except NotCanonical:
        return _encode_slowly(value)
    return encode_checked(value)


def check_canonical(value: Any) -> None:
    """Raise NotCanonical if a value holds a number, key or type that Canonical JSON excludes.

    Strings are not looked into here: lone surrogates show when encoding.
    """
    # A list instead of recursion: hostile nesting costs memory in proportion, never the stack.
    pending = [value]
    while pending:
        item = pending.pop()
        kind = type(item)
        if kind is str or kind is bool or item is None:
            continue
        if kind is int:
            if not -INTEGER_MAX <= item <= INTEGER_MAX:
                raise NotCanonical("An integer is outside ±(2**53 - 1)")
        elif kind is dict:
            for key in item:
                if type(key) is not str:
                    raise NotCanonical("An object has a key that is not a string")
            pending += item.values()
        elif kind is list or kind is tuple:
            pending += item
        elif kind is float:
            raise NotCanonical("Floats are not permitted")
        else:
            raise NotCanonical(f"{kind.__name__} is not a JSON type")


def encode_checked(value: Any) -> bytes:
    """Encode what passed `check_canonical`, or what we made ourselves, without walking it again.

    Parts may be `orjson.Fragment`: bytes that are canonical already. Raises NotCanonical.
    """
    try:
        return orjson.dumps(value, option=_OPTIONS)
    except orjson.JSONEncodeError:
        # Deeper than orjson goes, or text that has no UTF-8 form: the slow path knows which.
        return _encode_slowly(value)


def _encode_slowly(value: Any) -> bytes:
    _check_structure(value)
    try:
        return canonicaljson.encode_canonical_json(value)
    except UnicodeEncodeError as cause:
        raise NotCanonical("Text holds a lone surrogate") from cause
    except (ValueError, TypeError, RecursionError) as cause:
        raise NotCanonical("A value has no JSON encoding") from cause


def _check_structure(value: Any) -> None:
    level, depth = [value], 0
    while level:
        if depth > DEPTH_MAX:
            raise NotCanonical(f"Nested deeper than {DEPTH_MAX} levels")
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                if not all(type(key) is str for key in item):
                    raise NotCanonical("An object has a key that is not a string")
                below += item.values()
            elif isinstance(item, list | tuple):
                below += item
        level, depth = below, depth + 1
