"""What a user was notified of, newest first. Source: Client-Server API, "Listing Notifications".

Nothing is kept for it: the push rules, as they are now, are asked again about the events of the
user's rooms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from homeserver.accounts.account_data import AccountData
from homeserver.accounts.push_rules import PushRules
from homeserver.clock import Clock, now_ms
from homeserver.commit_log.log import CommitLog
from homeserver.push_rules import Evaluator, PushEvent
from homeserver.requester import Requester
from homeserver.rooms.event import Event
from homeserver.rooms.relations_of import relation_of
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.user_rooms import UserRooms
from homeserver.storage.connection import Pool
from homeserver.storage.events import by_nids
from homeserver.storage.notifications import fetch_candidates
from homeserver.storage.receipts import MAIN_TIMELINE, fetch_read_marks
from homeserver.sync.unread import Counter, push_context

NOTIFICATIONS_MAX = 100
EVENTS_MAX = 200  # read at once
ROUNDS_MAX = 5  # of reading; a page may be short, even empty, and still have a token to go on with
CANDIDATES_OF_ROOM = 20


@dataclass(frozen=True, slots=True)
class NotificationPage:
    """Encoded notifications; ``before`` continues below them, None where there is nothing more."""

    notifications: list[bytes]
    before: int | None


@dataclass(frozen=True, slots=True)
class Notifications:
    """Lists notifications of joined rooms, from the time of joining on."""

    pool: Pool
    log: CommitLog
    rooms: Rooms
    user_rooms: UserRooms
    push_rules: PushRules
    account_data: AccountData
    clock: Clock = now_ms

    async def page(
        self, requester: Requester, before: int | None, limit: int, *, only_highlights: bool
    ) -> NotificationPage:
        """`getNotifications`: those of events numbered below ``before``."""
        user_id = requester.user_id
        joined = {
            room.room_nid: room.since
            for room in (await self.user_rooms.get(user_id)).values()
            if room.membership == "join"
        }
        evaluator = (await self.push_rules.evaluators((user_id,)))[user_id]
        marks = await fetch_read_marks(self.pool, requester.user_nid, joined)
        counters = {nid: Counter(marks.get(nid, {}), since, 0) for nid, since in joined.items()}
        ignored = await self.account_data.ignored(user_id)
        limit = min(limit, NOTIFICATIONS_MAX)
        found: list[bytes] = []
        position = before if before is not None else self.log.position + 1
        for _ in range(ROUNDS_MAX):
            events, more = await self._events(list(joined.items()), position, user_id)
            for event in events:
                position = event.nid
                if event.sender in ignored:
                    continue
                encoded = await self._notification(
                    requester, event, evaluator, counters[event.room_nid], only_highlights
                )
                if encoded is not None:
                    found.append(encoded)
                    if len(found) >= limit:
                        return NotificationPage(found, position)
            if not more:
                return NotificationPage(found, None)
        return NotificationPage(found, position)

    async def _events(
        self, rooms: Sequence[tuple[int, int]], before: int, user_id: str
    ) -> tuple[list[Event], bool]:
        """The newest events of all rooms together, without gaps, and whether there are more."""
        candidates = await fetch_candidates(self.pool, rooms, before, user_id, CANDIDATES_OF_ROOM)
        # A room that gave as many as it might has more below its last one: stop there for all.
        floor = max((min(nids) for nids in candidates.values() if len(nids) >= CANDIDATES_OF_ROOM), default=0)
        nids = sorted(
            (nid for of_room in candidates.values() for nid in of_room if nid >= floor), reverse=True
        )
        rows = await by_nids(self.pool, nids[:EVENTS_MAX])
        events = sorted((Event.of_row(row) for row in rows), key=lambda event: event.nid, reverse=True)
        return events, floor > 0 or len(nids) > EVENTS_MAX

    async def _notification(
        self,
        requester: Requester,
        event: Event,
        evaluator: Evaluator,
        counter: Counter,
        only_highlights: bool,
    ) -> bytes | None:
        """The event's notification, or None if the rules say nothing of it."""
        if event.redacted_by is not None:
            return None
        room = await self.rooms.get_by_nid(event.room_nid)
        content = event.content
        view = PushEvent(
            type=event.type,
            sender=event.sender,
            state_key=event.state_key,
            room_id=room.room_id,
            content=content,
        )
        if not evaluator.may_notify(view):
            return None
        outcome = evaluator.evaluate(view, push_context(room, event.sender, evaluator))
        if not outcome.notify or (only_highlights and not outcome.highlight):
            return None
        relation = relation_of(content)
        in_thread = relation is not None and relation.rel_type == "m.thread"
        thread = relation.event_id if relation is not None and in_thread else MAIN_TIMELINE
        return b'{"actions":%b,"read":%b,"room_id":%b,"ts":%d,"event":%b}' % (
            orjson.dumps(outcome.actions),
            b"true" if counter.is_read(event.nid, thread) else b"false",
            orjson.dumps(room.room_id),
            event.origin_server_ts,
            event.encode(self.clock(), device_nid=requester.device_nid),
        )
