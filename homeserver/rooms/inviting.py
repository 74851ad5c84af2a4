"""Inviting users. Source: Client-Server API, "Room membership", "Invite permission"."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from federation.errors import BadIdentifier
from federation.event import JsonObject
from federation.identifiers import split_user_id
from homeserver.accounts.account_data import AccountData
from homeserver.accounts.profiles import Profiles
from homeserver.errors import Forbidden, InvalidParam, InviteBlocked, MatrixError, NotFound
from homeserver.requester import Requester
from homeserver.rooms.draft import Draft
from homeserver.rooms.elsewhere import InvitingElsewhere
from homeserver.rooms.event import Event
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.rooms import Rooms

log = structlog.get_logger()

ELSEWHERE_TIMEOUT_S = 60.0  # of whoever makes a room and waits for its invites
ELSEWHERE_AT_ONCE = 8  # other servers asked side by side, for a new room


@dataclass(frozen=True, slots=True)
class Inviting:
    """Invites users: of this node if they take invites, of other servers if these agree."""

    account_data: AccountData
    server_name: str
    rooms: Rooms
    profiles: Profiles
    elsewhere: InvitingElsewhere

    def is_local(self, user_id: str) -> bool:
        """Whether a user id belongs to this server."""
        return user_id.endswith(":" + self.server_name)

    async def invite(
        self, requester: Requester, room_id: str, user_id: str, *, reason: str | None = None
    ) -> None:
        """`inviteUser`. Raises Forbidden, InvalidParam, NotFound, InviteBlocked; what other servers do."""
        content: JsonObject = {} if reason is None else {"reason": reason}
        await self.invite_with(requester, room_id, user_id, content)

    async def invite_with(
        self, requester: Requester, room_id: str, user_id: str, content: JsonObject
    ) -> Event:
        """Invite with what the member event shall hold besides, or instead of, the invited user's profile."""
        room = await self.rooms.get_joined(room_id, requester.user_id)
        self.check_power(room, requester.user_id)
        check_user_id(user_id)
        if not self.is_local(user_id):
            return await self._invite_elsewhere(room, requester.user_id, user_id, content)
        [draft] = await self.drafts(requester.user_id, (user_id,), content)
        return await self.rooms.send(room_id, draft)

    def check_power(self, room: Room, user_id: str) -> None:
        """Who may not invite here does not learn whether somebody takes invites. Raises Forbidden."""
        power_levels = room.power_levels
        if power_levels.for_user(user_id) < power_levels.invite:
            raise Forbidden("Your power level in this room does not allow you to invite")

    async def _invite_elsewhere(self, room: Room, inviter: str, user_id: str, content: JsonObject) -> Event:
        draft = Draft(
            sender=inviter, type=MEMBER, state_key=user_id, content={**content, "membership": "invite"}
        )
        return await self.elsewhere.invite(room, draft)

    async def invite_all_elsewhere(
        self, room: Room, inviter: str, user_ids: Sequence[str], content: JsonObject
    ) -> None:
        """Invite users of other servers to a room that exists: one that cannot be had stops none of them.

        Servers are asked side by side; of one that does not answer, no more are invited.
        """
        slots = asyncio.Semaphore(ELSEWHERE_AT_ONCE)
        by_server: dict[str, list[str]] = {}
        for user_id in user_ids:
            by_server.setdefault(user_id.partition(":")[2], []).append(user_id)

        async def invite(users: Sequence[str]) -> None:
            async with slots:
                for user_id in users:
                    try:
                        await self._invite_elsewhere(room, inviter, user_id, content)
                    except MatrixError as cause:
                        log.warning("invite not sent", user_id=user_id, cause=str(cause))
                        if cause.status >= 500:
                            return

        try:
            async with asyncio.timeout(ELSEWHERE_TIMEOUT_S):
                await asyncio.gather(*map(invite, by_server.values()))
        except TimeoutError:
            log.warning("some invites not sent in time", room_id=room.room_id, servers=len(by_server))

    async def drafts(self, inviter: str, user_ids: Sequence[str], content: JsonObject) -> list[Draft]:
        """Invites of users of this node. Raises InvalidParam, NotFound, InviteBlocked."""
        for user_id in user_ids:
            check_user_id(user_id)
        for user_id in await self.account_data.blocking_invites(user_ids) if user_ids else ():
            raise InviteBlocked(f"{user_id} takes no invites")
        drafts: list[Draft] = []
        for user_id in user_ids:
            profile = await self.profiles.find(user_id)
            if profile is None:
                raise NotFound(f"There is no user {user_id}")
            invite = {**profile.member_content(), **content, "membership": "invite"}
            drafts.append(Draft(sender=inviter, type=MEMBER, state_key=user_id, content=invite))
        return drafts


def check_user_id(user_id: str) -> None:
    """Raise InvalidParam unless text is a user id."""
    try:
        split_user_id(user_id)
    except BadIdentifier as cause:
        raise InvalidParam("This is not a valid user id: expected @name:server") from cause
