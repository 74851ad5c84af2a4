"""Messages from other servers' devices. Source: Server-Server API, "Send-to-device messaging"."""

from __future__ import annotations

from collections import OrderedDict

from federation.canonical import JsonObject
from federation.identifiers import exceeds_bytes
from homeserver.clock import Clock, now_ms
from homeserver.commit_log.log import CommitLog
from homeserver.encryption.to_device_sending import (
    TYPE_BYTES_MAX,
    ToDeviceSending,
    is_user_id,
    read_messages,
)
from homeserver.errors import MatrixError
from homeserver.storage.to_device import ReceivedMessage, TransactionKnown

MESSAGE_ID_BYTES_MAX = 255
KNOWN_MAX = 50_000  # remembered; further back the database knows

Name = tuple[str, str]


class ToDeviceEdus:
    """Takes each EDU in once, by its origin and message id: the database refuses the second."""

    def __init__(self, log: CommitLog, sending: ToDeviceSending, *, clock: Clock = now_ms) -> None:
        self._log = log
        self._sending = sending
        self._clock = clock
        self._known: OrderedDict[Name, None] = OrderedDict()

    async def handle(self, origin: str, content: JsonObject) -> None:
        """``m.direct_to_device``; durable when this returns."""
        sender, event_type, message_id = (content.get(name) for name in ("sender", "type", "message_id"))
        if not isinstance(sender, str) or not is_user_id(sender) or sender.partition(":")[2] != origin:
            return
        if not isinstance(event_type, str) or exceeds_bytes(event_type, TYPE_BYTES_MAX):
            return
        if not isinstance(message_id, str) or exceeds_bytes(message_id, MESSAGE_ID_BYTES_MAX):
            return
        name = (origin, message_id)
        if name in self._known or "\x00" in message_id:
            return
        try:
            messages = read_messages(content.get("messages"))
            changes = await self._sending.local_changes(sender, event_type, messages)
            await self._log.commit(ReceivedMessage(origin, message_id, self._clock()), *changes)
        except TransactionKnown:
            pass
        except MatrixError as error:
            if error.status >= 500:  # not stored: the other server is to send it again
                raise
            return
        self._known[name] = None
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
