"""Questions to other servers that one of our users waits for: short deadlines, answers kept briefly.

Source: Server-Server API, "Querying for information", "Published Room Directory", "Spaces".
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from urllib.parse import urlencode

import orjson
import structlog

from federation.canonical import JsonObject
from federation.errors import BadIdentifier
from federation.server_names import parse_server_name
from federation.transport.client import FederationClient
from federation.transport.errors import (
    BadResponse,
    ForbiddenAddress,
    NotPermitted,
    Refused,
    RequestFailed,
    Unreachable,
)
from federation.transport.single_flight import SingleFlight
from homeserver.accounts.rate_limits import RateLimits
from homeserver.clock import Clock, now_ms
from homeserver.errors import Forbidden, NotFound, PeerFailed

log = structlog.get_logger()

TIMEOUT_S = 5.0  # a user looks at a spinner meanwhile
ANSWER_BYTES_MAX = 256 * 1024
KEPT_MS = 60_000
REFUSAL_KEPT_MS = 20_000  # what is not there yet may come
KEPT_COUNT_MAX = 5_000
REFUSAL_BYTES = 500  # that a refusal takes, about
AT_ONCE_MAX = 100  # of all users together


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A signed request that changes nothing; with a ``body`` it is a POST, and its answer is not kept."""

    destination: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: JsonObject | None = field(default=None, hash=False)
    timeout_s: float = TIMEOUT_S
    bytes_max: int = ANSWER_BYTES_MAX
    kept_ms: int = KEPT_MS

    @property
    def key(self) -> tuple[str, str]:
        return self.destination, f"{self.path}?{urlencode(self.query)}"


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer, or the error that others who ask the same meanwhile get as well."""

    outcome: JsonObject | Refused | BadResponse
    until_ms: int
    size_bytes: int


class Asking:
    """Asks, one for all who want to know the same; refusals are kept as answers are.

    Servers that fail are left alone by the client's back-off, and those that this node does not talk to
    are never asked.
    """

    def __init__(
        self, client: FederationClient, rate_limits: RateLimits, *, cache_bytes: int, clock: Clock = now_ms
    ) -> None:
        self._client = client
        self._rate_limits = rate_limits
        self._cache_bytes = cache_bytes
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._flights: SingleFlight[tuple[str, str], JsonObject] = SingleFlight()
        self._slots = asyncio.Semaphore(AT_ONCE_MAX)
        self.size_bytes = 0

    async def ask(self, question: Question, asker: str) -> JsonObject:
        """The other server's answer, still to be checked, not to be changed.

        ``asker`` is the user, or the address of who is not logged in. Raises RequestFailed, LimitExceeded.
        """
        _check_name(question.destination)
        if question.body is not None:
            self._rate_limits.check("remote_lookups", asker)
            return await self._request(question)
        kept = self._kept.get(question.key)
        if kept is not None and kept.until_ms > self._clock():
            self._kept.move_to_end(question.key)
            if isinstance(kept.outcome, RequestFailed):
                raise _again(kept.outcome)
            return kept.outcome
        self._rate_limits.check("remote_lookups", asker)
        return await self._flights.run(question.key, lambda: self._fetch(question))

    async def _fetch(self, question: Question) -> JsonObject:
        try:
            answer = await self._request(question)
        except (Refused, BadResponse) as failure:
            if not failure.may_retry:
                self._keep(question, _again(failure), REFUSAL_BYTES, REFUSAL_KEPT_MS)
            raise
        self._keep(question, answer, len(orjson.dumps(answer)), question.kept_ms)
        return answer

    async def _request(self, question: Question) -> JsonObject:
        method = "GET" if question.body is None else "POST"
        try:
            async with asyncio.timeout(question.timeout_s):
                await self._slots.acquire()
        except TimeoutError as cause:
            raise Unreachable(question.destination, "too many others are being asked") from cause
        try:
            return await self._client.request(
                question.destination,
                method,
                question.path,
                dict(question.query),
                question.body,
                timeout_s=question.timeout_s,
                response_bytes_max=question.bytes_max,
            )
        finally:
            self._slots.release()

    def _keep(
        self,
        question: Question,
        outcome: JsonObject | Refused | BadResponse,
        size_bytes: int,
        kept_ms: int,
    ) -> None:
        self._drop(question.key)
        size_bytes += sum(map(len, question.key))
        self._kept[question.key] = _Kept(outcome, self._clock() + kept_ms, size_bytes)
        self.size_bytes += size_bytes
        while self._kept and (self.size_bytes > self._cache_bytes or len(self._kept) > KEPT_COUNT_MAX):
            self._drop(next(iter(self._kept)))

    def _drop(self, key: tuple[str, str]) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.size_bytes -= kept.size_bytes


def _again(failure: Refused | BadResponse) -> Refused | BadResponse:
    """The same failure, without the frames that one holds which was raised."""
    if isinstance(failure, BadResponse):
        return BadResponse(failure.destination, "answered with what is no answer, a short time ago")
    return Refused(
        failure.destination,
        failure.status,
        failure.errcode,
        failure.message,
        failure.retry_after_ms,
        failure.room_version,
    )


def _check_name(destination: str) -> None:
    """Users type server names; what is none is no server. Raises NotPermitted."""
    try:
        parse_server_name(destination)
    except BadIdentifier as cause:
        raise NotPermitted(destination[:50], "is no server name") from cause


def failed(failure: RequestFailed, missing: str) -> NotFound | Forbidden | PeerFailed:
    """What a client is told of a question that was not answered; ``missing`` where nothing is known.

    That this node does not talk to a server is not told apart from that there is none.
    """
    match failure:
        case NotPermitted() | ForbiddenAddress():
            return NotFound(missing)
        case Refused(status=404):
            return NotFound(missing)
        case Refused(status=403):
            return Forbidden("The other server does not tell this")
        case _:
            log.info("question not answered", server=failure.destination, cause=str(failure))
            return PeerFailed("The other server could not be asked: try again later")
