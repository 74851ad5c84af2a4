"""What other servers are told of a device list: `m.device_list_update` and `m.signing_key_update`.

Each update of a user's devices names the one before it, so that a server which missed one knows, and asks for
the whole list. Source: Server-Server API, "Device Management", "End-to-End Encryption".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import orjson

from federation.canonical import JsonObject
from homeserver.commit_log.change import Change
from homeserver.commit_log.outbound import OutboundEdu
from homeserver.storage.connection import Pool
from homeserver.storage.cross_signing import MASTER, SELF_SIGNING, CrossSigningChange
from homeserver.storage.device_keys import DeviceKeysChange, fetch_published
from homeserver.storage.device_lists import NEXT, fetch_stream_id, next_stream_ids

DEVICE_LIST_UPDATE = "m.device_list_update"
SIGNING_KEY_UPDATE = "m.signing_key_update"
SHOWN_USAGES = (MASTER, SELF_SIGNING)  # the user-signing key is nobody else's business


@dataclass(frozen=True, slots=True)
class ListUpdates:
    """Makes EDUs. One call for a user at a time, until what it made is written."""

    pool: Pool

    async def of(
        self,
        user_id: str,
        user_nid: int,
        servers: Collection[str],
        device_ids: Collection[str],
        changes: Sequence[Change] = (),
    ) -> tuple[list[OutboundEdu], int]:
        """Updates of some devices, and of the cross-signing keys among ``changes``, for some servers.

        ``changes`` are written with them, so they count already. The number is for
        `DeviceListChange.stream_id`.
        """
        if not servers:
            return [], NEXT if device_ids else 0
        edus = [
            OutboundEdu(
                servers, SIGNING_KEY_UPDATE, identity, " ".join((SIGNING_KEY_UPDATE, user_id, *identity))
            )
            for change in changes
            if isinstance(change, CrossSigningChange)
            and (identity := _signing_key_update(user_id, change)) is not None
        ]
        if not device_ids:
            return edus, 0
        uploaded = {
            change.device_id: change.json for change in changes if isinstance(change, DeviceKeysChange)
        }
        published = await fetch_published(self.pool, user_nid, device_ids)
        previous = await fetch_stream_id(self.pool, user_nid)
        stream_ids = await next_stream_ids(self.pool, len(device_ids))
        for device_id, stream_id in zip(device_ids, stream_ids, strict=True):
            content: JsonObject = {"user_id": user_id, "device_id": device_id, "stream_id": stream_id}
            content["prev_id"] = [previous] if previous else []
            name, stored = published.get(device_id, (None, None))
            keys = uploaded.get(device_id, stored)
            if keys is not None:  # "May be absent if the device has no E2E keys defined"
                content["keys"] = orjson.loads(keys)
            elif device_id not in published:
                content["deleted"] = True
            if name is not None:
                content["device_display_name"] = name
            # Who gets only the last of a device sees that it does not follow, and asks for the whole list.
            name = f"{DEVICE_LIST_UPDATE} {user_id} {device_id}"
            edus.append(OutboundEdu(servers, DEVICE_LIST_UPDATE, content, name))
            previous = stream_id
        return edus, previous


def _signing_key_update(user_id: str, change: CrossSigningChange) -> JsonObject | None:
    keys = {
        f"{usage}_key": orjson.loads(json)
        for usage in SHOWN_USAGES
        if (json := change.keys.get(usage)) is not None
    }
    return {"user_id": user_id, **keys} if keys else None
