"""Who sends a federation request. Source: Server-Server API, "Request Authentication"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from federation.errors import FederationError
from federation.request_auth import (
    BadAuthorization,
    Credentials,
    WrongDestination,
    check_destination,
    parse_authorization,
)
from homeserver.errors import MalformedAuthorization, Unauthorized
from homeserver.federating.key_ring import KeyRing
from homeserver.federating.servers import Servers

log = structlog.get_logger()

HEADERS_MAX = 4  # one for each key of the origin


@dataclass(frozen=True, slots=True)
class FederationAuthenticator:
    """Proves origins; whoever is proven to be there is ``heard_from``."""

    server_name: str
    servers: Servers
    key_ring: KeyRing
    heard_from: Callable[[str], None]
    count_refusal: Callable[[str], None]

    async def authenticate(self, headers: Sequence[str], method: str, uri: str, body: bytes | None) -> str:
        """The origin of a request with these Authorization headers, one of which has to be right.

        ``uri`` is the target as received; ``body`` has been parsed as JSON unless it is large. Raises
        Unauthorized, and Forbidden for servers that this node does not talk to.
        """
        try:
            claims = self._parse(headers)
        except (BadAuthorization, WrongDestination) as error:
            self.count_refusal("malformed" if isinstance(error, BadAuthorization) else "wrong_destination")
            message = f"The Authorization header cannot be accepted: {error}"
            is_malformed = isinstance(error, BadAuthorization) and any(map(_is_x_matrix, headers))
            raise (MalformedAuthorization if is_malformed else Unauthorized)(message) from error
        origin = claims[0].origin
        self.servers.check(origin)  # before any key is fetched
        failure: FederationError | None = None
        for claim in claims:
            try:
                await self.key_ring.verify_request(claim, method, uri, body)
            except FederationError as error:
                failure = error
            else:
                self.heard_from(origin)
                return origin
        self.count_refusal("bad_signature")
        log.warning("request not authenticated", server=origin, cause=str(failure))
        raise Unauthorized("The request is not signed by a current key of its origin") from failure

    def _parse(self, headers: Sequence[str]) -> list[Credentials]:
        if not headers or len(headers) > HEADERS_MAX:
            raise BadAuthorization(f"1 to {HEADERS_MAX} of them are expected: sign the request")
        claims = [parse_authorization(header) for header in headers]
        if any(claim.origin != claims[0].origin for claim in claims):
            raise BadAuthorization("The headers name several origins")
        for claim in claims:
            check_destination(claim, self.server_name)
        return claims


def _is_x_matrix(header: str) -> bool:
    return header[:8].lower() == "x-matrix"
