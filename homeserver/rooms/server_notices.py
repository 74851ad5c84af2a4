"""Messages from the server to its users. Source: Client-Server API, "Server Notices".

Each user has one room of notices. It is made, and the user invited, with the first notice; who has left is
invited again. The user that speaks there has no account: nobody can log in as it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from federation.event import JsonObject
from federation.room_versions import RoomVersion
from homeserver.accounts.profiles import Profiles
from homeserver.accounts.tags import Tags
from homeserver.clock import Clock, now_ms
from homeserver.config.people import ServerNoticesConfig
from homeserver.errors import InvalidParam, NotFound, Unavailable
from homeserver.keyed_locks import KeyedLocks
from homeserver.requester import Requester
from homeserver.rooms.creation import new_room_id
from homeserver.rooms.draft import Draft
from homeserver.rooms.initial_state import raise_tombstone_level
from homeserver.rooms.room import MEMBER
from homeserver.rooms.rooms import Rooms
from homeserver.storage import notice_rooms as sql
from homeserver.storage.accounts import AccountRow, account_exists, fetch_account
from homeserver.storage.connection import Pool

TAG = "m.server_notice"
MESSAGE = "m.room.message"
SERVER_LEVEL = 100
READ_ONLY_LEVEL = -10  # of everybody else: notices are no conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What to tell a user. With `device_nid` and `txn_id`, sending it again gives the same event."""

    content: JsonObject
    type: str = MESSAGE
    state_key: str | None = None
    device_nid: int | None = None
    txn_id: str | None = None


def notices_user_id(config: ServerNoticesConfig, server_name: str) -> str:
    """The user id that notices come from."""
    return f"@{config.localpart}:{server_name}"


@dataclass(frozen=True, slots=True)
class ServerNotices:
    """Sends notices."""

    pool: Pool
    rooms: Rooms
    profiles: Profiles
    tags: Tags
    config: ServerNoticesConfig
    server_name: str
    version: RoomVersion
    clock: Clock = now_ms
    locks: KeyedLocks[str] = field(default_factory=KeyedLocks)

    @property
    def sender(self) -> str:
        return notices_user_id(self.config, self.server_name)

    async def send(self, user_id: str, notice: Notice) -> str:
        """Send a notice to a user of this node: the event's id.

        Raises InvalidParam (a user of another server, or a sender that is somebody's account), NotFound,
        BadJson, TooLarge, Unavailable.
        """
        if user_id.partition(":")[2] != self.server_name or user_id == self.sender:
            raise InvalidParam("Notices can be sent to users of this server only")
        if await account_exists(self.pool, self.sender):
            raise InvalidParam(
                f"{self.sender} is somebody's account: choose another server_notices.localpart"
            )
        account = await fetch_account(self.pool, user_id)
        if account is None or account.is_deactivated:
            raise NotFound(f"There is no user {user_id}")
        async with self.locks.hold(user_id):
            room_id = await sql.fetch(self.pool, account.user_nid)
            if room_id is None:
                room_id = await self._create(account)
            else:
                await self._invite_back(account, room_id)
            await self._tag(account, room_id)
        event = await self.rooms.send(
            room_id,
            Draft(
                sender=self.sender,
                type=notice.type,
                state_key=notice.state_key,
                content=notice.content,
                device_nid=notice.device_nid,
                txn_id=notice.txn_id,
            ),
        )
        return event.event_id

    async def _create(self, account: AccountRow) -> str:
        """Make the user's room and invite them.

        "Servers should invite the target user rather than automatically join them".
        """
        nid = await self.rooms.next_nid()
        if not await sql.reserve(self.pool, account.user_nid, nid, self.clock()):
            raise Unavailable("The room for this user's notices is just being made: try again")
        try:
            drafts = [*self._first_state(account), await self._invite(account)]
            room = await self.rooms.create(self.version, new_room_id(self.server_name), drafts, nid=nid)
        except BaseException:
            await sql.release(self.pool, account.user_nid, nid)
            raise
        return room.room_id

    async def _invite_back(self, account: AccountRow, room_id: str) -> None:
        room = await self.rooms.get(room_id)
        if room.membership(account.user_id) not in ("join", "invite"):
            await self.rooms.send(room_id, await self._invite(account))

    async def _invite(self, account: AccountRow) -> Draft:
        profile = await self.profiles.of(account.user_id)
        content = {**profile.member_content(), "membership": "invite"}
        return Draft(sender=self.sender, type=MEMBER, state_key=account.user_id, content=content)

    async def _tag(self, account: AccountRow, room_id: str) -> None:
        # "Servers must identify this room to clients with the m.server_notice tag."
        user = Requester(
            user_id=account.user_id, user_nid=account.user_nid, device_id="", device_nid=0, token_nid=0
        )
        if TAG not in await self.tags.get(user, room_id):
            await self.tags.put(user, room_id, TAG, {})

    def _first_state(self, account: AccountRow) -> list[Draft]:
        sender, version = self.sender, self.version
        create: JsonObject = {"room_version": version.id, "m.federate": False}
        if version.creator_in_content:
            create["creator"] = sender
        power_levels: JsonObject = {"users_default": READ_ONLY_LEVEL, "invite": SERVER_LEVEL, "events": {}}
        if version.privileged_creators:
            raise_tombstone_level(power_levels)
        else:
            power_levels["users"] = {sender: SERVER_LEVEL}
        state: list[tuple[str, str, JsonObject]] = [
            ("m.room.create", "", create),
            (MEMBER, sender, {"membership": "join", "displayname": self.config.display_name}),
            ("m.room.power_levels", "", power_levels),
            ("m.room.join_rules", "", {"join_rule": "invite"}),
            ("m.room.history_visibility", "", {"history_visibility": "shared"}),
            (
                "m.room.guest_access",
                "",
                {"guest_access": "can_join" if account.is_guest else "forbidden"},
            ),
            ("m.room.name", "", {"name": self.config.room_name}),
        ]
        return [
            Draft(sender=sender, type=event_type, state_key=state_key, content=content)
            for event_type, state_key, content in state
        ]
