"""Who is online. Kept in memory, for this node's users and those of partners that tell of them.

Source: Client-Server API, "Presence".

What a user's devices said last, and when the user last did something, make the user's state; only a
change of that state is told to others. Changes go out with the next sync of whoever shares a room;
waiting syncs are woken for them in batches, the more seldom the more there are to wake, so that
presence never costs more than WAKES_PER_S.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import orjson

from homeserver.accounts.profiles import Profile, Profiles
from homeserver.clock import Clock, now_ms
from homeserver.commit_log.change import Change
from homeserver.commit_log.ephemeral import Ephemeral, Notify, PresenceStatus
from homeserver.commit_log.log import CommitLog
from homeserver.config.people import PresenceConfig
from homeserver.errors import BadJson, Forbidden, InvalidParam, NotFound
from homeserver.requester import Requester
from homeserver.rooms.changes import RoomEventChange
from homeserver.rooms.event import Event
from homeserver.rooms.loading import RoomCache
from homeserver.rooms.room import Room, membership_of
from homeserver.rooms.room_servers import server_of
from homeserver.rooms.user_rooms import UserRoom, UserRooms
from homeserver.storage.accounts import account_exists
from homeserver.storage.connection import Pool
from homeserver.storage.receipts import ReceiptChange
from homeserver.storage.user_directory import share_a_room

ONLINE = "online"
UNAVAILABLE = "unavailable"
OFFLINE = "offline"
STATES = (ONLINE, UNAVAILABLE, OFFLINE)

STATUS_LENGTH_MAX = 1024
DEVICES_MAX = 32  # whose state is kept, of one user; the one set longest ago is dropped beyond
USERS_MAX = 100_000  # online at once; further ones are not shown
TOLD_MAX = 2000  # users told of in one sync, the ones that changed last
USERS_PER_PAUSE = 200  # looked at before others on the event loop get their turn
SWEEP_S = 5.0
FLUSH_S = 1.0
WAKES_PER_S = 2000.0
TELL_AGAIN_MS = 25 * 60 * 1000  # other servers of those who stay online
EARLY_MAX = 1_000  # users of other servers whose presence is kept although nobody shares a room with them yet
EARLY_TIMEOUT_MS = 5 * 60 * 1000
REMOTE_TIMEOUT_MS = 60 * 60 * 1000  # without news, a user of another server is shown as offline

OnChange = Callable[[str, PresenceStatus, Collection[str]], None]
"""Is told one of our users, the status, and the servers that share a room with the user."""


@dataclass(slots=True)
class _User:
    """``devices`` are the state that each device gave, and until when it counts; who has none connected is
    online for a while after having done something.
    """

    told: PresenceStatus
    last_active_ms: int = 0
    active_until_ms: int = 0
    told_others_ms: int = 0
    devices: dict[str, tuple[str, int]] = field(default_factory=dict)


class Presence:
    """Presence of this node's users; with ``config.enabled`` false everyone is offline."""

    def __init__(
        self,
        config: PresenceConfig,
        ephemeral: Ephemeral,
        notify: Notify,
        log: CommitLog,
        pool: Pool,
        profiles: Profiles,
        user_rooms: UserRooms,
        loaded_rooms: RoomCache,
        *,
        clock: Clock = now_ms,
    ) -> None:
        self.enabled = config.enabled
        self._config = config
        self._ephemeral = ephemeral
        self._notify = notify
        self._pool = pool
        self._user_rooms = user_rooms
        self._loaded_rooms = loaded_rooms
        self._clock = clock
        self._users: dict[str, _User] = {}
        self._to_wake_for: set[str] = set()  # users whose change nobody was woken for yet
        self._remote: OrderedDict[str, int] = OrderedDict()  # users of others, and until when it counts
        # Who is told of a user that enters a room may be heard before the room is there.
        self._early: OrderedDict[str, tuple[int, PresenceStatus]] = OrderedDict()
        self.on_change: OnChange | None = None
        if config.enabled:
            log.subscribe(self._follow)
            profiles.subscribe(self.profile_changed)

    # -- what users do --

    def seen(self, user_id: str, state: str, *, device_id: str = "", timeout_ms: int = 0) -> None:
        """A device syncs, and may wait for ``timeout_ms``. Called with each sync, so it has to be cheap.

        With "offline" it "is not marked as being online", which takes back nothing that it said before.
        """
        if not self.enabled or state == OFFLINE:
            return
        now = self._clock()
        user = self._users.get(user_id)
        if user is None:
            if len(self._users) >= USERS_MAX:
                return
            user = self._users[user_id] = self._new_user(user_id)
        if device_id not in user.devices and len(user.devices) >= DEVICES_MAX:
            del user.devices[next(iter(user.devices))]
        user.devices[device_id] = state, now + timeout_ms + self._config.offline_after_ms
        connects, user.active_until_ms = user.active_until_ms > now, 0
        if state == user.told.state and not connects:
            return
        if not user.last_active_ms or (user.told.state == OFFLINE and state == ONLINE):
            user.last_active_ms = now
        self._update(user_id, user, now, anew=connects)

    def active(self, user_id: str) -> None:
        """The user did something, such as sending a message.

        "Any activity that bumps the last active time on any of the user's clients will cause the server to
        automatically set their presence to online."
        """
        user = self._users.get(user_id)
        if user is None:
            if not self.enabled or len(self._users) >= USERS_MAX:
                return
            user = self._users[user_id] = self._new_user(user_id)
        now = self._clock()
        user.last_active_ms = now
        if user.told.state != ONLINE:
            user.active_until_ms = now + self._config.offline_after_ms
            self._update(user_id, user, now)

    def set(self, requester: Requester, state: str, status_msg: str | None) -> None:
        """`setPresence`. Raises InvalidParam. Without presence on this node nothing happens."""
        if state not in STATES:
            raise InvalidParam(f"presence must be one of {', '.join(STATES)}")
        if status_msg is not None and len(status_msg) > STATUS_LENGTH_MAX:
            raise BadJson(f"status_msg may have {STATUS_LENGTH_MAX} characters at most")
        if not self.enabled:
            return
        now = self._clock()
        user_id = requester.user_id
        user = self._users.get(user_id)
        if user is None:
            if len(self._users) >= USERS_MAX:
                return
            user = self._users[user_id] = self._new_user(user_id)
        # "When setting the status, the activity time is updated to reflect that activity"
        user.last_active_ms, user.active_until_ms = now, 0
        if state == OFFLINE:
            user.devices.clear()
        else:
            until = now + self._config.offline_after_ms
            user.devices[requester.device_id] = state, until
            user.devices = {device: (state, max(until, old)) for device, (_, old) in user.devices.items()}
        self._update(user_id, user, now, status_msg=status_msg, sets_status=True)

    def _new_user(self, user_id: str) -> _User:
        known = self._ephemeral.presence(user_id)
        status = known or PresenceStatus(OFFLINE, 0, currently_active=False)
        return _User(status, status.last_active_ms)

    # -- what follows from it --

    def _state(self, user: _User, now: int) -> str:
        states = {state for state, until in user.devices.values() if until > now}
        if ONLINE in states or user.active_until_ms > now:
            # "automatically set a user's presence to unavailable if their last active time was over a
            # threshold value"
            return ONLINE if now - user.last_active_ms < self._config.idle_after_ms else UNAVAILABLE
        return UNAVAILABLE if states else OFFLINE

    def _update(
        self,
        user_id: str,
        user: _User,
        now: int,
        *,
        status_msg: str | None = None,
        sets_status: bool = False,
        anew: bool = False,
    ) -> None:
        """Tell of the user if there is anything new, or `anew` whatever there is."""
        state = self._state(user, now)
        told = user.told
        if not sets_status:
            status_msg = told.status_msg
        if state == told.state and status_msg == told.status_msg and not anew:
            told.last_active_ms = user.last_active_ms
            return
        user.told = replace(
            told,
            state=state,
            last_active_ms=user.last_active_ms,
            # Whoever is shown as online is active: when that ends, the state changes and is told.
            currently_active=state == ONLINE,
            status_msg=status_msg,
        )
        self._ephemeral.set_presence(user_id, user.told)
        self._to_wake_for.add(user_id)

    async def profile_changed(self, user_id: str, profile: Profile) -> None:
        """ "An m.presence presence status update is sent, again containing the new values"."""
        user = self._users.get(user_id)
        if user is None:
            return
        user.told = replace(user.told, displayname=profile.displayname, avatar_url=profile.avatar_url)
        self._ephemeral.set_presence(user_id, user.told)
        self._to_wake_for.add(user_id)

    def _follow(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, RoomEventChange):
                if change.room.is_local(change.event.sender):
                    self.active(change.event.sender)
                if change.membership_before is not None and change.membership_before != "join":
                    self._follow_member(change.room, change.event)
            elif isinstance(change, ReceiptChange) and change.receipt.user_id in self._users:
                self.active(change.receipt.user_id)

    def _follow_member(self, room: Room, member: Event) -> None:
        """Users and servers that share their first room are not to wait for the next change of a status."""
        user_id = member.state_key
        if user_id is None or not room.remote_servers or membership_of(member) != "join":
            return
        if room.is_local(user_id):
            for early in [early for early in self._early if room.membership(early) == "join"]:
                self._take_early(early)
            self._tell_newly((user_id,), room.remote_servers)
        else:
            self._take_early(user_id)
            server = server_of(user_id)
            if room.servers.get(server) == 1:
                self._tell_newly(islice(room.local_members, TOLD_MAX), (server,))

    def _tell_newly(self, user_ids: Iterable[str], servers: Collection[str]) -> None:
        if self.on_change is None:
            return
        for user_id in user_ids:
            status = self._ephemeral.presence(user_id)
            if status is not None and status.state != OFFLINE:
                self.on_change(user_id, status, servers)

    def _take_early(self, user_id: str) -> None:
        until, status = self._early.pop(user_id, (0, None))
        if status is not None and until > self._clock():
            self._take_remote(user_id, status)

    async def run(self) -> None:
        """Find who went idle or away, and wake whoever is to be told; for the supervisor."""
        loop = asyncio.get_running_loop()
        sweep_at = flush_at = loop.time()
        while self.enabled:
            await asyncio.sleep(FLUSH_S)
            if loop.time() >= sweep_at:
                self.sweep()
                sweep_at = loop.time() + SWEEP_S
            if self._to_wake_for and loop.time() >= flush_at:
                woken = await self.wake()
                flush_at = loop.time() + woken / WAKES_PER_S

    def sweep(self) -> None:
        """Bring all states up to the present time; forget who is offline."""
        now = self._clock()
        offline: list[str] = []
        for user_id, user in self._users.items():
            self._update(user_id, user, now)
            if user.told.state == OFFLINE:
                offline.append(user_id)
        for user_id in offline:
            del self._users[user_id]
        if self.on_change is not None:
            for user_id, user in self._users.items():
                if now - user.told_others_ms >= TELL_AGAIN_MS:
                    self._to_wake_for.add(user_id)
        while self._remote and next(iter(self._remote.values())) <= now:
            user_id, _ = self._remote.popitem(last=False)
            self._show_remote(user_id, PresenceStatus(OFFLINE, 0, currently_active=False))

    async def wake(self) -> int:
        """Wake the waiting syncs of those who share a room with users that changed; how many were concerned.

        Rooms that are not in memory have nobody waiting who was active in them lately: their members
        learn of it with their next sync.
        """
        changed, self._to_wake_for = self._to_wake_for, set()
        room_nids: set[int] = set()
        for user_id in changed:
            joined = _joined(await self._user_rooms.get(user_id))
            room_nids |= joined
            self._tell_others(user_id, joined)
        concerned: set[str] = set()
        for nid in room_nids:
            room = self._loaded_rooms.loaded_nid(nid)
            if room is not None:
                concerned |= room.local_members
        self._notify(concerned)
        return len(concerned)

    def _tell_others(self, user_id: str, room_nids: Iterable[int]) -> None:
        """Other servers learn of our users."""
        status = self._ephemeral.presence(user_id)
        if self.on_change is None or status is None:
            return
        loaded = [room for nid in room_nids if (room := self._loaded_rooms.loaded_nid(nid)) is not None]
        if not any(room.is_local(user_id) for room in loaded):
            return
        if (user := self._users.get(user_id)) is not None:
            user.told_others_ms = self._clock()
        servers = {server for room in loaded for server in room.remote_servers}
        if servers:
            self.on_change(user_id, status, servers)

    async def remote_changed(self, user_id: str, status: PresenceStatus) -> None:
        """Another server tells of its user; kept aside unless they share a room with one of ours."""
        if not self.enabled:
            return
        if _joined(await self._user_rooms.get(user_id)):
            self._take_remote(user_id, status)
        else:
            self._early[user_id] = self._clock() + EARLY_TIMEOUT_MS, status
            self._early.move_to_end(user_id)
            if len(self._early) > EARLY_MAX:
                self._early.popitem(last=False)

    def _take_remote(self, user_id: str, status: PresenceStatus) -> None:
        self._remote[user_id] = self._clock() + REMOTE_TIMEOUT_MS
        self._remote.move_to_end(user_id)
        if len(self._remote) > USERS_MAX:
            self._remote.popitem(last=False)
        if status.state == OFFLINE:
            del self._remote[user_id]
        self._show_remote(user_id, status)

    def _show_remote(self, user_id: str, status: PresenceStatus) -> None:
        self._ephemeral.set_presence(user_id, status)
        self._to_wake_for.add(user_id)

    # -- what others learn --

    async def since(self, user_id: str, counter: int, met: Iterable[str] = ()) -> list[bytes]:
        """``m.presence`` events of the user and of whoever shares a room with them.

        Those that changed after ``counter``; 0, for an initial sync, gives those who are not offline, and
        so it is with those ``met``, who share a room with the user only since then.
        """
        if not self.enabled:
            return []
        changed = list(islice(self._ephemeral.presence_changed_since(counter), TOLD_MAX))
        found = [
            self._ephemeral.encode_presence(other, status)
            for other in islice(met, TOLD_MAX)
            if other != user_id
            and (status := self._ephemeral.presence(other)) is not None
            and status.changed <= counter
            and status.state != OFFLINE
        ]
        if not changed:
            return found
        mine = _joined(await self._user_rooms.get(user_id))
        loaded = [room for nid in mine if (room := self._loaded_rooms.loaded_nid(nid)) is not None]
        unloaded = mine.difference(room.nid for room in loaded)
        for count, (other, status) in enumerate(changed, 1):
            if count % USERS_PER_PAUSE == 0:
                await asyncio.sleep(0)
            if counter == 0 and status.state == OFFLINE:
                continue
            if (
                other == user_id
                or any(_is_in(room, other) for room in loaded)
                or (unloaded and not unloaded.isdisjoint(_joined(await self._user_rooms.get(other))))
            ):
                found.append(self._ephemeral.encode_presence(other, status))
        return found

    def changed_in(self, room: Room, counter: int) -> list[bytes]:
        """``m.presence`` events of a room's members that changed after ``counter``, for who looks into it."""
        if not self.enabled:
            return []
        return [
            self._ephemeral.encode_presence(user_id, status)
            for user_id, status in islice(self._ephemeral.presence_changed_since(counter), TOLD_MAX)
            if _is_in(room, user_id)
        ]

    def known_in(self, room: Room) -> Iterator[str]:
        """The members of a room of whom there may be something to tell."""
        yield from room.local_members
        if self._remote and room.remote_servers:
            yield from (user_id for user_id, _ in room.members("join") if user_id in self._remote)

    def of(self, user_ids: Iterable[str]) -> list[bytes]:
        """``m.presence`` events of those who are not offline."""
        if not self.enabled:
            return []
        return [
            self._ephemeral.encode_presence(user_id, status)
            for user_id in islice(user_ids, TOLD_MAX)
            if (status := self._ephemeral.presence(user_id)) is not None and status.state != OFFLINE
        ]

    async def get(self, requester: Requester, user_id: str) -> dict[str, str | int | bool]:
        """`getPresence`. Raises NotFound (no such user), Forbidden (no room is shared)."""
        if user_id != requester.user_id and not await share_a_room(self._pool, requester.user_nid, user_id):
            if not await account_exists(self._pool, user_id):
                raise NotFound("There is no such user here")
            raise Forbidden("You share no room with this user, so that you may not see their presence")
        user = self._users.get(user_id)
        status = user.told if user is not None else self._ephemeral.presence(user_id)
        if status is None or not self.enabled:
            return {"presence": OFFLINE}
        if user is not None:
            status.last_active_ms = user.last_active_ms
        content = status.content(self._clock())
        content.pop("displayname", None)
        content.pop("avatar_url", None)
        return content


def with_user_in_content(event: bytes) -> bytes:
    """An ``m.presence`` event as it was before /sync: clients of that age look for the user there."""
    presence = orjson.loads(event)
    presence["content"]["user_id"] = presence["sender"]
    return orjson.dumps(presence)


def _is_in(room: Room, user_id: str) -> bool:
    return user_id in room.local_members or (
        not room.is_local(user_id) and room.membership(user_id) == "join"
    )


def _joined(rooms: Mapping[int, UserRoom]) -> set[int]:
    return {nid for nid, room in rooms.items() if room.membership == "join"}
