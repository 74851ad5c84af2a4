"""Asking servers for their keys, and notaries for those of servers that do not answer.

Source: Server-Server API, "Retrieving server keys".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from federation.canonical import JsonObject
from federation.errors import BadSignature, FederationError
from federation.keys import VerifyKey
from federation.server_keys import ServerKeys, read_server_keys
from federation.signing import signing_key_ids, verify_json
from federation.transport.client import FederationClient

TIMEOUT_S = 10.0
RESPONSE_BYTES_MAX = 256 * 1024
DOCUMENTS_MAX = 16  # of one server, in a notary's answer


@dataclass(frozen=True, slots=True)
class KeyFetching:
    """The requests; what they bring is checked, not kept."""

    client: FederationClient

    async def direct(self, server_name: str, now_ms: int) -> ServerKeys:
        """What a server publishes now. Raises RequestFailed, BadKey, BadSignature, NotCanonical."""
        document = await self.client.request(
            server_name,
            "GET",
            "/_matrix/key/v2/server",
            signed=False,
            # Whoever sent us something is there, whatever we saw of it before.
            despite_backoff=True,
            timeout_s=TIMEOUT_S,
            response_bytes_max=RESPONSE_BYTES_MAX,
        )
        return read_server_keys(document, server_name, now_ms)

    async def through(
        self,
        notary: str,
        notary_keys: Mapping[str, VerifyKey],
        server_name: str,
        key_ids: Collection[str],
        now_ms: int,
    ) -> list[ServerKeys]:
        """The documents of a server that a notary vouches for; those with faults are left out.

        Raises RequestFailed.
        """
        answer = await self.client.request(
            notary,
            "POST",
            "/_matrix/key/v2/query",
            body={"server_keys": {server_name: {key_id: {} for key_id in key_ids}}},
            timeout_s=TIMEOUT_S,
            response_bytes_max=RESPONSE_BYTES_MAX,
        )
        documents = answer.get("server_keys")
        if not isinstance(documents, list):
            return []
        found = []
        for document in documents[:DOCUMENTS_MAX]:
            try:
                found.append(_vouched_for(document, notary, notary_keys, server_name, now_ms))
            except FederationError:
                continue
        return found


def _vouched_for(
    document: JsonObject, notary: str, notary_keys: Mapping[str, VerifyKey], server_name: str, now_ms: int
) -> ServerKeys:
    """Check the notary's signature, then the document itself. Raises BadKey, BadSignature, NotCanonical."""
    if not isinstance(document, dict):
        raise BadSignature("A key document is an object")
    known = [key_id for key_id in signing_key_ids(document, notary) if key_id in notary_keys]
    if not known:
        raise BadSignature("The notary did not sign the document with a key that we know")
    for key_id in known:
        verify_json(document, notary, notary_keys[key_id])
    return read_server_keys(document, server_name, now_ms)
