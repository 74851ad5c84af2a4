"""A device built on matrix-nio and its cryptography, which does what its syncs make due."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nio
from nio.crypto import Sas

from tests.api.client import PASSWORD, User

DEADLINE_S = 60.0
SYNC_TIMEOUT_MS = 300


@dataclass(slots=True)
class Device:
    """One login of somebody."""

    nio: nio.AsyncClient
    events: dict[str, nio.Event] = field(default_factory=dict)
    """Of rooms, by id, as they can be read."""

    @property
    def user_id(self) -> str:
        return str(self.nio.user_id)

    @property
    def id(self) -> str:
        return str(self.nio.device_id)

    async def pump(self) -> None:
        """Sync, and upload, query, claim and send what is due."""
        response = await self.nio.sync(timeout=SYNC_TIMEOUT_MS)
        assert isinstance(response, nio.SyncResponse), response
        await self.nio.send_to_device_messages()
        if self.nio.should_upload_keys:
            assert isinstance(await self.nio.keys_upload(), nio.KeysUploadResponse)
        if self.nio.should_query_keys:
            assert isinstance(await self.nio.keys_query(), nio.KeysQueryResponse)
        if self.nio.should_claim_keys:
            await self.nio.keys_claim(self.nio.get_users_for_key_claiming())

    def devices_of(self, user_id: str) -> set[str]:
        """The devices that this one would send keys to."""
        return {device.device_id for device in self.nio.device_store.active_user_devices(user_id)}

    async def send(self, room_id: str, body: str) -> str:
        """The id of an encrypted message; to devices that nobody has verified, too."""
        content = {"msgtype": "m.text", "body": body}
        response = await self.nio.room_send(
            room_id, "m.room.message", content, ignore_unverified_devices=True
        )
        assert isinstance(response, nio.RoomSendResponse), response
        return str(response.event_id)

    def reads(self, event_id: str, body: str) -> bool:
        event = self.events.get(event_id)
        return isinstance(event, nio.RoomMessageText) and event.decrypted and event.body == body

    def sas(self, transaction_id: str) -> Sas | None:
        return self.nio.key_verifications.get(transaction_id)

    async def _see(self, room: nio.MatrixRoom, event: nio.Event) -> None:
        self.events[event.event_id] = event


async def until(what: str, reached: Callable[[], Any], *devices: Device) -> Any:
    """Let the devices sync until ``reached()`` is true, and return that."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not (found := reached()):
                await asyncio.gather(*(device.pump() for device in devices))
            return found
    except TimeoutError:
        raise AssertionError(f"not in {DEADLINE_S:.0f} s: {what}") from None


@asynccontextmanager
async def logged_in(user: User, url: str, folder: Path) -> AsyncIterator[Device]:
    """A new device of a user; what it keeps is in the folder."""
    config = nio.AsyncClientConfig(encryption_enabled=True, store_sync_tokens=False)
    client = nio.AsyncClient(url, user.user_id, store_path=str(folder), config=config)
    assert isinstance(await client.login(PASSWORD), nio.LoginResponse)
    device = Device(client)
    client.add_event_callback(device._see, nio.Event)
    try:
        await device.pump()
        yield device
    finally:
        await client.close()
