"""Who somebody is, by an OpenID token of their server.

Source: Client-Server API, "OpenID"; Server-Server API, "OpenID".
"""

from __future__ import annotations

from dataclasses import dataclass

from federation.errors import BadIdentifier
from federation.identifiers import split_user_id
from federation.server_names import parse_server_name
from federation.transport.client import FederationClient
from federation.transport.errors import NotPermitted, Refused, RequestFailed
from homeserver.accounts.openid import OpenID
from homeserver.errors import BadJson, Forbidden, Unauthorized, Unavailable

TOKEN_LENGTH_MAX = 4096
TIMEOUT_S = 10.0
RESPONSE_BYTES_MAX = 64 * 1024
NOT_PROVEN = "The OpenID token does not prove who you are: get a new one from your server"
NOT_ASKED = "Your server cannot be asked whether the OpenID token is its own: try again later"


@dataclass(frozen=True, slots=True)
class OpenIDProofs:
    """Asks the server that made a token, this one or another."""

    server_name: str
    openid: OpenID
    client: FederationClient

    async def user_of(self, token: str, server_name: str) -> str:
        """The user id that a token proves.

        Raises BadJson, Unauthorized, Forbidden (a server that is not talked to), Unavailable.
        """
        if not token or len(token) > TOKEN_LENGTH_MAX:
            raise Unauthorized(NOT_PROVEN)
        if server_name == self.server_name:
            user_id = await self.openid.user_of(token)
        else:
            user_id = await self._ask(token, server_name)
        if user_id is None:
            raise Unauthorized(NOT_PROVEN)
        return user_id

    async def _ask(self, token: str, server_name: str) -> str | None:
        """What another server says of its token: `exchangeOpenIdToken`, which takes no signature."""
        try:
            parse_server_name(server_name)
        except BadIdentifier as cause:
            raise BadJson("'matrix_server_name' is not a server name") from cause
        try:
            answer = await self.client.request(
                server_name,
                "GET",
                "/_matrix/federation/v1/openid/userinfo",
                {"access_token": token},
                signed=False,
                timeout_s=TIMEOUT_S,
                response_bytes_max=RESPONSE_BYTES_MAX,
            )
        except NotPermitted as cause:
            raise Forbidden("This server does not talk to yours") from cause
        except Refused as cause:
            if cause.may_retry:
                raise Unavailable(NOT_ASKED) from cause
            raise Unauthorized(NOT_PROVEN) from cause
        except RequestFailed as cause:
            raise Unavailable(NOT_ASKED) from cause
        return _user_of_server(answer.get("sub"), server_name)


def _user_of_server(user_id: object, server_name: str) -> str | None:
    """The user id that a server named, if it may name it."""
    try:
        _, server = split_user_id(user_id) if isinstance(user_id, str) else ("", "")
    except BadIdentifier:
        return None
    return str(user_id) if server == server_name else None
