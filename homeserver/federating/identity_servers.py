"""Asking identity servers: whose an address is, to keep an invite of one, and whether their keys are valid.

Which ones are asked is the administrator's choice (`federation.identity_servers`), and then the user's: their
client names the server, and what it is known by there. Source: Identity Service API, "Association lookup",
"Invitation storage", "Key management".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import structlog

from federation.canonical import JsonObject
from federation.encoding import encode_base64_url
from federation.errors import BadIdentifier
from federation.identifiers import check_user_id, is_valid_server_name
from federation.transport.client import FederationClient
from federation.transport.errors import Refused, RequestFailed
from homeserver.config.federation import EVERY_SERVER
from homeserver.errors import Forbidden, InvalidParam, PeerFailed, ServerNotTrusted
from homeserver.rooms.elsewhere import IdentityAccess, StoredInvite

log = structlog.get_logger()

V2 = "/_matrix/identity/v2"
TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 64 * 1024
KEYS_MAX = 8
TEXT_MAX = 1024
LOOKUP = "sha256"  # "Servers MUST support at least the sha256 algorithm"
_TOKEN = re.compile(r"[0-9a-zA-Z.=_-]{1,255}")
_URL = re.compile(r"https://[!-~]{1,2000}")


@dataclass(frozen=True, slots=True)
class AskedIdentityServers:
    """See `homeserver.rooms.elsewhere.IdentityServers`. ``client`` finds servers by HTTPS alone."""

    client: FederationClient
    permitted: Collection[str]

    def check(self, server: str) -> None:
        """See `IdentityServers`."""
        if not is_valid_server_name(server):
            raise InvalidParam("'id_server' must be the name of an identity server")
        if not self._permits(server):
            raise ServerNotTrusted(
                f"This server does not ask {server} who has an address"
                if self.permitted
                else "This server asks no identity server: invite people by their user id"
            )

    async def find(self, access: IdentityAccess, medium: str, address: str) -> str | None:
        """See `IdentityServers`: the address itself is not told, but its hash."""
        self.check(access.server)
        details = await self._ask(access, "GET", "/hash_details")
        pepper, algorithms = details.get("lookup_pepper"), details.get("algorithms")
        if not isinstance(pepper, str) or not isinstance(algorithms, list) or LOOKUP not in algorithms:
            raise PeerFailed(f"{access.server} does not say how addresses are looked up")
        digest = hashlib.sha256(f"{address} {medium} {pepper}".encode()).digest()
        hashed = encode_base64_url(digest)
        body = {"algorithm": LOOKUP, "pepper": pepper, "addresses": [hashed]}
        mappings = (await self._ask(access, "POST", "/lookup", body)).get("mappings")
        if not isinstance(mappings, dict):
            raise PeerFailed(f"{access.server} does not say whose the address is")
        user_id = mappings.get(hashed)
        if user_id is None:
            return None
        try:
            check_user_id(user_id if isinstance(user_id, str) else "")
        except BadIdentifier as cause:
            raise PeerFailed(f"{access.server} answers with what is no user id") from cause
        return str(user_id)

    async def store(self, access: IdentityAccess, invite: JsonObject) -> StoredInvite:
        """See `IdentityServers`."""
        self.check(access.server)
        answer = await self._ask(access, "POST", "/store-invite", invite)
        token, name, keys = answer.get("token"), answer.get("display_name"), answer.get("public_keys")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token) or not _is_text(name):
            raise PeerFailed(f"{access.server} does not say how it keeps the invite")
        if not isinstance(keys, list) or not 0 < len(keys) <= KEYS_MAX or not all(map(_is_key, keys)):
            raise PeerFailed(f"{access.server} does not say by which keys it signs")
        kept = [
            {"public_key": key["public_key"], "key_validity_url": key["key_validity_url"]} for key in keys
        ]
        return StoredInvite(token, str(name), kept)

    async def is_valid(self, url: str, public_key: str) -> bool:
        """See `IdentityServers`."""
        if not _URL.fullmatch(url):
            return False
        try:
            parts = urlsplit(url)
            query = {**dict(parse_qsl(parts.query, keep_blank_values=True)), "public_key": public_key}
        except ValueError:
            return False
        server = parts.netloc
        if not is_valid_server_name(server) or not self._permits(server):
            log.info("key of an identity server that is not asked", server=server)
            return False
        try:
            answer = await self.client.request(
                server,
                "GET",
                parts.path or "/",
                query,
                signed=False,
                timeout_s=TIMEOUT_S,
                response_bytes_max=ANSWER_BYTES_MAX,
            )
        except RequestFailed as failure:
            log.info("key of an identity server not checked", server=server, cause=str(failure))
            return False
        return answer.get("valid") is True

    def _permits(self, server: str) -> bool:
        return server in self.permitted or EVERY_SERVER in self.permitted

    async def _ask(
        self, access: IdentityAccess, method: str, path: str, body: JsonObject | None = None
    ) -> JsonObject:
        """Raises Forbidden, PeerFailed."""
        try:
            return await self.client.request(
                access.server,
                method,
                V2 + path,
                body=body,
                access_token=access.token,
                timeout_s=TIMEOUT_S,
                response_bytes_max=ANSWER_BYTES_MAX,
            )
        except Refused as failure:
            log.info("identity server refuses", server=access.server, path=path, cause=str(failure))
            if failure.status in (401, 403):
                raise Forbidden(
                    f"{access.server} refuses this: {failure.message or failure.errcode}"
                ) from failure
            raise PeerFailed(f"{access.server} could not do this: {failure.message}") from failure
        except RequestFailed as failure:
            log.info("identity server not asked", server=access.server, path=path, cause=str(failure))
            raise PeerFailed(f"{access.server} does not answer as identity servers do") from failure


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= TEXT_MAX


def _is_key(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_text(value.get("public_key"))
        and _is_text(value.get("key_validity_url"))
    )
