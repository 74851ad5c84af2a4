"""Unread counts: how many events after a user's receipts the push rules notify of.

Counted when asked for, kept in memory, and carried on from there: an event costs one evaluation for each
user who syncs, none for those who do not. Source: Client-Server API, "Receiving notifications", "Threading".
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from federation.power_levels import CREATOR_POWER
from homeserver.accounts.account_data import IGNORED_USERS
from homeserver.accounts.push_rules import TYPE as PUSH_RULES
from homeserver.accounts.push_rules import PushRules
from homeserver.commit_log.change import Change
from homeserver.commit_log.log import CommitLog
from homeserver.push_rules import Evaluator, PushContext, PushEvent
from homeserver.rooms.changes import RoomEventChange
from homeserver.rooms.event import Event
from homeserver.rooms.relations_of import relation_of
from homeserver.rooms.room import Room
from homeserver.storage import events as event_sql
from homeserver.storage.account_data import AccountDataChange
from homeserver.storage.connection import Pool
from homeserver.storage.receipts import MAIN_TIMELINE, UNTHREADED, ReceiptChange, fetch_read_marks

COUNTERS_MAX = 100_000  # kept in memory
EVENTS_PER_PAUSE = 500  # counted before others on the event loop get their turn
EVENTS_COUNTED_MAX = 1_000  # back from now, where counting starts anew: counts are cut there


@dataclass(slots=True)
class Counts:
    """Events that notify, and those of them with a highlight."""

    notifications: int = 0
    highlights: int = 0


@dataclass(slots=True)
class Counter:
    """The counts of one user in one room up to a position, by thread ("main" for the main timeline)."""

    marks: dict[str, int]
    joined: int
    upto: int
    threads: dict[str, Counts] = field(default_factory=dict)

    def is_read(self, nid: int, thread: str) -> bool:
        """Whether a receipt, or the time before joining, covers an event."""
        return nid <= max(self.joined, self.marks.get(UNTHREADED, 0), self.marks.get(thread, 0))

    def mark(self, thread: str, nid: int) -> bool:
        """Take in a receipt; False if the counts must be made anew."""
        self.marks[thread] = max(nid, self.marks.get(thread, 0))
        if nid < self.upto:
            return False
        if thread == UNTHREADED:
            self.threads.clear()
        else:
            self.threads.pop(thread, None)
        return True


@dataclass(slots=True)
class _Load:
    """What became durable of a user while counters of theirs were being made."""

    receipts: list[ReceiptChange] = field(default_factory=list)
    outdated: bool = False


class UnreadCounts:
    """Counters of those who sync. Follows the commit log for receipts."""

    def __init__(self, pool: Pool, log: CommitLog, push_rules: PushRules) -> None:
        self._pool = pool
        self._log = log
        self._push_rules = push_rules
        self._counters: OrderedDict[tuple[str, int], Counter] = OrderedDict()
        self._loads: dict[str, list[_Load]] = {}
        log.subscribe(self._follow)

    def _follow(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, AccountDataChange) and change.type in (PUSH_RULES, IGNORED_USERS):
                self._forget(change.owner)
            elif isinstance(change, RoomEventChange) and change.redaction is not None:
                for user_id in change.room.local_members:  # it may have been counted
                    self._counters.pop((user_id, change.room_nid), None)
            if not isinstance(change, ReceiptChange):
                continue
            for load in self._loads.get(change.receipt.user_id, ()):
                load.receipts.append(change)
            key = (change.receipt.user_id, change.room_nid)
            counter = self._counters.get(key)
            if counter is not None and not counter.mark(change.receipt.thread_id, change.receipt.event_nid):
                del self._counters[key]

    def _forget(self, user_id: str) -> None:
        """The user's push rules, or whom they ignore, changed: what was counted before is counted anew."""
        for load in self._loads.get(user_id, ()):
            load.outdated = True
        for key in [key for key in self._counters if key[0] == user_id]:
            del self._counters[key]

    def cached(self, user_id: str, room: Room, upto: int, ignored: Collection[str] = ()) -> Counter | None:
        """The counter up to a position, if that takes no query. Events of `ignored` users do not count."""
        counter = self._counters.get((user_id, room.nid))
        if counter is None or (counter.upto < upto and not self._log.tail.covers(counter.upto)):
            return None
        if counter.upto < upto:
            evaluator = self._push_rules.cached(user_id)
            if evaluator is None:
                return None
            changes = self._log.tail.of_room(room.nid, counter.upto)
            if len(changes) > EVENTS_PER_PAUSE:
                return None
            for change in changes:
                if isinstance(change, RoomEventChange) and change.position <= upto:
                    _count(counter, evaluator, room, change.event, ignored)
            counter.upto = upto
        self._counters.move_to_end((user_id, room.nid))
        return counter

    async def load(
        self,
        user_id: str,
        user_nid: int,
        rooms: Sequence[tuple[Room, int]],
        upto: int,
        ignored: Collection[str] = (),
    ) -> None:
        """Make the counters that `cached` does not have, for rooms and the positions of joining them."""
        missing = [
            (room, joined) for room, joined in rooms if self.cached(user_id, room, upto, ignored) is None
        ]
        if not missing:
            return
        load = _Load()
        loads = self._loads.setdefault(user_id, [])
        loads.append(load)
        try:
            counters = await self._counted(user_id, user_nid, missing, upto, ignored)
        finally:
            loads.remove(load)
            if not loads:
                del self._loads[user_id]
        if load.outdated:
            return
        for change in load.receipts:
            counter = counters.get(change.room_nid)
            if counter is not None and not counter.mark(change.receipt.thread_id, change.receipt.event_nid):
                del counters[change.room_nid]
        for nid, counter in counters.items():
            self._counters[(user_id, nid)] = counter
        while len(self._counters) > COUNTERS_MAX:
            self._counters.popitem(last=False)

    async def _counted(
        self,
        user_id: str,
        user_nid: int,
        rooms: Sequence[tuple[Room, int]],
        upto: int,
        ignored: Collection[str],
    ) -> dict[int, Counter]:
        """New counters by room."""
        evaluator = (await self._push_rules.evaluators((user_id,)))[user_id]
        marks = await fetch_read_marks(self._pool, user_nid, [room.nid for room, _ in rooms])
        counters = {room.nid: Counter(dict(marks.get(room.nid, {})), joined, upto) for room, joined in rooms}
        by_nid = {room.nid: room for room, _ in rooms}
        stored: list[tuple[int, int, int]] = []
        looked_at = 0
        for room, joined in rooms:
            counter = counters[room.nid]
            start = max(joined, counter.marks.get(UNTHREADED, 0))
            if not self._log.tail.covers(start):
                stored.append((room.nid, start, upto))
                continue
            for change in self._log.tail.of_room(room.nid, start):
                if isinstance(change, RoomEventChange) and change.position <= upto:
                    _count(counter, evaluator, room, change.event, ignored)
                looked_at += 1
                if looked_at % EVENTS_PER_PAUSE == 0:
                    await asyncio.sleep(0)
        if stored:
            rows = await event_sql.newest_notifying(self._pool, stored, user_id, EVENTS_COUNTED_MAX)
            rows.sort(key=itemgetter("nid"))
            for row in rows:
                event = Event.of_row(row)
                _count(counters[event.room_nid], evaluator, by_nid[event.room_nid], event, ignored)
                looked_at += 1
                if looked_at % EVENTS_PER_PAUSE == 0:
                    await asyncio.sleep(0)
        return counters


