"""One request, as handlers see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import orjson
from aiohttp import web

from federation.event import JsonObject
from federation.json_depth import is_nested_deeper
from homeserver.api.services import Services
from homeserver.errors import BadJson, BodyTimeout, Forbidden, InvalidParam, MissingParam, NotJson, TooLarge
from homeserver.requester import Requester

QUERY_FIELDS_MAX = 100
BODY_TIMEOUT_S = 60.0  # for a body of the ordinary limit to arrive
JSON_DEPTH_MAX = 100  # deeper bodies are refused: no event or setting is nested so far
# Of other servers' requests: one event among many is judged by itself, so this is what can be parsed at all.
SERVER_JSON_DEPTH_MAX = 1000


class Request:
    """Path parameters, query, body and requester of one request.

    `params` are the decoded placeholders of the route's path. `requester` raises on routes without
    authentication, so that a handler cannot take an anonymous request for a user's.
    """

    __slots__ = (
        "raw",
        "params",
        "services",
        "_requester",
        "_origin",
        "_content",
        "_query_string",
        "_query",
        "body_max_bytes",
        "address",
    )

    def __init__(
        self,
        raw: web.BaseRequest,
        params: dict[str, str],
        query_string: str,
        services: Services,
        body_max_bytes: int,
        address: str,
    ) -> None:
        self.raw = raw
        self.params = params
        self.services = services
        self.body_max_bytes = body_max_bytes
        self.address = address  # of the client, behind trusted proxies too
        self._requester: Requester | None = None
        self._origin: str | None = None
        self._content: Any = None  # the body of a request that was authenticated by it
        self._query_string = query_string
        self._query: dict[str, list[str]] | None = None

    @property
    def requester(self) -> Requester:
        if self._requester is None:
            raise RuntimeError("this route has no authentication, or an optional one")
        return self._requester

    @property
    def optional_requester(self) -> Requester | None:
        """The requester of a route with optional authentication."""
        return self._requester

    @property
    def asker(self) -> str:
        """By whom questions that are passed on to other servers are counted: the user, or the address."""
        return self._requester.user_id if self._requester is not None else self.address

    def authenticated_as(self, requester: Requester) -> None:
        """Called by the dispatcher alone."""
        self._requester = requester

    @property
    def origin(self) -> str:
        """The name of the server that sent the request."""
        if self._origin is None:
            raise RuntimeError("this route is not for other servers")
        return self._origin

    def sent_by(self, origin: str, content: Any) -> None:
        """Called by the dispatcher alone: the server that signed the request, and the JSON in its body."""
        self._origin = origin
        self._content = content

    def own_user_id(self, name: str = "userId") -> str:
        """The path's user id, which must be the requester's. Raises Forbidden for anyone else's."""
        user_id = self.params[name]
        if user_id != self.requester.user_id:
            raise Forbidden("This belongs to another user: use your own user id in the path")
        return user_id

    def _fields(self) -> dict[str, list[str]]:
        if self._query is None:
            self._query = parse_query(self._query_string) if self._query_string else {}
        return self._query

    def query(self, name: str) -> str | None:
        """The first value of a query parameter, if given."""
        values = self._fields().get(name)
        return values[0] if values else None

    def query_required(self, name: str) -> str:
        """As `query`; raises MissingParam."""
        value = self.query(name)
        if value is None:
            raise MissingParam(f"The query parameter {name!r} is required")
        return value

    def query_all(self, name: str) -> list[str]:
        """All values of a repeatable query parameter."""
        return self._fields().get(name, [])

    def query_int(self, name: str, default: int, *, least: int = 0, most: int = 2**53 - 1) -> int:
        """An integer query parameter, cut to `most`. Raises InvalidParam below `least` or if it is none."""
        text = self.query(name)
        if text is None or text == "":
            return default
        try:
            value = int(text) if len(text) <= 20 and text.isascii() and "_" not in text else None
        except ValueError:
            value = None
        if value is None or value < least:
            raise InvalidParam(f"The query parameter {name!r} must be an integer, at least {least}")
        return min(value, most)

    def query_bool(self, name: str, default: bool = False) -> bool:
        """A boolean query parameter: `true` or `false`. Raises InvalidParam."""
        text = self.query(name)
        if text is None:
            return default
        if text not in ("true", "false"):
            raise InvalidParam(f"The query parameter {name!r} must be true or false")
        return text == "true"

    def query_choice(self, name: str, choices: tuple[str, ...], default: str | None = None) -> str:
        """A query parameter that is one of `choices`. Raises MissingParam (no default), InvalidParam."""
        text = self.query(name)
        if text is None:
            if default is None:
                raise MissingParam(f"The query parameter {name!r} is required: one of {', '.join(choices)}")
            return default
        if text not in choices:
            raise InvalidParam(f"The query parameter {name!r} must be one of {', '.join(choices)}")
        return text

    async def body(self) -> bytes:
        """The body as sent. Raises TooLarge over the route's limit, BodyTimeout."""
        self._check_declared()
        if not self.raw.can_read_body:
            return b""
        if self.raw.content_length is None:
            return bytes(await self.large_body())
        if self.raw.content.is_eof():  # it is here, as nearly always
            return await self.raw.content.read()
        async with _patience():
            return await self.raw.content.read()

    async def large_body(self) -> bytearray:
        """As `body`, put together piece by piece as it arrives.

        Tens of megabytes at once would take the event loop a tenth of a second.
        """
        self._check_declared()
        body = bytearray()
        async with _patience():
            while chunk := await self.raw.content.readany():
                body += chunk
                if len(body) > self.body_max_bytes:
                    raise TooLarge(f"The body may have {self.body_max_bytes} bytes at most")
        return body

    def _check_declared(self) -> None:
        declared = self.raw.content_length
        if declared is not None and declared > self.body_max_bytes:
            raise TooLarge(f"The body may have {self.body_max_bytes} bytes at most")

    async def json(self) -> Any:
        """The body as JSON; an empty one is `{}`, as many clients send it. Raises NotJson, TooLarge.

        Floats and big integers pass here: which are allowed is the business of whoever uses the value.
        """
        if self._content is not None:
            return self._content
        body = await self.body()
        return parse_json(body) if body else {}

    async def json_object(self) -> JsonObject:
        """The body as a JSON object. Raises NotJson, BadJson, TooLarge."""
        value = await self.json()
        if not isinstance(value, dict):
            raise BadJson("The body must be a JSON object")
        return value


