"""What other servers ask about this node's users' keys and devices.

Source: Server-Server API, "End-to-End Encryption", "Device Management".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import orjson

from federation.canonical import JsonObject
from homeserver.encryption.key_claims import LocalClaims, WantedKeys
from homeserver.encryption.key_queries import LocalKeys, Wanted
from homeserver.errors import NotFound
from homeserver.storage.accounts import fetch_account
from homeserver.storage.connection import Pool
from homeserver.storage.cross_signing import MASTER, SELF_SIGNING, fetch_cross_signing_keys
from homeserver.storage.device_keys import fetch_keys_of_users
from homeserver.storage.device_lists import fetch_stream_id

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class UserKeyAnswers:
    """Answers for this node's users; others are left out."""

    pool: Pool
    server_name: str
    keys: LocalKeys
    claims: LocalClaims

    async def query(self, wanted: Wanted) -> bytes:
        """`queryUserEncryptionKeys`, JSON."""
        return (await self.keys.query(self._own(wanted))).encoded()

    async def claim(self, wanted: WantedKeys) -> bytes:
        """`claimUserEncryptionKeys`, JSON."""
        return orjson.dumps({"one_time_keys": await self.claims.claim(self._own(wanted))})

    async def devices(self, user_id: str) -> JsonObject:
        """`getUserDevices`: the devices that have keys. Raises NotFound."""
        account = None if "\x00" in user_id else await fetch_account(self.pool, user_id)
        if account is None or account.is_deactivated:
            raise NotFound("There is no such user on this server")
        # First the number, then what it stands for: whatever changes between them is sent as an update.
        stream_id = await fetch_stream_id(self.pool, account.user_nid)
        devices: list[JsonObject] = []
        for row in await fetch_keys_of_users(self.pool, (user_id,)):
            device: JsonObject = {"device_id": row.device_id, "keys": orjson.loads(row.json)}
            if row.display_name is not None:
                device["device_display_name"] = row.display_name
            devices.append(device)
        answer: JsonObject = {"user_id": user_id, "stream_id": stream_id, "devices": devices}
        keys = (await fetch_cross_signing_keys(self.pool, (user_id,))).get(user_id, {})
        for usage in (MASTER, SELF_SIGNING):
            if usage in keys:
                answer[f"{usage}_key"] = orjson.loads(keys[usage])
        return answer

    def _own(self, wanted: Mapping[str, V]) -> dict[str, V]:
        return {
            user_id: one for user_id, one in wanted.items() if user_id.partition(":")[2] == self.server_name
        }
