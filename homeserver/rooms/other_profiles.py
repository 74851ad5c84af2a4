"""Names and pictures of users of other servers, for the user directory ("User Directory", Client-Server API).

They are those of the newest member event that is known here. Written some time after the event, and never in
its way; what a crash cuts off is made up for at the next start.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

from federation.event import JsonObject
from homeserver.accounts.profiles import AVATAR_URL, DISPLAYNAME, DISPLAYNAME_LENGTH_MAX, is_avatar_url
from homeserver.commit_log.change import Change
from homeserver.rooms.changes import RoomEventChange
from homeserver.rooms.event import Event
from homeserver.rooms.room import MEMBER, membership_of
from homeserver.storage import profiles as sql
from homeserver.storage.connection import Pool
from homeserver.storage.profiles import OtherProfile

WAITING_MAX = 50_000  # users; the ones that waited longest are found by their ids only
BATCH = 200
PAUSE_S = 0.5  # between batches, in which changes of one user become one


class OtherProfiles:
    """Follows the commit log. ``count_dropped`` is called for what the queue had no place for."""

    def __init__(self, pool: Pool, server_name: str, count_dropped: Callable[[], None]) -> None:
        self._pool = pool
        self._suffix = ":" + server_name
        self._count_dropped = count_dropped
        self._waiting: OrderedDict[str, Event] = OrderedDict()  # member events by user id
        self._something = asyncio.Event()

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def follow(self, changes: Sequence[Change]) -> None:
        """Note who has joined or has a new name; a subscriber of the commit log."""
        for change in changes:
            if not isinstance(change, RoomEventChange):
                continue
            if change.membership_before is not None:
                self._note(change.event.state_key or "", change.event)
            if change.merge is not None:
                for member in change.merge.members:
                    if member.event is not None:
                        self._note(member.user_id, member.event)

    def _note(self, user_id: str, event: Event) -> None:
        if user_id.endswith(self._suffix) or event.type != MEMBER or membership_of(event) != "join":
            return
        self._waiting[user_id] = event
        self._waiting.move_to_end(user_id)
        if len(self._waiting) > WAITING_MAX:
            self._waiting.popitem(last=False)
            self._count_dropped()
        self._something.set()

    async def run(self) -> None:
        """Write what is noted, for ever: a background task."""
        await self._make_up()
        while True:
            await self._something.wait()
            self._something.clear()
            while self._waiting:
                batch = {user_id: self._waiting[user_id] for user_id in list(self._waiting)[:BATCH]}
                await self._store([_profile(user_id, event.content) for user_id, event in batch.items()])
                for user_id, event in batch.items():
                    if self._waiting.get(user_id) is event:
                        del self._waiting[user_id]
                await asyncio.sleep(PAUSE_S)

    async def _make_up(self) -> None:
        """Write the profiles of members that none is known of."""
        after = 0
        while members := await sql.fetch_others_without_profile(self._pool, after, BATCH):
            await self._store([_profile(member.user_id, member.content) for member in members])
            after = members[-1].user_nid
            await asyncio.sleep(PAUSE_S)

    async def _store(self, profiles: Sequence[OtherProfile]) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await sql.store_others(connection, profiles)


def _profile(user_id: str, content: JsonObject) -> OtherProfile:
    name, picture = content.get(DISPLAYNAME), content.get(AVATAR_URL)
    displayname = name.replace("\x00", "")[:DISPLAYNAME_LENGTH_MAX] if isinstance(name, str) else None
    avatar_url = picture if isinstance(picture, str) and is_avatar_url(picture) else None
    return OtherProfile(user_id, displayname or None, avatar_url)
