"""A room's state and members: as they are for those inside, as they were for those who left.

Source: rooms.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from federation.event import JsonObject
from homeserver.errors import Forbidden, NotFound
from homeserver.requester import Requester
from homeserver.rooms.client_events import ClientEvents
from homeserver.rooms.event import Event
from homeserver.rooms.history_pages import HistoryPages
from homeserver.rooms.reading import Readers, Reading
from homeserver.rooms.room import MEMBER, membership_of
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.snapshot_reader import SnapshotReader, State, durable_state
from homeserver.storage import history as sql
from homeserver.storage.connection import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class MembersQuery:
    """The parameters of `getMembersByRoom`."""

    at: str | None = None
    membership: str | None = None
    not_membership: str | None = None

    def matches(self, membership: str) -> bool:
        """Whether to show a member: "the two parameters create an 'or' condition"."""
        if self.membership is None and self.not_membership is None:
            return True
        return membership == self.membership or (
            self.not_membership is not None and membership != self.not_membership
        )


@dataclass(frozen=True, slots=True)
class StateReading:
    """Answers are JSON bytes."""

    pool: Pool
    rooms: Rooms
    readers: Readers
    pages: HistoryPages
    snapshots: SnapshotReader
    client_events: ClientEvents

    async def state(self, requester: Requester, room_id: str) -> bytes:
        """`getRoomState`. Raises Forbidden."""
        reading = await self._open_whole(room_id, requester.user_id)
        state = await self.state_of(reading)
        return b"[%b]" % b",".join(await self.client_events.encode_state(reading.room, state.values()))

    async def _open_whole(self, room_id: str, user_id: str) -> Reading:
        """A room when all its members are known. Raises Forbidden, Unavailable."""
        reading = await self.readers.open(room_id, user_id)
        if reading.room.partial_servers is None:
            return reading
        await self.rooms.whole(room_id)
        return await self.readers.open(room_id, user_id)

    async def state_of(self, reading: Reading) -> State:
        """The state that the reader may see: the current one, or that after their leaving."""
        if reading.left is None:
            return durable_state(reading.room, self.rooms.position)
        return await self.snapshots.state_after(reading.room, reading.left.nid)

    async def state_event(
        self, requester: Requester, room_id: str, type: str, state_key: str, *, whole: bool
    ) -> bytes:
        """`getRoomStateWithKey`: the content, or the whole event. Raises Forbidden, NotFound."""
        reading = await self.readers.open(room_id, requester.user_id)
        room = reading.room
        event: Event | None
        if reading.left is None and not room.pending:
            event = room.state.get((type, state_key))
        else:
            event = (await self.state_of(reading)).get((type, state_key))
        if event is None:
            raise NotFound("The room has no state of this type and key")
        if not whole:
            return orjson.dumps(event.content)
        (encoded,) = await self.client_events.encode(room, requester, [event], with_room_id=True)
        return encoded

    async def members(self, requester: Requester, room_id: str, query: MembersQuery) -> bytes:
        """`getMembersByRoom`. Raises Forbidden, InvalidParam (the token `at`)."""
        reading = await self._open_whole(room_id, requester.user_id)
        state = await self._state_at(reading, query.at) if query.at else await self.state_of(reading)
        members = [
            event
            for (type, _), event in state.items()
            if type == MEMBER and query.matches(membership_of(event))
        ]
        chunk = await self.client_events.encode_state(reading.room, members)
        return b'{"chunk":[%b]}' % b",".join(chunk)

    async def _state_at(self, reading: Reading, token: str) -> State:
        room = reading.room
        point = await self.pages.point(room, token)
        row = await sql.event_before_point(self.pool, room.nid, min(point, reading.end))
        return await self.snapshots.state_after(room, row["nid"]) if row is not None else {}

    async def joined_members(self, requester: Requester, room_id: str) -> bytes:
        """`getJoinedMembersByRoom`. Raises Forbidden unless the requester is in the room."""
        room = await self.rooms.find(room_id)
        if room is None or room.membership(requester.user_id) != "join":
            raise Forbidden("You are not in this room: join it first")
        room = await self.rooms.whole(room_id)
        joined = {
            user_id: _profile(event.content)
            for (type, user_id), event in durable_state(room, self.rooms.position).items()
            if type == MEMBER and membership_of(event) == "join"
        }
        return orjson.dumps({"joined": joined})


def _profile(content: JsonObject) -> dict[str, str]:
    """A member's name and avatar as the member event has them."""
    profile: dict[str, str] = {}
    name, avatar = content.get("displayname"), content.get("avatar_url")
    if isinstance(name, str):
        profile["display_name"] = name
    if isinstance(avatar, str) and avatar.startswith("mxc://"):
        profile["avatar_url"] = avatar
    return profile
