"""Telling a user's rooms of a new name or picture, in the background.

What is to be told stands in the `profiles` table, so that nothing is lost or queued in memory.
Source: Client-Server API, "Events on Change of Profile Information".
"""

from __future__ import annotations

import asyncio

import structlog

from homeserver.accounts.profiles import AVATAR_URL, DISPLAYNAME, Profile, Profiles
from homeserver.errors import MatrixError, Unavailable
from homeserver.rooms.draft import Draft
from homeserver.rooms.event import JsonObject
from homeserver.rooms.room import MEMBER
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.user_rooms import UserRooms
from homeserver.storage import profiles as sql
from homeserver.storage.connection import Pool
from homeserver.storage.profiles import ToPropagate

log = structlog.get_logger()

USERS_AT_ONCE = 8
ROOMS_AT_ONCE = 4  # of one user
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
        profiles.subscribe(self.profile_changed)

    def profile_changed(self, user_id: str, profile: Profile) -> None:
        """Have `run` look for what there is to do."""
        self._wanted.set()

    async def run(self) -> None:
        """Propagate for ever; for the supervisor."""
        self._wanted.set()  # something may have been left by the process before, or by a failure
        while True:
            try:
                await asyncio.wait_for(self._wanted.wait(), LOOK_AGAIN_S)
            except TimeoutError:
                pass
            self._wanted.clear()
            await self.propagate_all()

    async def propagate_all(self) -> None:
        """Bring all rooms up to date with the profiles as they are now."""
        after = 0
        while users := await sql.fetch_to_propagate(self._pool, after, USERS_AT_ONCE):
            after = users[-1].user_nid
            async with asyncio.TaskGroup() as group:
                for user in users:
                    group.create_task(self._propagate(user), name="profile propagation")

    async def _propagate(self, user: ToPropagate) -> None:
        joined = [
            room.room_id
            for room in (await self._user_rooms.get(user.user_id)).values()
            if room.membership == "join"
        ]
        profile = Profile(user.displayname, user.avatar_url)
        slots = asyncio.Semaphore(ROOMS_AT_ONCE)

        async def send(room_id: str) -> bool:
            async with slots:
                return await self._send(room_id, user.user_id, profile)

        if all(await asyncio.gather(*(send(room_id) for room_id in joined))):
            await sql.mark_propagated(self._pool, user.user_nid, user.changes)

    async def _send(self, room_id: str, user_id: str, profile: Profile) -> bool:
        """Tell one room; False if that has to be tried again later."""
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
