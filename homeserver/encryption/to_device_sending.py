"""Sending messages to devices: `sendToDevice`. Source: Client-Server API, "Send-to-Device messaging"."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from secrets import token_urlsafe

import orjson

from federation.canonical import JsonObject
from federation.errors import BadIdentifier, NotCanonical
from federation.identifiers import check_user_id, exceeds_bytes
from homeserver.clock import Clock, now_ms
from homeserver.commit_log.change import Change
from homeserver.commit_log.log import CommitLog
from homeserver.commit_log.outbound import OutboundEdu
from homeserver.encryption.device_numbers import NO_DEVICES, DeviceNumbers
from homeserver.errors import BadJson, InvalidParam, TooLarge
from homeserver.requester import Requester
from homeserver.storage.connection import Pool
from homeserver.storage.to_device import (
    ToDeviceChange,
    ToDeviceTransaction,
    TransactionKnown,
    forget_received,
    forget_transactions,
)

ALL_DEVICES = "*"
DIRECT_TO_DEVICE = "m.direct_to_device"
MESSAGE_ID_BYTES = 20  # random, 27 characters: "maximum length 32 codepoints"
MESSAGES_PER_EDU = 50
TYPE_BYTES_MAX = 255
TXN_ID_BYTES_MAX = 255
EVENT_BYTES_MAX = 64 * 1024  # as events of rooms: a hundred come in one answer
MESSAGES_MAX = 10_000  # of one request, where `*` counts as the devices that it stands for
TRANSACTIONS_MAX = 20_000  # remembered; further back the database knows
TRANSACTIONS_KEPT_MS = 24 * 3600 * 1000
RECEIVED_KEPT_MS = 30 * 24 * 3600 * 1000  # a server may repeat itself after it was away for long

Messages = Mapping[str, Mapping[str, JsonObject]]
"""Contents by user id and device id, or `*` for all of the user's devices."""


def read_messages(value: object) -> Messages:
    """The ``messages`` of a request. Raises BadJson, TooLarge."""
    if not isinstance(value, dict):
        raise BadJson("'messages' must map user ids to device ids to contents")
    count = 0
    for devices in value.values():
        if not isinstance(devices, dict):
            raise BadJson("'messages' must map user ids to device ids to contents")
        for content in devices.values():
            if not isinstance(content, dict):
                raise BadJson("'messages' must map user ids to device ids to contents")
        count += len(devices)
    if count > MESSAGES_MAX:
        raise TooLarge(f"{MESSAGES_MAX} messages at most can be sent at once")
    return value


class ToDeviceSending:
    """Takes messages in for this node's devices."""

    def __init__(
        self,
        pool: Pool,
        log: CommitLog,
        numbers: DeviceNumbers,
        server_name: str,
        *,
        clock: Clock = now_ms,
    ) -> None:
        self._pool = pool
        self._numbers = numbers
        self._log = log
        self._suffix = ":" + server_name
        self._clock = clock
        self._done: OrderedDict[tuple[int, str, str], None] = OrderedDict()

    async def send(self, requester: Requester, event_type: str, txn_id: str, messages: Messages) -> None:
        """Send once per transaction id; the messages are durable when this returns.

        Raises InvalidParam, TooLarge. Users and devices that are not there get nothing.
        """
        if not event_type or exceeds_bytes(event_type, TYPE_BYTES_MAX):
            raise InvalidParam(f"The type must have 1 to {TYPE_BYTES_MAX} bytes")
        if not txn_id or exceeds_bytes(txn_id, TXN_ID_BYTES_MAX):
            raise InvalidParam(f"A transaction id has 1 to {TXN_ID_BYTES_MAX} bytes")
        transaction = (requester.device_nid, event_type, txn_id)
        if transaction in self._done:
            return
        local = {user_id: one for user_id, one in messages.items() if user_id.endswith(self._suffix)}
        changes = await self.local_changes(requester.user_id, event_type, local)
        changes += self._remote_changes(requester.user_id, event_type, messages)
        done = ToDeviceTransaction(requester.device_nid, self._clock(), event_type, txn_id)
        try:
            await self._log.commit(done, *changes)
        except TransactionKnown:
            pass
        self._done[transaction] = None
        if len(self._done) > TRANSACTIONS_MAX:
            self._done.popitem(last=False)

    def _remote_changes(self, sender: str, event_type: str, messages: Messages) -> list[Change]:
        """What brings messages to other servers' devices. Raises BadJson for numbers that cannot be sent."""
        by_server: dict[str, dict[str, Mapping[str, JsonObject]]] = {}
        for user_id, contents in messages.items():
            server = user_id.partition(":")[2]
            if not user_id.endswith(self._suffix) and contents and is_user_id(user_id):
                by_server.setdefault(server, {})[user_id] = contents
        changes: list[Change] = []
        for server, of_server in by_server.items():
            for part in _parts(of_server):
                content = {
                    "sender": sender,
                    "type": event_type,
                    "message_id": token_urlsafe(MESSAGE_ID_BYTES),
                    "messages": part,
                }
                try:
                    changes.append(OutboundEdu((server,), DIRECT_TO_DEVICE, content))
                except NotCanonical as cause:
                    raise BadJson(str(cause)) from cause
        return changes

    async def local_changes(self, sender: str, event_type: str, messages: Messages) -> list[Change]:
        """The changes that bring messages to this node's devices. Raises TooLarge."""
        wanted = [user_id for user_id in messages if "\x00" not in user_id]
        nids = await self._numbers.of(wanted)
        head = b'{"type":%b,"sender":%b,"content":' % (orjson.dumps(event_type), orjson.dumps(sender))
        changes: list[Change] = []
        for user_id, contents in messages.items():
            devices = nids.get(user_id, NO_DEVICES)
            to_all = contents.get(ALL_DEVICES)
            event_to_all = None if to_all is None else b"%b%b}" % (head, orjson.dumps(to_all))
            for device_id, nid in devices.items():
                content = contents.get(device_id)
                event = event_to_all if content is None else b"%b%b}" % (head, orjson.dumps(content))
                if event is not None:
                    if len(event) > EVENT_BYTES_MAX:
                        raise TooLarge(f"A message may have {EVENT_BYTES_MAX} bytes at most")
                    changes.append(ToDeviceChange(user_id, nid, event))
            if len(changes) > MESSAGES_MAX:
                raise TooLarge(f"{MESSAGES_MAX} messages at most can be sent at once")
        return changes

    async def sweep(self) -> None:
        """Forget requests and EDUs of long ago."""
        await forget_transactions(self._pool, self._clock() - TRANSACTIONS_KEPT_MS)
        await forget_received(self._pool, self._clock() - RECEIVED_KEPT_MS)


def is_user_id(text: str) -> bool:
    """Whether text is a user id of some server."""
    try:
        check_user_id(text)
    except BadIdentifier:
        return False
    return True


def _parts(messages: Messages) -> Iterator[dict[str, dict[str, JsonObject]]]:
    """Messages in portions for one EDU each. Two messages for one user keep their order."""
    part: dict[str, dict[str, JsonObject]] = {}
    count = 0
    for user_id, contents in messages.items():
        for device_id, content in contents.items():
            if count == MESSAGES_PER_EDU:
                yield part
                part, count = {}, 0
            part.setdefault(user_id, {})[device_id] = content
            count += 1
    if part:
        yield part
