"""Tokens for calls on a LiveKit server, for members of the call's room. Source: MSC4195, and lk-jwt-service's
API, which clients know.

Who asks proves who they are by an OpenID token of their server. Whether they are in the room, this node knows
from the room itself, so only rooms that it is in have calls here. A LiveKit room is made for users of this
node alone: those of other servers may join a call that has begun.
"""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from dataclasses import dataclass

import aiohttp
import orjson
import structlog
from joserfc import jwt
from joserfc.jwk import OctKey

from federation.event import JsonObject
from homeserver.clock import Clock, now_ms
from homeserver.config.rooms import LivekitConfig
from homeserver.errors import Forbidden, NotFound, Unavailable
from homeserver.rooms.rooms import Rooms

log = structlog.get_logger()

LEGACY_SLOT = "m.call#ROOM"  # what `/sfu/get`, which knows no slots, stands for
CREATE_PATH = "/twirp/livekit.RoomService/CreateRoom"
CREATE_TIMEOUT_S = 10.0
CREATE_LIFETIME_S = 60
EMPTY_TIMEOUT_S = 300  # a room that nobody joins is kept so long
DEPARTURE_TIMEOUT_S = 20  # and one that all have left


@dataclass(frozen=True, slots=True)
class LiveKit:
    """The configured LiveKit server, if there is one."""

    config: LivekitConfig
    rooms: Rooms
    clock: Clock = now_ms

    async def token_by_device(self, user_id: str, room_id: str, device_id: str) -> JsonObject:
        """`/sfu/get`: the participant is named by user and device, the room's only call is meant.

        Raises NotFound (no LiveKit server here), Forbidden, Unavailable.
        """
        return await self._token(user_id, room_id, LEGACY_SLOT, f"{user_id}:{device_id}")

    async def token(
        self, user_id: str, room_id: str, slot_id: str, device_id: str, member_id: str
    ) -> JsonObject:
        """`/get_token`: the participant's name tells LiveKit nothing, and a room may have several calls.

        Raises as `token_by_device`.
        """
        return await self._token(user_id, room_id, slot_id, hashed(user_id, device_id, member_id))

    async def _token(self, user_id: str, room_id: str, slot_id: str, identity: str) -> JsonObject:
        url = self.config.url
        if url is None:
            raise NotFound("This server has no LiveKit server for calls")
        room = await self.rooms.find(room_id)
        # What is known of a room that nobody here is in any more is out of date.
        if room is None or not room.local_members or room.membership(user_id) != "join":
            raise Forbidden("You are not in this room, or this server is not: join it first")
        name = hashed(room_id, slot_id)
        if room.is_local(user_id):
            await self._create_room(url, name)
        grants: JsonObject = {
            "room": name,
            "roomJoin": True,
            "canPublish": True,
            "canSubscribe": True,
            "canUpdateOwnMetadata": True,
        }
        return {"url": url, "jwt": self._sign(grants, identity, self.config.token_lifetime_ms // 1000)}

    def _sign(self, grants: JsonObject, identity: str | None, lifetime_s: int) -> str:
        """A token with LiveKit's grants, valid from now on."""
        now_s = self.clock() // 1000
        claims: JsonObject = {
            "iss": self.config.api_key,
            "nbf": now_s,
            "exp": now_s + lifetime_s,
            "video": grants,
        }
        if identity is not None:
            claims["sub"] = identity
        key = OctKey.import_key(self.config.api_secret or "")
        return jwt.encode({"alg": "HS256", "typ": "JWT"}, claims, key)

    async def _create_room(self, url: str, name: str) -> None:
        """Have the LiveKit room made; that it is there already is no failure. Raises Unavailable."""
        api_url = self.config.api_url or url.replace("ws", "http", 1)
        token = self._sign({"roomCreate": True}, None, CREATE_LIFETIME_S)
        body = {
            "name": name,
            "empty_timeout": EMPTY_TIMEOUT_S,
            "departure_timeout": DEPARTURE_TIMEOUT_S,
        }
        try:
            async with (
                asyncio.timeout(CREATE_TIMEOUT_S),
                aiohttp.ClientSession() as http,
                http.post(
                    api_url.rstrip("/") + CREATE_PATH,
                    data=orjson.dumps(body),
                    headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
                    allow_redirects=False,
                ) as response,
            ):
                status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as cause:
            log.warning("livekit not reached", url=api_url, cause=repr(cause))
            raise Unavailable("The LiveKit server cannot be reached: try again later") from cause
        if status != 200:
            log.warning("livekit refused to make a room", url=api_url, status=status)
            raise Unavailable("The LiveKit server did not make a room for the call: try again later")


def hashed(*names: str) -> str:
    """A name that LiveKit gets for names of ours; clients compute the same. Source: MSC4195."""
    digest = hashlib.sha256(orjson.dumps(names)).digest()
    return b64encode(digest).decode().rstrip("=")
