"""Memberships of rooms that this node is not in, as changes of the commit log: see `outside_rooms`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from federation.room_versions import RoomVersion, room_version
from homeserver.rooms.event import Event
from homeserver.rooms.room import membership_of
from homeserver.rooms.unseen_events import row_of
from homeserver.storage import events as event_sql
from homeserver.storage import outside_rooms as sql
from homeserver.storage import partial_rooms as partial_sql
from homeserver.storage import received_events as received_sql
from homeserver.storage.connection import Connection


@dataclass(frozen=True, slots=True)
class OutsideMembership:
    """A user's membership of such a room. `servers` know of it; `stripped` is a JSON list."""

    room_nid: int
    room_id: str
    version: RoomVersion
    event: Event
    servers: Sequence[str]
    stripped: bytes

    @classmethod
    def of_row(cls, row: Any) -> OutsideMembership:
        return cls(
            row["outside_nid"],
            row["room_id"],
            room_version(row["version"]),
            Event.of_row(row),
            row["servers"],
            row["stripped"],
        )


@dataclass(slots=True, eq=False)
class OutsideChange:
    """A user got such a membership. `is_new` if its event was not stored before."""

    user_id: str
    membership: OutsideMembership
    is_new: bool
    position: int = 0
    is_visible: ClassVar[bool] = True
    owner: ClassVar[None] = None

    @property
    def room_nid(self) -> int:
        return self.membership.room_nid

    @property
    def audience(self) -> Collection[str]:
        return (self.user_id,)

    @property
    def size_bytes(self) -> int:
        return self.membership.event.size_bytes + len(self.membership.stripped)

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[Self]) -> None:
        # a row can be written once a statement: the last change stands for all
        last = {(change.user_id, change.room_nid): change for change in changes}.values()
        events = {c.membership.event.event_id: c.membership.event for c in changes if c.is_new}
        if events:
            await received_sql.store(connection, [row_of(event) for event in events.values()])
        await connection.execute(event_sql.INTERN_USERS, [change.user_id for change in last])
        found = [change.membership for change in last]
        rooms = {each.room_nid: (each.room_nid, each.room_id, each.version.id) for each in found}
        await sql.write(
            connection,
            list(rooms.values()),
            [
                (c.user_id, c.room_nid, m.event.nid, " ".join(m.servers), m.stripped)
                for c, m in zip(last, found, strict=True)
            ],
        )
        await connection.execute(
            event_sql.WRITE_MEMBERSHIPS,
            [change.user_id for change in last],
            [change.room_nid for change in last],
            [each.event.nid for each in found],
            [change.position for change in last],
            [membership_of(each.event) for each in found],
        )


@dataclass(slots=True, eq=False)
class RoomEntered:
    """This node has entered a room: what other servers told of its users there is of no use any more, nor
    what was lacking of the room at an earlier stay.

    Written with the event that does it; sync looks at that.
    """

    entered_nid: int
    position: int = 0
    is_visible: ClassVar[bool] = False

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[Self]) -> None:
        await sql.end(connection, [change.entered_nid for change in changes])
        for change in changes:
            await partial_sql.delete(connection, change.entered_nid)