@asynccontextmanager
async def _patience() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            yield
    except TimeoutError as cause:
        raise BodyTimeout("The body did not arrive in time") from cause


def parse_query(query_string: str) -> dict[str, list[str]]:
    """The decoded fields of a query string, each name's values in order. Raises InvalidParam."""
    fields: dict[str, list[str]] = {}
    if "%" in query_string or "+" in query_string or "\x00" in query_string:
        try:
            fields = parse_qs(
                query_string, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX, errors="strict"
            )
        except ValueError as cause:
            raise InvalidParam("The query string is not valid, or has too many fields") from cause
        if any("\x00" in value for values in fields.values() for value in values):
            raise InvalidParam("The query string holds a NUL character")
        return fields
    # Nothing to decode, as in most requests: parse_qs takes ten times as long, a tenth of an empty sync.
    pairs = query_string.split("&")
    if len(pairs) > QUERY_FIELDS_MAX:
        raise InvalidParam("The query string has too many fields")
    for pair in pairs:
        if pair:
            name, _, value = pair.partition("=")
            fields.setdefault(name, []).append(value)
    return fields


def parse_json(body: bytes, depth_max: int = JSON_DEPTH_MAX) -> Any:
    """A body as JSON of a bounded depth. Raises NotJson, BadJson."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as cause:
        raise NotJson(f"The body is not valid JSON: {cause}") from cause
    if isinstance(value, dict | list) and is_nested_deeper(value, body, depth_max):
        raise BadJson(f"The JSON is nested deeper than {depth_max} levels")
    return value


def any_field(body: JsonObject, name: str) -> Any:
    """A required member of a body, whatever JSON it is, null too. Raises MissingParam."""
    if name not in body:
        raise MissingParam(f"{name!r} is required")
    return body[name]


def text_field(body: JsonObject, name: str, *, most_bytes: int = 65536) -> str:
    """A required string of a body. Raises MissingParam, BadJson."""
    any_field(body, name)
    return optional_text_field(body, name, most_bytes=most_bytes) or ""


def object_field(body: JsonObject, name: str) -> JsonObject:
    """A required object of a body. Raises MissingParam, BadJson."""
    value = body.get(name)
    if value is None:
        raise MissingParam(f"{name!r} is required")
    if not isinstance(value, dict):
        raise BadJson(f"{name!r} must be an object")
    return value


def flag_field(body: JsonObject, name: str, default: bool | None = None) -> bool:
    """A boolean of a body; without ``default`` it is required. Raises MissingParam, BadJson."""
    value = body.get(name, default)
    if value is None:
        raise MissingParam(f"{name!r} is required")
    if not isinstance(value, bool):
        raise BadJson(f"{name!r} must be true or false")
    return value


def optional_text_field(body: JsonObject, name: str, *, most_bytes: int = 65536) -> str | None:
    """A string of a body, or None where it is absent or null. Raises BadJson."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadJson(f"{name!r} must be a string")
    if len(value) > most_bytes or "\x00" in value:
        raise InvalidParam(f"{name!r} is too long or holds a NUL character")
    return value
