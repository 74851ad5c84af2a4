"""A user's own devices. Source: Client-Server API, "Device Management"."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from federation.event import JsonObject
from homeserver.accounts.authenticator import Authenticator
from homeserver.accounts.last_seen import LastSeen
from homeserver.accounts.sessions import TellOfDevices, check_display_name
from homeserver.errors import NotFound
from homeserver.requester import Requester
from homeserver.storage import devices
from homeserver.storage.connection import Pool
from homeserver.storage.devices import DeviceRow

NO_SUCH_DEVICE = "You have no device with this id"


@dataclass(frozen=True, slots=True)
class Devices:
    """Devices of the requester, in the form of the specification's definitions/client_device.yaml."""

    pool: Pool
    authenticator: Authenticator
    last_seen: LastSeen
    tell_of_devices: TellOfDevices

    async def all(self, requester: Requester) -> list[JsonObject]:
        """All of them, the oldest first."""
        return [self._describe(row) for row in await devices.fetch_devices(self.pool, requester.user_nid)]

    async def one(self, requester: Requester, device_id: str) -> JsonObject:
        """One of them. Raises NotFound."""
        row = await devices.fetch_device(self.pool, requester.user_nid, device_id)
        if row is None:
            raise NotFound(NO_SUCH_DEVICE)
        return self._describe(row)

    async def rename(self, requester: Requester, device_id: str, display_name: str | None) -> None:
        """Name a device; None leaves its name as it is. Raises NotFound, InvalidParam."""
        if display_name is None:
            await self.one(requester, device_id)
            return
        check_display_name(display_name)
        if not await devices.set_display_name(self.pool, requester.user_nid, device_id, display_name):
            raise NotFound(NO_SUCH_DEVICE)
        await self.tell_of_devices(requester.user_id, requester.user_nid)

    async def delete(self, requester: Requester, device_ids: Collection[str]) -> None:
        """Delete devices with all that is theirs; those that do not exist are passed over."""
        await devices.delete_devices(self.pool, requester.user_nid, device_ids)
        self.authenticator.forget_user(requester.user_nid)
        await self.tell_of_devices(requester.user_id, requester.user_nid)

    def _describe(self, row: DeviceRow) -> JsonObject:
        described: JsonObject = {"device_id": row.device_id}
        if row.display_name is not None:
            described["display_name"] = row.display_name
        seen = self.last_seen.of(row.nid)
        seen_ms = seen.seen_ms if seen else row.last_seen_ms
        address = seen.address if seen else row.last_seen_address
        if seen_ms is not None:
            described["last_seen_ts"] = seen_ms
        if address:
            described["last_seen_ip"] = address
        return described
