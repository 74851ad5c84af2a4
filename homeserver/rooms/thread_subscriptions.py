"""Which threads a user wants to hear of. Source: MSC4306; for sync and pages of them, MSC4308."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from federation.event import JsonObject
from homeserver.commit_log.log import CommitLog
from homeserver.errors import InvalidParam, MatrixError, NotFound, TooLarge
from homeserver.requester import Requester
from homeserver.rooms.history import History
from homeserver.rooms.reading import Readers
from homeserver.rooms.relations_of import relation_of
from homeserver.rooms.room import Room
from homeserver.storage import thread_subscriptions as sql
from homeserver.storage.connection import Pool
from homeserver.storage.thread_subscriptions import ThreadSubscription, ThreadSubscriptionChange

SUBSCRIPTIONS_MAX = 20_000  # of a user
PAGE_MAX = 100
POSITION_MAX = 2**62
_TOKEN = re.compile(r"[ps]([0-9]{1,18})(?:_[0-9]{1,18}){0,3}")  # of a page, or a `pos` of sliding sync


class NotInThread(MatrixError):
    """The event that is named as the reason is none of the thread."""

    errcode = "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD"


class ConflictingUnsubscription(MatrixError):
    """The user unsubscribed after the event that is named as the reason."""

    status, errcode = 409, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION"


@dataclass(frozen=True, slots=True)
class SubscriptionsPage:
    """Subscriptions and unsubscriptions, the newest first; ``before`` is the position to go on from."""

    entries: Sequence[ThreadSubscription]
    before: int | None

    def body(self, end: str) -> JsonObject:
        """As clients read it; ``end`` is what the token is called."""
        subscribed: dict[str, JsonObject] = {}
        unsubscribed: dict[str, JsonObject] = {}
        for entry in self.entries:
            stamp: JsonObject = {"bump_stamp": entry.position}
            if entry.is_subscribed:
                told = stamp | {"automatic": entry.is_automatic}
                subscribed.setdefault(entry.room_id, {})[entry.root_id] = told
            else:
                unsubscribed.setdefault(entry.room_id, {})[entry.root_id] = stamp
        found: JsonObject = {"subscribed": subscribed, "unsubscribed": unsubscribed}
        body = {name: each for name, each in found.items() if each}
        return body | ({end: f"p{self.before}"} if self.before is not None else {})


@dataclass(frozen=True, slots=True)
class ThreadSubscriptions:
    """Subscriptions of this node's users."""

    pool: Pool
    log: CommitLog
    readers: Readers
    history: History

    async def get(self, requester: Requester, room_id: str, root_id: str) -> JsonObject:
        """The subscription. Raises NotFound where there is none, Forbidden."""
        room = await self._room(requester, room_id, root_id)
        known = await sql.fetch_subscription(self.pool, requester.user_nid, room.nid, root_id)
        if known is None or not known.is_subscribed:
            raise NotFound("You are not subscribed to this thread")
        return {"automatic": known.is_automatic}

    async def subscribe(
        self, requester: Requester, room_id: str, root_id: str, cause: str | None = None
    ) -> None:
        """Subscribe, by the user's own wish, or automatically for an event of the thread.

        Raises NotFound, Forbidden, NotInThread, ConflictingUnsubscription, TooLarge.
        """
        room = await self._room(requester, room_id, root_id)
        known = await sql.fetch_subscription(self.pool, requester.user_nid, room.nid, root_id)
        automatic = cause is not None
        if cause is not None:
            reading = await self.readers.open(room_id, requester.user_id)
            event = await self.history.visible_event(reading, requester, cause)
            relation = relation_of(event.content)
            if relation is None or relation.rel_type != "m.thread" or relation.event_id != root_id:
                raise NotInThread("The event is not in this thread")
            if known is not None and not known.is_subscribed and event.nid <= known.position:
                raise ConflictingUnsubscription("You unsubscribed after this event")
        if known is not None and known.is_subscribed and (automatic or not known.is_automatic):
            return  # "manual subscriptions take precedence over automatic subscriptions"
        if known is None:
            count = await sql.count_subscriptions(self.pool, requester.user_nid, most=SUBSCRIPTIONS_MAX)
            if count >= SUBSCRIPTIONS_MAX:
                raise TooLarge(f"A user may have {SUBSCRIPTIONS_MAX} thread subscriptions at most")
        await self._commit(requester, room, root_id, subscribed=True, automatic=automatic)

    async def unsubscribe(self, requester: Requester, room_id: str, root_id: str) -> None:
        """Unsubscribe; nothing happens to who is not subscribed. Raises NotFound, Forbidden."""
        room = await self._room(requester, room_id, root_id)
        known = await sql.fetch_subscription(self.pool, requester.user_nid, room.nid, root_id)
        if known is not None and known.is_subscribed:
            await self._commit(requester, room, root_id, subscribed=False, automatic=False)

    async def page(
        self, requester: Requester, start: str | None, end: str | None, limit: int
    ) -> SubscriptionsPage:
        """The newest up to one token and after the other. Raises InvalidParam."""
        upto = _position(start) if start is not None else POSITION_MAX
        after = _position(end) if end is not None else 0
        return await self.between(requester, after, upto, min(limit, PAGE_MAX))

    async def between(self, requester: Requester, after: int, upto: int, limit: int) -> SubscriptionsPage:
        """The newest with after < position <= upto. Asks the log's tail first whether there is any."""
        tail = self.log.tail
        if tail.covers(after) and not any(
            isinstance(change, ThreadSubscriptionChange) for change in tail.of_user(requester.user_id, after)
        ):
            return SubscriptionsPage((), None)
        entries = await sql.fetch_newest_subscriptions(self.pool, requester.user_nid, after, upto, limit + 1)
        more = len(entries) > limit
        entries = entries[:limit]
        return SubscriptionsPage(entries, (entries[-1].position - 1 if entries else upto) if more else None)

    async def _room(self, requester: Requester, room_id: str, root_id: str) -> Room:
        """The room of a thread that the user may see. Raises NotFound, Forbidden."""
        reading = await self.readers.open(room_id, requester.user_id)
        await self.history.visible_event(reading, requester, root_id)
        return reading.room

    async def _commit(
        self, requester: Requester, room: Room, root_id: str, *, subscribed: bool, automatic: bool
    ) -> None:
        await self.log.commit(
            ThreadSubscriptionChange(
                requester.user_id, requester.user_nid, room.nid, root_id, subscribed, automatic
            )
        )


def _position(token: str) -> int:
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise InvalidParam("This is not a token of thread subscriptions or of sliding sync")
    return int(match[1])
