"""Transactions: what one server pushes to another. Source: Server-Server API, "Transactions"."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from federation.canonical import encode_checked

PDUS_MAX = 50
EDUS_MAX = 100
SEND_PATH = "/_matrix/federation/v1/send/{}"


def encode_transaction(
    origin: str, origin_server_ts: int, pdus: Sequence[bytes], edus: Sequence[bytes]
) -> bytes:
    """The body of a transaction, of PDUs and EDUs that are canonical JSON each: nothing is encoded again.

    The result is canonical JSON, so that it is what the request's signature covers.
    """
    head = b'{"edus":[%b],' % b",".join(edus) if edus else b"{"
    return head + b'"origin":%b,"origin_server_ts":%d,"pdus":[%b]}' % (
        encode_checked(origin),
        origin_server_ts,
        b",".join(pdus),
    )


def transaction_id(mark: str, pdus: Sequence[bytes], edus: Sequence[bytes]) -> str:
    """An id that the same content gets again, if it was lost with the process that sent it.

    ``mark`` tells transactions apart that have the same content. Safe in a path.
    """
    digest = blake2b(mark.encode(), digest_size=18)
    for part in (*pdus, b"", *edus):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()
