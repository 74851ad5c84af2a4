"""What the encryption of messages needs beside rooms: to-device messages, device lists and key counts.

Source: MSC3885 (to_device), MSC3884 (e2ee): the extensions of clients that encrypt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson

from homeserver.encryption.device_news import DeviceNews
from homeserver.errors import InvalidParam
from homeserver.requester import Requester
from homeserver.rooms.user_rooms import UserRooms
from homeserver.sync.sliding.connection import Connection
from homeserver.sync.sliding.extensions import ExtensionsResult
from homeserver.sync.sliding.look import Look
from homeserver.sync.sliding.request import Extensions, ToDeviceRequest

_TO_DEVICE_TOKEN = re.compile(r"d([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class DeviceExtensions:
    """Works out the extensions of the requester's device."""

    news: DeviceNews
    user_rooms: UserRooms

    def idle(
        self, requester: Requester, extensions: Extensions, connection: Connection, position: int
    ) -> bytes | None:
        """The extensions where nothing happened since the last answer; None if that takes a closer look."""
        parts: list[bytes] = []
        wanted = extensions.to_device
        if wanted is not None:
            told = told_upto(wanted)
            if told < position and connection.no_messages != (told, position):
                return None
            if wanted.since is not None:
                self.news.acknowledge(requester, min(told, position))
            parts.append(_to_device(position, b""))
        if extensions.e2ee:
            counts = self.news.cached_key_counts(requester.device_nid)
            if counts is None:
                return None
            parts.append(b'"e2ee":{%b}' % counts.in_sync[1:])
        return b"{" + b",".join(parts) + b"}"

    async def add_to_device(self, look: Look, result: ExtensionsResult) -> None:
        """Messages for the device, from where the client is with them: it may have its own pace there."""
        wanted = look.request.extensions.to_device
        if wanted is None:
            return
        told = min(told_upto(wanted), look.upto)
        if wanted.since is not None:
            self.news.acknowledge(look.requester, told)
        # Most clients repeat where they are, and some never say: what was looked through is not read again.
        after, upto = told, look.upto
        if look.connection.no_messages[0] == told:
            after = max(told, look.connection.no_messages[1])
        batch = await self.news.to_device_since(look.requester, after, upto, max(1, wanted.limit))
        if not batch.events:
            look.connection.no_messages = told, batch.upto
        result.parts.append(_to_device(batch.upto, batch.events))
        result.has_news = result.has_news or bool(batch.events)

    async def add_e2ee(self, look: Look, result: ExtensionsResult) -> None:
        """Whose devices changed, and how many keys are left. Keys that were claimed are news: the client may
        have to upload others."""
        if not look.request.extensions.e2ee:
            return
        requester = look.requester
        counts = await self.news.key_counts(requester.device_nid)
        body = counts.in_sync[1:]
        if look.since is not None:
            memberships = await self.user_rooms.get(requester.user_id)
            lists = await self.news.device_lists(requester, look.since.position, memberships)
            if lists:
                encoded = orjson.dumps({"changed": list(lists.changed), "left": list(lists.left)})
                body += b',"device_lists":' + encoded
                result.has_news = True
            result.has_news = result.has_news or self.news.keys_were_claimed(requester, look.since.position)
        result.parts.append(b'"e2ee":{%b}' % body)


def told_upto(wanted: ToDeviceRequest) -> int:
    """The position up to which the client has its messages. Raises InvalidParam."""
    if wanted.since is None:
        return 0
    match = _TO_DEVICE_TOKEN.fullmatch(wanted.since)
    if match is None:
        raise InvalidParam("This is not a token of to-device messages: leave it out to start anew")
    return int(match[1])


def _to_device(position: int, events: bytes) -> bytes:
    return b'"to_device":{"next_batch":"d%d","events":[%b]}' % (position, events)
