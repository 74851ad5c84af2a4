"""Hypothesis strategies for requests: nearly right, wrong, and absurd."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import orjson
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.fuzz.operations import JsonObject, Operation, Parameter

Value = TypeVar("Value")
SCHEMA_DEPTH_MAX = 6
URL_TEXT_MAX = 500  # several together have to fit into one request line

NASTY_TEXT = (
    "",
    " ",
    "\x00",
    "a\x00b",
    "\n",
    "../../etc/passwd",
    "%00",
    "%",
    "'; --",
    "🙂",
    "é" * 200,
    "x" * 256,
    "x" * 70_000,
    "!",
    "@",
    "@:",
    "#a",
    "$",
    "!:veche.test",
    "@bob:",
    "@BOB:veche.test",
    "@bob:other.example",
    "#a:other.example",
    "!a:other.example",
    "m.room.create",
    "m.room.member",
    "m.room.power_levels",
    "m.push_rules",
    "m.fully_read",
    "true",
    "-1",
    "0",
    "1e400",
    "9007199254740993",
    "99999999999999999999999999",
    "NaN",
    "{}",
    "[]",
    "s0",
    "s99999999_99999999999",
    "t-1_-1",
    "s-1_",
    "s1_1_1",
    "\u202e",
    "ﬀ",
)
NASTY_NUMBERS: tuple[object, ...] = (0, -1, 1, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**30, 0.5, -0.0, 1e300)
RAW_BODIES = (
    b"",
    b" ",
    b"{",
    b"[]",
    b"null",
    b"0",
    b'"text"',
    b"\xff\xfe",
    b'{"a": NaN}',
    b'{"a": 1e999}',
    b'{"body": "\\ud800"}',
    b'{"\\ud800": 1}',
    b'{"a": "\\u0000"}',
    b'{"a": 1, "a": 2}',
    b'{"a": ' * 200 + b"1" + b"}" * 200,
    b"[" * 100_000,
    b'{"a": ' + b"9" * 5000 + b"}",
    b"\xef\xbb\xbf{}",
    b"a=1&b=2",
)
OVERSIZED = b'{"body": "' + b"x" * (1024 * 1024 + 1) + b'"}'


@dataclass(frozen=True, slots=True)
class Known:
    """What exists on the node, so that requests get past the first check."""

    rooms: tuple[str, ...]
    users: tuple[str, ...]
    events: tuple[str, ...]
    aliases: tuple[str, ...]
    tokens: tuple[str, ...]
    """Positions for ``since`` and ``from``."""
    devices: tuple[str, ...]

    def like(self, name: str) -> tuple[str, ...]:
        """Values that may stand for a parameter or a property of this name."""
        lowered = name.lower()
        for part, values in (
            ("alias", self.aliases),
            ("roomid", self.rooms + self.aliases),
            ("room", self.rooms),
            ("user", self.users),
            ("event", self.events),
            ("device", self.devices),
            ("since", self.tokens),
            ("from", self.tokens),
            ("to", self.tokens),
            ("statekey", ("", *self.users)),
            (
                "type",
                ("m.room.message", "m.room.member", "m.room.power_levels", "m.room.name", "m.tag", "m.read"),
            ),
        ):
            if part in lowered.replace("_", ""):
                return values
        return ()


@dataclass(frozen=True, slots=True)
class FuzzRequest:
    """One request; ``sender`` says whose token it bears."""

    operation: Operation
    sender: str
    path: str
    body: bytes | None

    def __str__(self) -> str:
        return f"{self.operation.method} {self.path[:600]} as {self.sender}: {(self.body or b'')[:600]!r}"


SENDERS = ("alice", "alice", "alice", "bob", "admin", "guest", "nobody", "garbage")


def requests(operations: Sequence[Operation], known: Known) -> SearchStrategy[FuzzRequest]:
    """Requests to any of the operations."""
    garbage = _garbage()
    text = st.one_of(st.sampled_from(NASTY_TEXT), st.text(max_size=12))

    @st.composite
    def request(draw: DrawFn) -> FuzzRequest:
        operation = draw(st.sampled_from(operations))
        dice = _Dice(draw, garbage, text, known)
        path, query = operation.path, []
        for parameter in operation.parameters:
            if parameter.place == "path":
                path = path.replace(f"{{{parameter.name}}}", quote(dice.segment(parameter), safe=""), 1)
            elif parameter.place == "query" and (parameter.required or dice.one_in(2)):
                query.append(f"{parameter.name}={quote(dice.query(parameter), safe='')}")
        if dice.one_in(60):
            path += draw(st.sampled_from(("/", "//", "/%2f", "%zz", "%ff", "?&=&", "?%zz=%ff", "/x" * 50)))
        if query:
            path += ("&" if "?" in path else "?") + "&".join(query)
        body = None
        if operation.method in ("POST", "PUT"):
            body = dice.body(operation.body)
        return FuzzRequest(operation, draw(st.sampled_from(SENDERS)), path, body)

    return request()


def _garbage() -> SearchStrategy[Any]:
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from(NASTY_NUMBERS),
        st.sampled_from(NASTY_TEXT),
        st.text(max_size=8),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
        ),
        max_leaves=6,
    )


@dataclass(frozen=True, slots=True)
class _Dice:
    draw: DrawFn
    garbage: SearchStrategy[Any]
    text: SearchStrategy[str]
    known: Known

    def one_in(self, count: int) -> bool:
        return self.draw(st.integers(0, count - 1)) == count - 1

    def choose(self, values: Sequence[Value]) -> Value:
        return self.draw(st.sampled_from(values))

    def segment(self, parameter: Parameter) -> str:
        values = self.known.like(parameter.name) or tuple(map(str, parameter.schema.get("enum", ())))
        text = self.choose(values) if values and not self.one_in(8) else self.draw(self.text)
        return text[:URL_TEXT_MAX]

    def query(self, parameter: Parameter) -> str:
        if self.one_in(6):
            return self.draw(self.text)[:URL_TEXT_MAX]
        value = self.value(parameter.schema, parameter.name)
        text = value if isinstance(value, str) else _encoded(value).decode(errors="replace")
        return text[:URL_TEXT_MAX]

    def body(self, schema: JsonObject | None) -> bytes:
        if self.one_in(25):
            return self.choose(RAW_BODIES)
        if self.one_in(400):
            return OVERSIZED
        return _encoded(self.value(schema or {"type": "object"}, ""))

    def value(self, schema: JsonObject, name: str, depth: int = 0) -> Any:
        """A JSON value of the schema; one in a dozen times any other, at any place in it."""
        if self.one_in(12) or depth > SCHEMA_DEPTH_MAX:
            return self.draw(self.garbage)
        for choice in ("oneOf", "anyOf"):
            if schema.get(choice):
                return self.value(self.choose(schema[choice]), name, depth + 1)
        if schema.get("allOf"):
            return self._object(_merged(schema), depth)
        if schema.get("enum"):
            return self.choose(schema["enum"])
        kind = schema.get("type", "object" if "properties" in schema else None)
        kind = self.choose(kind) if isinstance(kind, list) else kind
        makers: dict[str, Callable[[], Any]] = {
            "object": lambda: self._object(schema, depth),
            "array": lambda: self._list(schema, name, depth),
            "string": lambda: self._string(name),
            "integer": lambda: self.draw(st.integers(-2, 2000)),
            "number": lambda: self.draw(st.integers(-2, 2000)),
            "boolean": lambda: self.draw(st.booleans()),
        }
        return makers[kind]() if kind in makers else self.draw(self.garbage)

    def _string(self, name: str) -> str:
        values = self.known.like(name)
        return self.choose(values) if values and not self.one_in(4) else self.draw(self.text)

    def _list(self, schema: JsonObject, name: str, depth: int) -> list[Any]:
        items = schema.get("items", {})
        return [self.value(items, name, depth + 1) for _ in range(self.draw(st.integers(0, 3)))]

    def _object(self, schema: JsonObject, depth: int) -> JsonObject:
        required = schema.get("required", ())
        made = {
            name: self.value(each, name, depth + 1)
            for name, each in schema.get("properties", {}).items()
            if (name in required and not self.one_in(15)) or self.one_in(3)
        }
        more = schema.get("additionalProperties")
        if isinstance(more, dict):
            key = (
                self.choose((*self.known.users, *self.known.rooms))
                if self.one_in(2)
                else self.draw(self.text)
            )
            made[key] = self.value(more, key, depth + 1)
        elif self.one_in(8):
            made[self.draw(self.text)] = self.draw(self.garbage)
        return made


def _merged(schema: JsonObject) -> JsonObject:
    """The properties of an ``allOf`` in one object schema."""
    properties = dict(schema.get("properties", {}))
    required = list(schema.get("required", ()))
    for part in schema["allOf"]:
        inner = _merged(part) if part.get("allOf") else part
        properties |= inner.get("properties", {})
        required += inner.get("required", ())
    return {"type": "object", "properties": properties, "required": required}


def _encoded(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # wider than 64 bits
        return json.dumps(value).encode(errors="surrogatepass")
