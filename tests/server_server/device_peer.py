"""The peer has users with devices: it answers for their keys, and tells of their changes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from urllib.parse import unquote

import orjson
from aiohttp import web

from federation.canonical import JsonObject
from federation.keys import SigningKey
from tests.api.device_crypto import random_key
from tests.server_server.room_peer import RoomPeer


@dataclass
class DevicePeer:
    """One user of the peer. `fails` has it answer nothing but 500; lists wait until `lists_go_out` is set."""

    rooms: RoomPeer
    user_id: str
    devices: dict[str, JsonObject] = field(default_factory=dict)
    one_time_keys: dict[str, JsonObject] = field(default_factory=dict)
    master_key: JsonObject | None = None
    stream_id: int = 10
    fails: bool = False
    lists_go_out: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)
    """The paths that were asked for, the last first parts of them."""

    def __post_init__(self) -> None:
        self.rooms.lies["user"] = self._answer
        self.lists_go_out.set()

    def add_device(self, device_id: str) -> JsonObject:
        keys = {
            "user_id": self.user_id,
            "device_id": device_id,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
            "keys": {f"ed25519:{device_id}": SigningKey.generate("x").verify_key.base64},
            "signatures": {self.user_id: {f"ed25519:{device_id}": "c2lnbmF0dXJl"}},
        }
        self.devices[device_id] = keys
        return keys

    def add_one_time_key(self, device_id: str) -> JsonObject:
        key = {"signed_curve25519:A": {"key": random_key(), "signatures": {}}}
        self.one_time_keys[device_id] = key
        return key

    def update(self, device_id: str, *, skipped: int = 0, deleted: bool = False) -> JsonObject:
        """The EDU of a device's change, after `skipped` others that nobody gets."""
        self.stream_id += skipped
        previous, self.stream_id = self.stream_id, self.stream_id + 1
        content: JsonObject = {
            "user_id": self.user_id,
            "device_id": device_id,
            "stream_id": self.stream_id,
            "prev_id": [previous],
            "device_display_name": f"{device_id} of the peer",
        }
        if deleted:
            del self.devices[device_id]
            content["deleted"] = True
        else:
            content["keys"] = self.devices[device_id]
        return {"edu_type": "m.device_list_update", "content": content}

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = unquote(request.path).partition("/v1/user/")[2]
        self.asked.append(path.partition("/@")[0])
        if self.fails:
            return web.json_response({"errcode": "M_UNKNOWN", "error": "broken"}, status=500)
        body = orjson.loads(await request.read() or b"{}")
        if path == "keys/claim":
            wanted = body["one_time_keys"].get(self.user_id, {})
            claimed = {one: self.one_time_keys.pop(one) for one in wanted if one in self.one_time_keys}
            return web.json_response({"one_time_keys": {self.user_id: claimed}})
        if path == "keys/query":
            return web.json_response({"device_keys": {self.user_id: self.devices}})
        devices = [{"device_id": one, "keys": keys} for one, keys in self.devices.items()]
        answer = {"user_id": self.user_id, "stream_id": self.stream_id, "devices": devices}
        if self.master_key is not None:
            answer["master_key"] = self.master_key
        await self.lists_go_out.wait()
        return web.json_response(answer)
