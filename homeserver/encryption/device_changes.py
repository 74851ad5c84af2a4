"""Users ask for keys and for changed device lists. Source: Client-Server API, "Key management API"."""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.encryption.device_lists import DeviceListNews, DeviceLists
from homeserver.requester import Requester
from homeserver.rooms.user_rooms import UserRooms


@dataclass(frozen=True, slots=True)
class DeviceChanges:
    """`getKeysChanges`."""

    lists: DeviceLists
    user_rooms: UserRooms

    async def since(self, requester: Requester, position: int) -> DeviceListNews:
        """Whose devices a client has to ask for again that has seen the log up to a position."""
        return await self.lists.since(requester, position, await self.user_rooms.get(requester.user_id))
