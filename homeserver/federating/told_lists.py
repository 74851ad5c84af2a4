"""Of which lists clients know already that they changed, so that one change is told of once.

An update that cannot be taken in is told of at once, and has the list asked for. Clients that look at the
user's keys meanwhile wait for the list (`RemoteLists.refresh`), so that it need not be told of when it comes,
unless somebody looked in vain. The list may hold later changes than the update, though, whose own updates are
still on their way: those are told of when they come.

This is in memory only: what is forgotten is told of once more, which costs clients a question.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

LISTS_MAX = 10_000


@dataclass(slots=True)
class _Told:
    """The last update that was told of, and whether the list has come since."""

    stream_id: int
    has_come: bool = False


@dataclass(frozen=True, slots=True)
class ToldLists:
    """Lists of other servers' users, by user."""

    _lists: OrderedDict[str, _Told] = field(default_factory=OrderedDict)

    def note(self, user_id: str, stream_id: int) -> None:
        """An update was told of that the list holds."""
        told = self._lists.get(user_id)
        if told is not None:
            told.stream_id = max(told.stream_id, stream_id)

    def note_awaited(self, user_id: str, stream_id: int) -> None:
        """An update was told of, and the list is being asked for."""
        told = self._lists.pop(user_id, None)
        self._lists[user_id] = _Told(stream_id if told is None else max(told.stream_id, stream_id))
        if len(self._lists) > LISTS_MAX:
            self._lists.popitem(last=False)

    def forget(self, user_id: str) -> None:
        """The list is to be told of when it comes."""
        self._lists.pop(user_id, None)

    def is_awaited(self, user_id: str) -> bool:
        """Whether all who may look at the list that comes now were told to."""
        told = self._lists.get(user_id)
        return told is not None and not told.has_come

    def came(self, user_id: str) -> bool:
        """The list is here: whether it is still so that all were told."""
        told = self._lists.get(user_id)
        if told is None or told.has_come:
            self.forget(user_id)
            return False
        told.has_come = True
        return True

    def is_news(self, user_id: str, stream_id: int) -> bool:
        """Whether an update that the list holds is still to be told of."""
        told = self._lists.get(user_id)
        return told is not None and told.has_come and stream_id > told.stream_id
