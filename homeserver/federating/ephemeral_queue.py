"""What one server is told and may miss: who types, who has read what, who is online. The latest wins.

Source: Server-Server API, "Typing Notifications", "Receipts", "Presence".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from federation.canonical import JsonObject, encode_legacy
from homeserver.storage.receipts import Receipt

Key = TypeVar("Key")
Value = TypeVar("Value")

KEYS_MAX = 1_000  # of each kind; the oldest is dropped beyond
RECEIPTS_PER_TAKE = 500
PRESENCES_PER_EDU = 100

TypingKey = tuple[str, str]  # room, user
ReceiptKey = tuple[str, str, str]  # room, user, thread or ""


@dataclass(slots=True)
class EphemeralQueue:
    """Waits for one server. Taking it empties it; it is not put back."""

    _typing: dict[TypingKey, bool] = field(default_factory=dict)
    _receipts: dict[ReceiptKey, tuple[str, int]] = field(default_factory=dict)
    _presence: dict[str, tuple[JsonObject, int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._typing) + len(self._receipts) + len(self._presence)

    def clear(self) -> None:
        """Nobody would want to know any more."""
        self._typing.clear()
        self._receipts.clear()
        self._presence.clear()

    def put_typing(self, room_id: str, user_id: str, typing: bool) -> None:
        _put(self._typing, (room_id, user_id), typing)

    def put_receipt(self, room_id: str, receipt: Receipt) -> None:
        """A public read receipt."""
        _put(self._receipts, (room_id, receipt.user_id, receipt.thread_id), (receipt.event_id, receipt.ts))

    def put_presence(self, user_id: str, content: JsonObject, last_active_ms: int) -> None:
        """An entry of ``push`` without its time; ``last_active_ms`` is a point in time."""
        _put(self._presence, user_id, (content, last_active_ms))

    def take(self, limit: int, now_ms: int) -> list[bytes]:
        """At most ``limit`` EDUs, encoded, of what waits."""
        edus = list(islice(self._typing_edus(), limit))
        if len(edus) < limit and self._presence:
            edus.append(self._presence_edu(now_ms))
        if self._receipts:
            edus += islice(self._receipt_edus(), limit - len(edus))
        return edus

    def _typing_edus(self) -> Iterator[bytes]:
        while self._typing:
            room_id, user_id = next(iter(self._typing))
            typing = self._typing.pop((room_id, user_id))
            yield _edu("m.typing", {"room_id": room_id, "user_id": user_id, "typing": typing})

    def _presence_edu(self, now_ms: int) -> bytes:
        push: list[JsonObject] = []
        for user_id in list(islice(self._presence, PRESENCES_PER_EDU)):
            content, last_active_ms = self._presence.pop(user_id)
            push.append({**content, "user_id": user_id, "last_active_ago": max(0, now_ms - last_active_ms)})
        return _edu("m.presence", {"push": push})

    def _receipt_edus(self) -> Iterator[bytes]:
        """One EDU has room for one receipt of a user in a room: those of other threads go into the next."""
        taken = list(islice(self._receipts.items(), RECEIPTS_PER_TAKE))
        while taken:
            content: JsonObject = {}
            left: list[tuple[ReceiptKey, tuple[str, int]]] = []
            for key, (event_id, ts) in taken:
                room_id, user_id, thread_id = key
                users = content.setdefault(room_id, {"m.read": {}})["m.read"]
                if user_id in users:
                    left.append((key, (event_id, ts)))
                    continue
                data: JsonObject = {"ts": ts, "thread_id": thread_id} if thread_id else {"ts": ts}
                users[user_id] = {"event_ids": [event_id], "data": data}
                del self._receipts[key]
            taken = left
            yield _edu("m.receipt", content)


def _put(queue: dict[Key, Value], key: Key, value: Value) -> None:
    queue[key] = value
    if len(queue) > KEYS_MAX:
        del queue[next(iter(queue))]


def _edu(edu_type: str, content: JsonObject) -> bytes:
    return encode_legacy({"content": content, "edu_type": edu_type})