def _count(
    counter: Counter, evaluator: Evaluator, room: Room, event: Event, ignored: Collection[str]
) -> None:
    if event.nid <= counter.joined or event.redacted_by is not None:
        return
    if ignored and event.sender in ignored:
        return
    if evaluator.only_narrows and event.state_key is not None and event.type not in _NOTIFYING_STATE:
        return
    content = event.content
    relation = relation_of(content)
    thread = relation.event_id if relation is not None and relation.rel_type == "m.thread" else MAIN_TIMELINE
    if counter.is_read(event.nid, thread):
        return
    if event.sender == evaluator.user_id and event.state_key is None:
        # Whoever writes has read what stands above, as users of other messengers expect it.
        counter.marks[thread] = event.nid
        counter.threads.pop(thread, None)
        return
    view = PushEvent(
        type=event.type, sender=event.sender, state_key=event.state_key, room_id=room.room_id, content=content
    )
    if not evaluator.may_notify(view):
        return
    outcome = evaluator.evaluate(view, push_context(room, event.sender, evaluator))
    if outcome.notify:
        counts = counter.threads.setdefault(thread, Counts())
        counts.notifications += 1
        counts.highlights += outcome.highlight


_NOTIFYING_STATE = ("m.room.member", "m.room.tombstone")


def push_context(room: Room, sender: str, evaluator: Evaluator) -> PushContext:
    """The circumstances that push rules ask for, as they are now."""
    power: float = room.power_levels.for_user(sender)
    notifications = room.content_of("m.room.power_levels").get("notifications")
    display_name = None
    if evaluator.needs_display_name:
        member = room.member(evaluator.user_id)
        name = member.content.get("displayname") if member is not None else None
        display_name = name if isinstance(name, str) else None
    return PushContext(
        member_count=room.joined_count,
        sender_power_level=math.inf if power == CREATOR_POWER else power,
        notification_levels=notifications if isinstance(notifications, dict) else {},
        display_name=display_name,
    )
