"""Dehydrated devices: a device without a login, which collects room keys while its owner has no other.

Its secrets are kept here, encrypted for its owner, who takes it up again on the next login: reads what was
sent to it, and deletes it. In the form that Element's clients know. Source: MSC3814.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson

from federation.canonical import JsonObject
from homeserver.accounts.sessions import DEVICE_ID_LENGTH_MAX, check_display_name
from homeserver.clock import Clock, now_ms
from homeserver.commit_log.change import Change
from homeserver.commit_log.log import CommitLog
from homeserver.encryption.device_lists import DeviceLists
from homeserver.encryption.device_numbers import DeviceNumbers
from homeserver.encryption.key_json import encode_key, read_device_keys, read_one_time_keys
from homeserver.errors import BadJson, Forbidden, InvalidParam, MissingParam, NotFound, TooLarge
from homeserver.requester import Requester
from homeserver.storage import dehydrated_devices as sql
from homeserver.storage.connection import Pool
from homeserver.storage.device_keys import DeviceKeysChange
from homeserver.storage.one_time_keys import OneTimeKeysChange
from homeserver.storage.to_device import fetch_messages

DATA_BYTES_MAX = 256 * 1024
EVENTS_MAX = 100
_TOKEN = re.compile(r"d([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class DehydratedDevices:
    """One a user at most."""

    pool: Pool
    log: CommitLog
    device_lists: DeviceLists
    numbers: DeviceNumbers
    clock: Clock = now_ms

    async def put(self, requester: Requester, body: JsonObject) -> str:
        """Make a dehydrated device in place of the one before; its id.

        Raises MissingParam, BadJson, InvalidParam (also for an id that another device has), TooLarge.
        """
        device_id = _text(body, "device_id", DEVICE_ID_LENGTH_MAX)
        name = (
            _text(body, "initial_device_display_name", None)
            if "initial_device_display_name" in body
            else None
        )
        if name is not None:
            check_display_name(name)
        data = body.get("device_data")
        if not isinstance(data, dict):
            raise BadJson("'device_data' must be an object")
        encoded = orjson.dumps(data)
        if len(encoded) > DATA_BYTES_MAX:
            raise TooLarge(f"'device_data' may have {DATA_BYTES_MAX} bytes at most")
        if "device_keys" not in body:
            raise MissingParam("'device_keys' is required: the device's identity keys")
        device_keys = read_device_keys(body["device_keys"], requester.user_id, device_id)
        keys = read_one_time_keys(body.get("one_time_keys", {}), "one_time_keys")
        fallback = read_one_time_keys(body.get("fallback_keys", {}), "fallback_keys")
        async with self.pool.acquire() as connection, connection.transaction():
            before = await sql.delete_dehydrated(connection, requester.user_nid)
            nid = await sql.insert_dehydrated(
                connection, requester.user_nid, self.clock(), device_id, name, encoded
            )
            if nid is None:
                raise InvalidParam("You have another device with this id")
        self.numbers.forget(requester.user_id)
        changes: tuple[Change, ...] = (
            DeviceKeysChange(nid, device_id, encode_key(device_keys)),
            OneTimeKeysChange(nid, keys, fallback),
        )
        told = {device_id, before or device_id}
        await self.device_lists.commit(requester.user_id, requester.user_nid, changes, sorted(told))
        return device_id

    async def get(self, requester: Requester) -> tuple[str, bytes]:
        """Id and data of the user's dehydrated device. Raises NotFound."""
        device = await self._known(requester)
        return device.device_id, device.data

    async def delete(self, requester: Requester) -> str:
        """Delete the user's dehydrated device; its id. Raises NotFound."""
        async with self.pool.acquire() as connection, connection.transaction():
            device_id = await sql.delete_dehydrated(connection, requester.user_nid)
        if device_id is None:
            raise NotFound("You have no dehydrated device")
        await self.device_lists.tell_of_devices(requester.user_id, requester.user_nid)
        return device_id

    async def events(
        self, requester: Requester, device_id: str, since: str | None, limit: int
    ) -> tuple[list[bytes], str]:
        """What was sent to the device after a token, JSON, and the next token. It stays until the device is
        deleted: taking it up may fail half-way.

        Raises NotFound, Forbidden (another device's id), InvalidParam.
        """
        device = await self._known(requester)
        if device.device_id != device_id:
            raise Forbidden("This is not the id of your dehydrated device")
        after = 0
        if since is not None:
            token = _TOKEN.fullmatch(since)
            if token is None:
                raise InvalidParam("This is no token of this endpoint")
            after = int(token[1])
        messages = await fetch_messages(
            self.pool, device.nid, after, self.log.position, min(limit, EVENTS_MAX)
        )
        upto = messages[-1][0] if messages else after
        return [event for _, event in messages], f"d{upto}"

    async def _known(self, requester: Requester) -> sql.DehydratedRow:
        device = await sql.fetch_dehydrated(self.pool, requester.user_nid)
        if device is None:
            raise NotFound("You have no dehydrated device")
        return device


def _text(body: JsonObject, field: str, most: int | None) -> str:
    value = body.get(field)
    if value is None:
        raise MissingParam(f"{field!r} is required")
    if not isinstance(value, str):
        raise BadJson(f"{field!r} must be a string")
    if "\x00" in value or not value or (most is not None and len(value) > most):
        raise InvalidParam(f"{field!r} is too long, empty, or holds a NUL character")
    return value
