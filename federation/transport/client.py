"""Signed requests to other servers, with bounds on time and size, and typed failures."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Protocol
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
import orjson

from federation.backoff import Backoffs
from federation.canonical import JsonObject, encode_legacy
from federation.keys import SigningKey
from federation.request_auth import authorization_header
from federation.transport.connecting import Connections, Target, failure_of, read_bounded
from federation.transport.errors import (
    BackingOff,
    BadResponse,
    ForbiddenAddress,
    NotPermitted,
    Refused,
    RequestFailed,
    Unreachable,
)

TIMEOUT_S = 30.0
RESPONSE_BYTES_MAX = 16 * 1024 * 1024
ERROR_BYTES_MAX = 64 * 1024
ERROR_TEXT_MAX = 200

_SECONDS = re.compile(r"[0-9]{1,9}")

Query = Mapping[str, str | Sequence[str]]


def path_of(template: str, *segments: str) -> str:
    """A path from a template with ``{}`` for each segment, which is percent-encoded whole."""
    return template.format(*(quote(segment, safe="") for segment in segments))


class Finder(Protocol):
    """Says where servers are reached: `discovery.Discovery`, or `discovery.ByHttps`."""

    async def find(self, server_name: str) -> Target:
        """Raises Unreachable, also for what is no server name."""
        ...


class FederationClient:
    """Asks other servers in this one's name.

    ``permits`` says whether this node talks to a server at all; ``observe`` counts the outcome of each
    request by the name of the failure's class, or ``ok``.
    """

    def __init__(
        self,
        server_name: str,
        key: SigningKey,
        connections: Connections,
        discovery: Finder,
        *,
        permits: Callable[[str], bool],
        clock: Callable[[], int],
        random: Random,
        observe: Callable[[str], None],
    ) -> None:
        self._server_name = server_name
        self._key = key
        self._connections = connections
        self._discovery = discovery
        self._permits = permits
        self._clock = clock
        self._random = random
        self._observe = observe
        self.backoffs = Backoffs()
        """By server. Whoever hears from a server calls ``succeeded``."""

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()

    async def request(
        self,
        destination: str,
        method: str,
        path: str,
        query: Query | None = None,
        body: JsonObject | bytes | None = None,
        *,
        signed: bool = True,
        access_token: str | None = None,
        despite_backoff: bool = False,
        behind_status: bool = False,
        unread_lists: Sequence[str] = (),
        timeout_s: float = TIMEOUT_S,
        response_bytes_max: int = RESPONSE_BYTES_MAX,
    ) -> JsonObject:
        """The JSON object that ``destination`` answers with.

        With ``behind_status`` the answer is ``[200, {…}]``, as it is in version 1 of three operations. Lists
        of the object that are named in ``unread_lists`` have their entries as text (`msgspec.Raw`): to read
        ten thousand events at once would hold up everything else for a tenth of a second.
        ``path`` is percent-encoded (see `path_of`); a ``body`` of bytes is canonical JSON already.
        ``timeout_s`` covers everything from discovery to the answer's last byte. Only reading keys goes
        unsigned; an ``access_token``, which is printable ASCII, stands in the signature's place. Raises the
        classes in `errors`, and NotCanonical for a body that has no JSON form; NotPermitted and BackingOff
        before anything is sent.
        """
        try:
            if not self._permits(destination):
                raise NotPermitted(destination, "this node does not talk to it: see federation.mode")
            retry_at_ms = self.backoffs.retry_at_ms(destination, self._clock())
            if retry_at_ms is not None and not despite_backoff:
                raise BackingOff(destination, retry_at_ms)
            uri = f"{path}?{urlencode(query, doseq=True)}" if query else path
            content = body if body is None or isinstance(body, bytes) else encode_legacy(body)
            headers = {"Accept": "application/json"}
            if content is not None:
                headers["Content-Type"] = "application/json"
            if access_token is not None:
                headers["Authorization"] = f"Bearer {access_token}"
            elif signed:
                headers["Authorization"] = authorization_header(
                    self._key, method, uri, self._server_name, destination, content
                )
            received = await self._send(
                destination, method, uri, headers, content, timeout_s, response_bytes_max
            )
            answer = _json_object(destination, received, behind_status, unread_lists)
        except RequestFailed as failure:
            self._note(destination, failure)
            self._observe(type(failure).__name__)
            raise
        self.backoffs.succeeded(destination)
        self._observe("ok")
        return answer

    def _note(self, destination: str, failure: RequestFailed) -> None:
        """What a failure says about the server as a whole, rather than about one request."""
        match failure:
            case Unreachable() | ForbiddenAddress():
                least_ms = 0
            case Refused() if failure.may_retry:
                least_ms = failure.retry_after_ms or 0
            case Refused() | BadResponse():  # it answers
                self.backoffs.succeeded(destination)
                return
            case _:
                return
        self.backoffs.failed(destination, self._clock(), self._random.random(), least_ms)

    async def _send(
        self,
        destination: str,
        method: str,
        uri: str,
        headers: Mapping[str, str],
        content: bytes | None,
        timeout_s: float,
        bytes_max: int,
    ) -> bytes:
        try:
            async with asyncio.timeout(timeout_s):
                target = await self._discovery.find(destination)
                async with self._connections.request(
                    destination, target, method, uri, headers, content
                ) as response:
                    if response.status != 200:
                        raise await _refusal(destination, response)
                    received = await read_bounded(response, bytes_max)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise failure_of(destination, error) from error
        if received is None:
            raise BadResponse(destination, f"answered with more than {bytes_max} bytes")
        return received


def _json_object(
    destination: str, body: bytes, behind_status: bool, unread_lists: Sequence[str]
) -> JsonObject:
    try:  # both parsers stop at about a thousand levels
        if unread_lists and not behind_status:
            return _partly_read(body, unread_lists)
        value = orjson.loads(body)
    except (ValueError, msgspec.DecodeError, RecursionError) as cause:
        raise BadResponse(destination, "answered with what is no JSON of an object") from cause
    if behind_status and isinstance(value, list) and len(value) == 2:
        value = value[1]
    if not isinstance(value, dict):
        raise BadResponse(destination, "answered with what is not a JSON object")
    return value


def _partly_read(body: bytes, unread_lists: Sequence[str]) -> JsonObject:
    """Raises ValueError, DecodeError, RecursionError."""
    values = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return {
        name: msgspec.json.decode(value, type=list[msgspec.Raw])
        if name in unread_lists
        else orjson.loads(memoryview(value))
        for name, value in values.items()
    }


async def _refusal(destination: str, response: aiohttp.ClientResponse) -> Refused:
    body = await read_bounded(response, ERROR_BYTES_MAX)
    try:
        said = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        said = None
    json = said if isinstance(said, dict) else {}
    retry_after_ms = json.get("retry_after_ms")
    if not isinstance(retry_after_ms, int) or isinstance(retry_after_ms, bool) or retry_after_ms < 0:
        seconds = response.headers.get("Retry-After", "")
        retry_after_ms = int(seconds) * 1000 if _SECONDS.fullmatch(seconds) else None
    return Refused(
        destination,
        response.status,
        _text(json.get("errcode")),
        _text(json.get("error")),
        retry_after_ms,
        _text(json.get("room_version")),
    )


def _text(value: object) -> str:
    """The other server's words, fit for a log."""
    if not isinstance(value, str):
        return ""
    return "".join(character for character in value[:ERROR_TEXT_MAX] if character.isprintable())
