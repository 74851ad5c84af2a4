"""Telling a user's rooms of a new name or picture, beside the request that changed it.

What is to be told stands in the `profiles` table, so that no crash loses it and no queue in memory
has to be bounded. Source: Client-Server API, "Events on Change of Profile Information".
"""

from __future__ import annotations

import asyncio

import structlog

from federation.event import JsonObject
from homeserver.accounts.profiles import AVATAR_URL, DISPLAYNAME, Profile, Profiles
from homeserver.errors import MatrixError, Unavailable
from homeserver.rooms.draft import Draft
from homeserver.rooms.room import MEMBER
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.user_rooms import UserRooms
from homeserver.storage import profiles as sql
from homeserver.storage.connection import Pool
from homeserver.storage.profiles import ToPropagate

log = structlog.get_logger()

USERS_AT_ONCE = 8
ROOMS_AT_ONCE = 4  # of one user
PAGE = 50  # users read at once
PATIENCE_S = 0.5  # that a request waits for its user's rooms, which is enough for some hundred of them
LOOK_AGAIN_S = 60.0  # for what another process left behind, and for rooms that could not be written
# What a member event says about how somebody came into the room does not belong to a change of profile.
NOT_REPEATED = frozenset({"reason", "join_authorised_via_users_server", "third_party_invite"})


class ProfilePropagation:
    """Sends a member event into every joined room of users whose name or picture changed."""

    def __init__(self, pool: Pool, profiles: Profiles, rooms: Rooms, user_rooms: UserRooms) -> None:
        self._pool = pool
        self._rooms = rooms
        self._user_rooms = user_rooms
        self._wanted = asyncio.Event()
        self._at_work: dict[int, int] = {}  # by user, the newest count of changes that is known of
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        profiles.subscribe(self.profile_changed)

    async def profile_changed(self, user_id: str, profile: Profile) -> None:
        """Have `run` tell the user's rooms; returns when that is done, or takes longer than PATIENCE_S."""
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(user_id, set())
        waiting.add(told)
        self._wanted.set()
        await asyncio.wait((told,), timeout=PATIENCE_S)
        waiting.discard(told)
        if not waiting and self._waiting.get(user_id) is waiting:
            del self._waiting[user_id]

    async def run(self) -> None:
        """Propagate for ever; for the supervisor."""
        self._wanted.set()  # something may have been left by the process before, or by a failure
        slots = asyncio.Semaphore(USERS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    await asyncio.wait_for(self._wanted.wait(), LOOK_AGAIN_S)
                except TimeoutError:
                    pass
                self._wanted.clear()
                await self._start_all(group, slots)

    async def _start_all(self, group: asyncio.TaskGroup, slots: asyncio.Semaphore) -> None:
        """Begin with every user of whom there is something to tell."""
        after = 0
        while users := await sql.fetch_to_propagate(self._pool, after, PAGE):
            after = users[-1].user_nid
            for user in users:
                is_at_work = user.user_nid in self._at_work
                self._at_work[user.user_nid] = user.changes
                if is_at_work:
                    continue
                await slots.acquire()
                group.create_task(self._propagate(user, slots), name="profile propagation")

    async def _propagate(self, user: ToPropagate, slots: asyncio.Semaphore) -> None:
        try:
            if await self._tell_rooms(user):
                await sql.mark_propagated(self._pool, user.user_nid, user.changes)
        finally:
            slots.release()
            if self._at_work.pop(user.user_nid) != user.changes:
                self._wanted.set()  # the profile has changed again meanwhile
            else:
                for told in self._waiting.pop(user.user_id, ()):
                    if not told.done():
                        told.set_result(None)

    async def _tell_rooms(self, user: ToPropagate) -> bool:
        """Tell all joined rooms; False if some have to be tried again later."""
        joined = [
            room.room_id
            for room in (await self._user_rooms.get(user.user_id)).values()
            if room.membership == "join"
        ]
        profile = Profile(user.displayname, user.avatar_url)
        slots = asyncio.Semaphore(ROOMS_AT_ONCE)

        async def tell(room_id: str) -> bool:
            async with slots:
                return await self._tell_room(room_id, user.user_id, profile)

        return all(await asyncio.gather(*(tell(room_id) for room_id in joined)))

    async def _tell_room(self, room_id: str, user_id: str, profile: Profile) -> bool:
        try:
            room = await self._rooms.get(room_id)
            member = room.member(user_id)
            if member is None or room.membership(user_id) != "join":
                return True
            content = _with_profile(member.content, profile)
            if content != member.content:
                await self._rooms.send(
                    room_id, Draft(sender=user_id, type=MEMBER, state_key=user_id, content=content)
                )
        except Unavailable:
            return False
        except MatrixError as cause:  # the room's rules may forbid it: then it keeps the old name
            log.info("profile not propagated", room_id=room_id, errcode=cause.errcode)
        return True


def _with_profile(content: JsonObject, profile: Profile) -> JsonObject:
    dropped = NOT_REPEATED | {DISPLAYNAME, AVATAR_URL}
    kept = {key: value for key, value in content.items() if key not in dropped}
    return {**kept, **profile.member_content()}
