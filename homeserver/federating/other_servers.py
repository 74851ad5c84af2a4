"""Asking several servers in turn, until one does what is wanted; and what to tell the client if none does."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import structlog

from federation.errors import BadSignature, FederationError, MissingHash, NotCanonical
from federation.identifiers import is_valid_server_name
from federation.transport.errors import BackingOff, NotPermitted, Refused, RequestFailed, Unreachable
from homeserver.errors import (
    BadJson,
    Forbidden,
    IncompatibleRoomVersion,
    InvalidParam,
    MatrixError,
    NotFound,
    PeerFailed,
)

log = structlog.get_logger()

SERVERS_MAX = 8  # asked for one thing
OUR_FAULT = ("M_MISSING_PARAM", "M_INVALID_PARAM", "M_BAD_JSON", "M_NOT_JSON", "M_UNRECOGNIZED", "M_UNKNOWN")
_ERRCODE = re.compile(r"[A-Z][A-Z0-9_.]{0,99}")

T = TypeVar("T")


class UnableToAuthoriseJoin(MatrixError):
    """The server cannot tell whether the user meets a restricted room's conditions."""

    errcode = "M_UNABLE_TO_AUTHORISE_JOIN"


class UnableToGrantJoin(MatrixError):
    """The user meets a restricted room's conditions, but nobody on the server may let them in."""

    errcode = "M_UNABLE_TO_GRANT_JOIN"


def refused_event(cause: FederationError, what: str) -> MatrixError:
    """The answer to a server whose event is none, or not signed as it must be."""
    message = f"The {what} cannot be accepted: {cause}"
    match cause:
        case BadSignature() | MissingHash():
            return Forbidden(message)
        case FederationError(__cause__=NotCanonical()):
            return BadJson(message)
    return InvalidParam(message)


class PassedOn(MatrixError):
    """What another server said of the request, in its own code."""

    def __init__(self, errcode: str, message: str) -> None:
        super().__init__(message)
        self.errcode = errcode


class GatewayTimeout(MatrixError):
    """Another server did not answer."""

    status = 504


def candidates(servers: Iterable[str], own: str) -> list[str]:
    """The servers to ask, each once and in this order, without ourselves and what is no server name."""
    names = dict.fromkeys(name for name in servers if name != own and is_valid_server_name(name))
    return list(names)[:SERVERS_MAX]


async def first_that_does(servers: Iterable[str], ask: Callable[[str], Awaitable[T]], what: str) -> T:
    """What ``ask`` returns for the first server for which it succeeds.

    A server that refuses may be behind, or refuse us alone, so the next one is asked too. Raises what the
    failures come to for the client: see `refusal_of`.
    """
    failures: list[FederationError] = []
    for server in servers:
        try:
            return await ask(server)
        except FederationError as failure:
            log.info("another server did not help", wanted=what, server=server, cause=str(failure))
            failures.append(failure)
    raise refusal_of(failures)


def refusal_of(failures: Iterable[FederationError]) -> MatrixError:
    """The most telling of several failures, as an error for the client.

    "The error should be passed through to clients so that they may give better feedback to users." – but
    "If M_MISSING_PARAM or M_INVALID_PARAM is returned … the Client-Server API request SHOULD fail with a 5xx
    error" (joins-v1.yaml, joins-v2.yaml).
    """
    worst: tuple[int, MatrixError] = (0, NotFound("No server is known that takes part in this room"))
    for failure in failures:
        found = _weighed(failure)
        if found[0] > worst[0]:
            worst = found
    return worst[1]


def _weighed(failure: FederationError) -> tuple[int, MatrixError]:
    """How much a failure says, and the error to be told."""
    match failure:
        case Refused(status=403):
            return 9, Forbidden(_said(failure, "The room does not let you do this"))
        case Refused(errcode="M_INCOMPATIBLE_ROOM_VERSION"):
            return 8, IncompatibleRoomVersion(
                "The room has a version that this server does not support", room_version=failure.room_version
            )
        case Refused(errcode="M_UNABLE_TO_GRANT_JOIN"):
            return 7, UnableToGrantJoin(_said(failure, "No server that was asked may let you in"))
        case Refused(errcode="M_UNABLE_TO_AUTHORISE_JOIN"):
            return 6, UnableToAuthoriseJoin(_said(failure, "No server that was asked can let you in"))
        case Refused(status=400) if _ERRCODE.fullmatch(failure.errcode) and failure.errcode not in OUR_FAULT:
            return 5, PassedOn(failure.errcode, _said(failure, "The other server refuses this"))
        case Refused(status=404):
            return 2, NotFound(_said(failure, "The other server does not know the room"))
        case NotPermitted():
            return 3, Forbidden("This server does not talk to the one that the room is on")
        case Unreachable() | BackingOff():
            return 4, GatewayTimeout(f"{failure.destination} does not answer: try again later")
        case RequestFailed():
            return 5, PeerFailed(f"{failure.destination} could not do this for you")
        case _:
            return 5, PeerFailed("The other server's answer cannot be right")


def _said(failure: Refused, otherwise: str) -> str:
    """The other server's words, which the transport has cut and cleaned."""
    return failure.message or otherwise
