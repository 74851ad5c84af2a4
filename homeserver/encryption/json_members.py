"""Reading the members of JSON objects one after the other.

A backup of 100,000 keys is a body of 100 MB; parsing it at once would hold up the event loop for a second
and take several times its size. Here only one value exists at a time, and the caller pauses where it likes.
"""

from __future__ import annotations

import json
import re
from codecs import utf_8_decode
from collections.abc import Iterator
from math import isinf
from typing import Any

from homeserver.errors import BadJson, NotJson

VALUE_BYTES_MAX = 65_536  # of one value that is read, or passed over
FIRST_LOOK_BYTES = 4096  # most values are shorter: less is copied
OPENING, CLOSING, QUOTE, COLON, COMMA = b'{}":,'
END = -1
_SPACE = re.compile(rb"[ \t\n\r]*")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    """A number that JSON can be written with again. Raises ValueError for one beyond all floats."""
    number = float(text)
    if isinf(number):
        raise ValueError(f"{text} is too large")
    return number


_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)
_CUT = object()


class JsonMembers:
    """A place in a JSON text that moves forward.

    `members` goes into the object that begins here and gives its keys; after each the caller takes the
    value, by `value` or by going into it with `members`. Raises NotJson, and BadJson for values that are too
    long or nested too deep.
    """

    __slots__ = ("_body", "_at")

    def __init__(self, body: bytes | bytearray) -> None:
        self._body = body
        self._at = 0

    def members(self) -> Iterator[str]:
        """The keys of the object that begins here. Raises BadJson if something else does."""
        if self._next() != OPENING:
            raise BadJson("An object is expected here")
        self._at += 1
        if self._next() == CLOSING:
            self._at += 1
            return
        while True:
            if self._next() != QUOTE:
                raise NotJson("A key is expected here")
            key = self.value()
            if self._next() != COLON:
                raise NotJson("A colon is expected after a key")
            self._at += 1
            yield key
            ending = self._next()
            self._at += 1
            if ending == CLOSING:
                return
            if ending != COMMA:
                raise NotJson("A comma is expected after a value")

    def value(self) -> Any:
        """The value that begins here, of VALUE_BYTES_MAX at most."""
        self._next()
        value = self._value(FIRST_LOOK_BYTES)
        if value is not _CUT:
            return value
        value = self._value(VALUE_BYTES_MAX)
        if value is _CUT:
            raise BadJson(f"A value is not valid, or longer than {VALUE_BYTES_MAX} bytes")
        return value

    def end(self) -> None:
        """Raise NotJson if there is more than white space left."""
        if self._next() != END:
            raise NotJson("The body goes on after its JSON")

    def _value(self, bytes_max: int) -> Any:
        """The value, or _CUT if it is none within so many bytes but may be one within more."""
        end = self._at + bytes_max
        is_cut = end < len(self._body)
        try:
            # A character that the end cuts in two is left out.
            text, _ = utf_8_decode(self._body[self._at : end], "strict", not is_cut)
        except UnicodeDecodeError as cause:
            raise NotJson("The body is not valid JSON: it is not UTF-8") from cause
        try:
            value, used = _DECODER.raw_decode(text)
        except RecursionError as cause:
            raise BadJson("The JSON is nested too deep") from cause
        except ValueError as cause:
            if is_cut:
                return _CUT
            raise NotJson("The body is not valid JSON") from cause
        self._at += used if text.isascii() else len(text[:used].encode())
        return value

    def _next(self) -> int:
        """Pass over white space: the byte that comes then, or END."""
        space = _SPACE.match(self._body, self._at)
        if space is not None:
            self._at = space.end()
        return self._body[self._at] if self._at < len(self._body) else END
