"""Users' cross-signing keys, and the signatures that only their makers see.

Schema: migrations/0013_encryption.sql. Source: Client-Server API, "Cross-signing".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

from homeserver.storage.connection import Connection, Executor
from homeserver.storage.events import INTERN_USERS

MASTER = "master"
SELF_SIGNING = "self_signing"
USER_SIGNING = "user_signing"
USAGES = (MASTER, SELF_SIGNING, USER_SIGNING)

UPSERT = """
INSERT INTO cross_signing_keys (user_nid, usage, json)
SELECT * FROM unnest($1::integer[], $2::text[], $3::bytea[])
ON CONFLICT (user_nid, usage) DO UPDATE SET json = excluded.json
"""
DELETE = """
DELETE FROM cross_signing_keys c USING unnest($1::integer[], $2::text[]) AS gone (user_nid, usage)
WHERE c.user_nid = gone.user_nid AND c.usage = gone.usage
"""
DELETE_SIGNATURES = "DELETE FROM user_signatures WHERE signer_nid = ANY($1::integer[])"
UPSERT_SIGNATURES = """
INSERT INTO user_signatures (position, signer_nid, target_nid, master_key, key_id, signature)
SELECT given.position, given.signer_nid, u.nid, given.master_key, given.key_id, given.signature
FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[])
    AS given (signer_nid, target, master_key, key_id, signature, position)
JOIN users u ON u.user_id = given.target
ON CONFLICT (signer_nid, target_nid, key_id)
DO UPDATE SET position = excluded.position, master_key = excluded.master_key, signature = excluded.signature
"""
SELECT_KEYS = """
SELECT u.user_id, c.usage, c.json FROM users u JOIN cross_signing_keys c ON c.user_nid = u.nid
WHERE u.user_id = ANY($1::text[])
"""
SELECT_SIGNATURES = """
SELECT u.user_id, s.master_key, s.key_id, s.signature
FROM user_signatures s JOIN users u ON u.nid = s.target_nid
WHERE s.signer_nid = $1
"""


@dataclass(slots=True, eq=False)
class CrossSigningChange:
    """New or newly signed cross-signing keys of a user, JSON by usage; None deletes one.

    With `forgets_signatures` what the user signed of others' keys goes too: the key it was done with did.
    """

    user_nid: int
    keys: dict[str, bytes | None]
    forgets_signatures: bool = False
    position: int = 0
    is_visible: ClassVar[bool] = False  # of this the DeviceListChange beside it tells

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[CrossSigningChange]) -> None:
        last = {(change.user_nid, usage): json for change in changes for usage, json in change.keys.items()}
        gone = [key for key, json in last.items() if json is None]
        if gone:
            await connection.execute(DELETE, [nid for nid, _ in gone], [usage for _, usage in gone])
        kept = [(nid, usage, json) for (nid, usage), json in last.items() if json is not None]
        if kept:
            await connection.execute(
                UPSERT,
                [nid for nid, _, _ in kept],
                [usage for _, usage, _ in kept],
                [json for _, _, json in kept],
            )
        forgetting = [change.user_nid for change in changes if change.forgets_signatures]
        if forgetting:
            await connection.execute(DELETE_SIGNATURES, forgetting)


@dataclass(frozen=True, slots=True)
class UserSignature:
    """That a user-signing key has signed somebody's master key."""

    target: str
    master_key: str
    key_id: str
    signature: str


@dataclass(slots=True, eq=False)
class UserSignaturesChange:
    """What a user signed of others' master keys. Nobody else is told."""

    owner: str
    user_nid: int
    signatures: Sequence[UserSignature]
    position: int = 0
    is_visible: ClassVar[bool] = True
    room_nid: ClassVar[int] = 0

    @property
    def audience(self) -> Collection[str]:
        return (self.owner,)  # the user's other devices: their `device_lists` name the targets

    @property
    def size_bytes(self) -> int:
        return 300 + 400 * len(self.signatures)

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[UserSignaturesChange]) -> None:
        last = {
            (change.user_nid, made.target, made.key_id): (made, change.position)
            for change in changes
            for made in change.signatures
        }
        await connection.execute(INTERN_USERS, list({target for _, target, _ in last}))
        await connection.execute(
            UPSERT_SIGNATURES,
            [nid for nid, _, _ in last],
            [made.target for made, _ in last.values()],
            [made.master_key for made, _ in last.values()],
            [made.key_id for made, _ in last.values()],
            [made.signature for made, _ in last.values()],
            [position for _, position in last.values()],
        )


async def fetch_cross_signing_keys(
    database: Executor, user_ids: Collection[str]
) -> dict[str, dict[str, bytes]]:
    """Cross-signing keys by user and usage, JSON."""
    found: dict[str, dict[str, bytes]] = {}
    for user_id, usage, json in await database.fetch(SELECT_KEYS, list(user_ids)):
        found.setdefault(user_id, {})[usage] = json
    return found


async def fetch_user_signatures(database: Executor, signer_nid: int) -> dict[str, UserSignature]:
    """What a user signed of others' master keys, by the others' ids."""
    return {row[0]: UserSignature(*row) for row in await database.fetch(SELECT_SIGNATURES, signer_nid)}
