"""How a request to another server can fail, and whether trying again later may help."""

from __future__ import annotations

from typing import ClassVar

from federation.errors import FederationError


class RequestFailed(FederationError):
    """Base of all failures of `client.FederationClient.request`.

    The message is for the log: it may hold what the other server said, cut and stripped of control
    characters, never what we sent.
    """

    retryable: ClassVar[bool] = True

    def __init__(self, destination: str, message: str) -> None:
        super().__init__(f"{destination}: {message}")
        self.destination = destination

    @property
    def may_retry(self) -> bool:
        """Whether the same request may succeed later."""
        return self.retryable


class Unreachable(RequestFailed):
    """No address, no connection, no valid certificate, or no answer in time."""


class BackingOff(RequestFailed):
    """The server failed lately: nothing was sent, and nothing will be before ``retry_at_ms``."""

    def __init__(self, destination: str, retry_at_ms: int) -> None:
        super().__init__(destination, "failed lately and is left alone for a while")
        self.retry_at_ms = retry_at_ms


class NotPermitted(RequestFailed):
    """This node does not talk to that server (``federation.mode``)."""

    retryable = False


class ForbiddenAddress(RequestFailed):
    """The server's name leads to an address that is contacted only if configured."""

    retryable = False


class BadResponse(RequestFailed):
    """An answer that is no JSON object, or too large, or nested too deep."""

    retryable = False


class Refused(RequestFailed):
    """The other server answered with an error, or with a redirect, which no endpoint has.

    ``errcode``, ``message`` and ``room_version`` (of ``M_INCOMPATIBLE_ROOM_VERSION``) are what it said, or
    empty; they are the other server's words.
    """

    def __init__(
        self,
        destination: str,
        status: int,
        errcode: str,
        message: str,
        retry_after_ms: int | None,
        room_version: str = "",
    ) -> None:
        super().__init__(destination, f"{status} {errcode} {message}".rstrip())
        self.status = status
        self.errcode = errcode
        self.message = message
        self.retry_after_ms = retry_after_ms
        self.room_version = room_version

    @property
    def may_retry(self) -> bool:
        """429 and 5xx pass; what else a server refuses, it refuses again."""
        return self.status == 429 or self.status >= 500
