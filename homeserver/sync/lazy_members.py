"""Which members a device has been told of, so that lazily loaded ones are not sent again and again.

Source: Client-Server API, "Lazy-loading room members". Kept in memory only: after a restart, or beyond the
bound, a member is sent once more, which clients must expect.
"""

from __future__ import annotations

from collections import OrderedDict

MEMBERS_MAX = 500_000  # remembered, of all devices and rooms together


class LazyMembers:
    """By device and room: user id → number of the member event that was sent."""

    def __init__(self) -> None:
        self._sent: OrderedDict[tuple[int, int], dict[str, int]] = OrderedDict()
        self._count = 0

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
        while self._count > MEMBERS_MAX and self._sent:
            self._count -= len(self._sent.popitem(last=False)[1])
