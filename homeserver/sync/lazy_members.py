"""Which members a device has been told of, so that lazily loaded ones are not sent again and again.

Source: Client-Server API, "Lazy-loading room members". Kept in memory only: after a restart, or beyond the
bound, a member is sent once more, which clients must expect.
"""

from __future__ import annotations

from collections import OrderedDict

from homeserver.sync.token import SyncToken

MEMBERS_MAX = 500_000  # remembered, of all devices and rooms together
DEVICES_MAX = 20_000  # whose last answer is remembered


class LazyMembers:
    """By device and room: user id → number of the member event that was sent."""

    def __init__(self) -> None:
        self._sent: OrderedDict[tuple[int, int], dict[str, int]] = OrderedDict()
        self._count = 0
        # By device: the token of its last request, and whom the answer told of, by room.
        self._answers: OrderedDict[int, tuple[SyncToken | None, dict[int, set[str]]]] = OrderedDict()

    def begin(self, device_nid: int, since: SyncToken | None) -> None:
        """The device asks. Asking again with the same token, it has missed the answer: what that told is
        to be told once more."""
        last = self._answers.pop(device_nid, None)
        if last is not None and last[0] == since:
            for room_nid, members in last[1].items():
                sent = self._sent.get((device_nid, room_nid), {})
                for member in members:
                    self._count -= sent.pop(member, None) is not None
        self._answers[device_nid] = since, {}
        if len(self._answers) > DEVICES_MAX:
            self._answers.popitem(last=False)

    def of(self, device_nid: int, room_nid: int) -> dict[str, int]:
        """What was sent to the device of the room; `note` adds to it."""
        key = (device_nid, room_nid)
        sent = self._sent.get(key)
        if sent is None:
            return {}
        self._sent.move_to_end(key)
        return sent

    def forget(self, device_nid: int, room_nid: int) -> None:
        """The device begins anew."""
        sent = self._sent.pop((device_nid, room_nid), None)
        if sent is not None:
            self._count -= len(sent)

    def note(self, device_nid: int, room_nid: int, members: dict[str, int]) -> None:
        """These members have been sent to the device."""
        sent = self._sent.setdefault((device_nid, room_nid), {})
        before = len(sent)
        sent.update(members)
        self._count += len(sent) - before
        answer = self._answers.get(device_nid)
        if answer is not None:
            answer[1].setdefault(room_nid, set()).update(members)
        while self._count > MEMBERS_MAX and self._sent:
            self._count -= len(self._sent.popitem(last=False)[1])
