"""The peer as an identity server: it knows whose an address is, keeps invites, and signs proofs."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from federation.canonical import JsonObject
from federation.encoding import encode_base64_url
from federation.keys import SigningKey
from federation.signing import sign_json
from tests.server_server.peer import Peer

V2 = "/_matrix/identity/v2"
PEPPER = "salt"
TOKEN = "alice-is-known-here"
_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class IdentityPeer:
    """`users` are by address; `stored` are the invites that it keeps."""

    peer: Peer
    key: SigningKey = field(default_factory=lambda: SigningKey.generate("0"))
    users: dict[str, str] = field(default_factory=dict)
    stored: list[JsonObject] = field(default_factory=list)
    is_valid: bool = True
    checked: list[str] = field(default_factory=list)
    """The keys of which was asked whether they are valid."""

    def __post_init__(self) -> None:
        handlers = {
            "hash_details": self._known(self._hash_details),
            "lookup": self._known(self._lookup),
            "store-invite": self._known(self._store),
            "pubkey/isvalid": self._valid,
        }
        self.peer.serves |= {f"{V2}/{name}": handler for name, handler in handlers.items()}

    @property
    def url(self) -> str:
        return f"https://{self.peer.server_name}{V2}/pubkey/isvalid"

    def asks(self, address: str, medium: str = "email") -> JsonObject:
        """An invite of an address, as clients send it."""
        server = {"id_server": self.peer.server_name, "id_access_token": TOKEN}
        return {**server, "medium": medium, "address": address}

    def proof(self, user_id: str, token: str) -> JsonObject:
        return sign_json({"mxid": user_id, "token": token}, self.peer.server_name, self.key)

    def _known(self, answer: Callable[[JsonObject], JsonObject]) -> _Handler:
        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            if request.headers.get("Authorization") != f"Bearer {TOKEN}":
                return web.json_response({"errcode": "M_UNAUTHORIZED", "error": "Who are you?"}, status=401)
            return web.json_response(answer(orjson.loads(await request.read() or b"{}")))

        return handler

    def _hash_details(self, body: JsonObject) -> JsonObject:
        return {"lookup_pepper": PEPPER, "algorithms": ["none", "sha256"]}

    def _lookup(self, body: JsonObject) -> JsonObject:
        assert (body["algorithm"], body["pepper"]) == ("sha256", PEPPER)
        hashed = {
            encode_base64_url(hashlib.sha256(f"{address} email {PEPPER}".encode()).digest()): user_id
            for address, user_id in self.users.items()
        }
        return {"mappings": {each: hashed[each] for each in body["addresses"] if each in hashed}}

    def _store(self, body: JsonObject) -> JsonObject:
        self.stored.append(body)
        key = {"public_key": self.key.verify_key.base64, "key_validity_url": self.url}
        return {"token": f"t{len(self.stored)}", "display_name": "b...@example.org", "public_keys": [key]}

    async def _valid(self, request: web.BaseRequest) -> web.StreamResponse:
        self.checked.append(request.query["public_key"])
        return web.json_response({"valid": self.is_valid})
