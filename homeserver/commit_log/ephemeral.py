"""What clients are told but nobody stores: who is typing, and who is online.

Every change takes the next number of a counter of its own, which is the second half of a sync token.
It begins at the time of the process's start, so that tokens of the process before are older than
everything here. Source: Client-Server API, "Typing Notifications", "Presence".
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import takewhile

import orjson

from homeserver.clock import Clock, now_ms

TYPING_ROOMS_MAX = 10_000  # remembered; the one that changed longest ago is forgotten beyond
TYPING_USERS_MAX = 200  # shown as typing in one room; further ones are not
PRESENCE_MAX = 100_000  # users remembered; likewise

Notify = Callable[[Collection[str]], None]
OnTyping = Callable[[int, str, bool], None]
"""Is told the room, the user, and whether they type: when they begin, say so again, or stop."""


@dataclass(slots=True)
class _TypingRoom:
    """Who types, until when; and whom to wake when that changes: the room's local members, live."""

    audience: Collection[str]
    changed: int = 0
    expires_ms: dict[str, int] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class PresenceStatus:
    """What is told of a user. ``last_active_ms`` is a point in time, 0 if unknown."""

    state: str
    last_active_ms: int
    currently_active: bool
    status_msg: str | None = None
    displayname: str | None = None
    avatar_url: str | None = None
    changed: int = 0

    def content(self, now: int) -> dict[str, str | int | bool]:
        """The content of ``m.presence``, which is also the answer of `getPresence` but for the profile."""
        content: dict[str, str | int | bool] = {"presence": self.state}
        if self.last_active_ms:
            content["last_active_ago"] = max(0, now - self.last_active_ms)
        if self.state == "online":
            content["currently_active"] = self.currently_active
        if self.status_msg is not None:
            content["status_msg"] = self.status_msg
        if self.displayname is not None:
            content["displayname"] = self.displayname
        if self.avatar_url is not None:
            content["avatar_url"] = self.avatar_url
        return content


class Ephemeral:
    """Typing and presence in this process. ``notify`` wakes the waiting syncs of some users."""

    def __init__(self, notify: Notify, *, clock: Clock = now_ms) -> None:
        self._notify = notify
        self._clock = clock
        self.counter = clock()
        self._typing: OrderedDict[int, _TypingRoom] = OrderedDict()  # the last change last
        self._presence: OrderedDict[str, PresenceStatus] = OrderedDict()  # likewise
        self.on_typing: OnTyping = lambda room_nid, user_id, typing: None

    # -- typing --

    def start_typing(self, room_nid: int, user_id: str, timeout_ms: int, audience: Collection[str]) -> None:
        """The user types for so long from now. ``audience`` is the live set of the room's local members."""
        room = self._typing.get(room_nid)
        if room is None:
            room = self._typing[room_nid] = _TypingRoom(audience)
            if len(self._typing) > TYPING_ROOMS_MAX:
                _, forgotten = self._typing.popitem(last=False)
                if forgotten.timer is not None:
                    forgotten.timer.cancel()
        room.audience = audience
        is_new = user_id not in room.expires_ms
        if is_new and len(room.expires_ms) >= TYPING_USERS_MAX:
            return
        room.expires_ms[user_id] = self._clock() + timeout_ms
        self._set_timer(room_nid, room)
        if is_new:
            self._typing_changed(room_nid, room)
        self.on_typing(room_nid, user_id, True)

    def stop_typing(self, room_nid: int, user_id: str) -> None:
        """The user has stopped typing; nothing happens if they were not."""
        room = self._typing.get(room_nid)
        if room is not None and room.expires_ms.pop(user_id, None) is not None:
            self._typing_changed(room_nid, room)
            self.on_typing(room_nid, user_id, False)

    def typing_since(self, room_nid: int, counter: int) -> list[str] | None:
        """Who types in a room, if that changed after ``counter``; None if not."""
        room = self._typing.get(room_nid)
        return list(room.expires_ms) if room is not None and room.changed > counter else None

    def rooms_typed_in_since(self, counter: int) -> list[int]:
        """The rooms for which `typing_since` has something, newest first."""
        newest_first = reversed(self._typing.items())
        return [nid for nid, _ in takewhile(lambda item: item[1].changed > counter, newest_first)]

    def _typing_changed(self, room_nid: int, room: _TypingRoom) -> None:
        self.counter += 1
        room.changed = self.counter
        self._typing.move_to_end(room_nid)
        self._notify(room.audience)

    def _set_timer(self, room_nid: int, room: _TypingRoom) -> None:
        """Have `_expire` called when the first of those who type stops, or before."""
        loop = asyncio.get_running_loop()
        in_s = max(0, min(room.expires_ms.values()) - self._clock()) / 1000
        if room.timer is not None:
            if room.timer.when() <= loop.time() + in_s:
                return
            room.timer.cancel()
        room.timer = loop.call_later(in_s, self._expire, room_nid, room)

    def _expire(self, room_nid: int, room: _TypingRoom) -> None:
        room.timer = None
        now = self._clock()
        expired = [user_id for user_id, expires_ms in room.expires_ms.items() if expires_ms <= now]
        for user_id in expired:
            del room.expires_ms[user_id]
        if room.expires_ms:
            self._set_timer(room_nid, room)
        if expired:
            self._typing_changed(room_nid, room)
        for user_id in expired:
            self.on_typing(room_nid, user_id, False)

    # -- presence --

    def set_presence(self, user_id: str, status: PresenceStatus) -> None:
        """Tell of a user's new status with the next syncs; nobody is woken for it."""
        self.counter += 1
        status.changed = self.counter
        self._presence[user_id] = status
        self._presence.move_to_end(user_id)
        if len(self._presence) > PRESENCE_MAX:
            self._presence.popitem(last=False)

    def presence(self, user_id: str) -> PresenceStatus | None:
        """The status last told of a user."""
        return self._presence.get(user_id)

    def presence_changed_since(self, counter: int) -> Iterator[tuple[str, PresenceStatus]]:
        """Users whose status changed after ``counter``, newest first."""
        return takewhile(lambda item: item[1].changed > counter, reversed(self._presence.items()))

    def encode_presence(self, user_id: str, status: PresenceStatus) -> bytes:
        """The ``m.presence`` event."""
        return orjson.dumps(
            {"type": "m.presence", "sender": user_id, "content": status.content(self._clock())}
        )
