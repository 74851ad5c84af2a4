"""Room events as changes of the commit log: what a batch of them writes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from homeserver.rooms.event import Event
from homeserver.rooms.relations_of import Relation
from homeserver.rooms.room import MEMBER, Room, membership_of
from homeserver.rooms.room_servers import NOBODY, Servers
from homeserver.rooms.snapshots import Layer
from homeserver.storage import events as sql
from homeserver.storage import outbox
from homeserver.storage import received_events as received_sql
from homeserver.storage.connection import Connection

MEMBERSHIPS_AT_ONCE = 2000


class RoomWrittenElsewhere(Exception):
    """Another process wrote the room since this one read it: read it again."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """What an event that redacts does to its target."""

    target: Event
    json: bytes  # of the target, redacted
    by: Event


@dataclass(frozen=True, slots=True)
class MemberChange:
    """A membership that resolution changed; `event` is None if the user has none any more."""

    user_id: str
    before: str
    event: Event | None

    @property
    def after(self) -> str:
        return membership_of(self.event) if self.event is not None else "leave"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """What an event does to a room besides, when it is more than the next one after the only newest.

    `state` became current by resolution, without being the event itself.
    """

    extremities: tuple[Event, ...]
    layers: tuple[Layer, ...] = ()
    state: tuple[Event, ...] = ()
    members: tuple[MemberChange, ...] = ()
    awaits_target: str | None = None  # of a redaction whose target is not known yet


@dataclass(slots=True, eq=False)
class RoomEventChange:
    """One event appended to a room. `generation` is the room's before it; `summary` is set if it changed.

    `destinations` are the other servers that this node is to send it to.
    """

    event: Event
    room_nid: int
    _room: Room | None
    generation: int
    snapshot_after: int
    layer: Layer | None = None
    summary: str | None = None
    membership_before: str | None = None  # of a member event
    redaction: Redaction | None = None
    relation: Relation | None = None
    merge: Merge | None = None
    destinations: Servers = NOBODY
    position: int = 0
    is_visible: ClassVar[bool] = True
    owner: ClassVar[None] = None

    @property
    def room(self) -> Room:
        """The room, until the change is durable and told of."""
        if self._room is None:
            raise RuntimeError("the change is durable already")
        return self._room

    def release(self) -> None:
        """Keep what the live tail needs and nothing else: not the room, nor the layer."""
        self._room = None
        replaces = self.event.replaces
        if isinstance(replaces, Event):  # or each state event would hold all that were before it
            self.event.replaces = replaces.nid
        self.layer = None
        self.summary = None
        self.redaction = None
        if self.merge is not None:
            self.merge = Merge(extremities=(), state=self.merge.state)

    @property
    def audience(self) -> Collection[str]:
        members = self.room.local_members
        event = self.event
        if self.merge is not None and self.merge.members:
            members = members | {member.user_id for member in self.merge.members}
        if event.type == MEMBER and event.state_key is not None and event.state_key not in members:
            return members | {event.state_key}  # invited, knocking, or gone
        return members

    @property
    def size_bytes(self) -> int:
        return self.event.size_bytes

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[Self]) -> None:
        for change in changes:
            if change.event.nid >= 0:  # one that was known as an outlier keeps its number
                change.event.nid = change.position
        new = [change.room for change in changes if change.room.is_new and change.generation == 0]
        if new:
            await connection.execute(
                sql.CREATE_ROOMS,
                [room.nid for room in new],
                [room.room_id for room in new],
                [room.version.id for room in new],
            )
        await _write_events(connection, changes)
        layers = [(change.room.nid, change.layer) for change in changes if change.layer is not None]
        if layers:
            await write_layers(connection, layers)
        merges = [change for change in changes if change.merge is not None]
        if merges:
            await _write_merges(connection, merges)
        members = [
            change for change in changes if change.membership_before is not None or change.merge is not None
        ]
        if members:
            await _write_memberships(connection, members)
        relations = [(change.event, change.relation) for change in changes if change.relation is not None]
        if relations:
            await write_relations(connection, relations)
        redactions = [change.redaction for change in changes if change.redaction is not None]
        if redactions:
            await write_redactions(connection, redactions)
        outgoing = [
            outbox.OutboxRow(change.position, change.destinations, change.event.nid)
            for change in changes
            if change.destinations
        ]
        if outgoing:
            await outbox.write(connection, outgoing)


async def _write_events(connection: Connection, changes: Sequence[RoomEventChange]) -> None:
    rooms: dict[int, tuple[int, RoomEventChange]] = {}
    summaries: dict[int, str] = {}
    for change in changes:
        nid = change.room_nid
        first, last = rooms.get(nid, (change.generation, None))
        if last is not None and change.generation != last.generation + 1:
            raise RoomWrittenElsewhere  # two copies of the room in this very process
        rooms[nid] = (first, change)
        if change.summary is not None:
            summaries[nid] = change.summary
    lasts = [change for _, change in rooms.values()]
    events = [change.event for change in changes if change.event.nid > 0]
    written = await connection.fetchval(
        sql.WRITE_EVENTS,
        list(rooms),
        [first for first, _ in rooms.values()],
        [change.generation + 1 for change in lasts],
        [change.snapshot_after for change in lasts],
        [_extremities(change) for change in lasts],
        [summaries.get(nid) for nid in rooms],
        [event.nid for event in events],
        [event.depth for event in events],
        [event.origin_server_ts for event in events],
        [event.replaces.nid if isinstance(event.replaces, Event) else event.replaces for event in events],
        [event.room_nid for event in events],
        [event.snapshot for event in events],
        [event.device_nid for event in events],
        [event.flags for event in events],
        [event.event_id for event in events],
        [event.type for event in events],
        [event.state_key for event in events],
        [event.txn_id for event in events],
        [event.json for event in events],
    )
    if written != len(rooms):
        raise RoomWrittenElsewhere


def _extremities(change: RoomEventChange) -> str:
    if change.merge is None:
        return str(change.event.nid)
    return ",".join(str(event.nid) for event in change.merge.extremities)


async def _write_merges(connection: Connection, changes: Sequence[RoomEventChange]) -> None:
    found = [(change, change.merge) for change in changes if change.merge is not None]
    layers = [(change.room.nid, layer) for change, merge in found for layer in merge.layers]
    if layers:
        await write_layers(connection, layers)
    placed = [change.event for change, _ in found if change.event.nid < 0]
    if placed:
        await connection.execute(
            received_sql.PLACE,
            [event.nid for event in placed],
            [event.snapshot for event in placed],
        )
    states = [(change, merge.state) for change, merge in found if merge.state]
    if states:
        await connection.execute(
            received_sql.WRITE_STATE_CHANGES,
            [change.room_nid for change, _ in states],
            [change.position for change, _ in states],
            [",".join(str(event.nid) for event in state) for _, state in states],
        )
    awaiting = [(change, merge) for change, merge in found if merge.awaits_target is not None]
    if awaiting:
        await connection.execute(
            received_sql.WRITE_PENDING_REDACTIONS,
            [merge.awaits_target for _, merge in awaiting],
            [change.event.nid for change, _ in awaiting],
        )


async def write_layers(connection: Connection, layers: Sequence[tuple[int, Layer]]) -> None:
    """Store snapshots' layers, each with its room's number."""
    await connection.execute(
        sql.WRITE_SNAPSHOTS,
        [room_nid for room_nid, _ in layers],
        [layer.number for _, layer in layers],
        [layer.parent for _, layer in layers],
        [layer.height for _, layer in layers],
        [",".join(str(event.nid) for event in layer.delta.values()) for _, layer in layers],
    )


async def _write_memberships(connection: Connection, changes: Sequence[RoomEventChange]) -> None:
    # A row can be written once a statement, so the last change of a batch stands for all.
    rows: dict[tuple[str, int], tuple[int, int, str]] = {}
    strangers: set[str] = set()
    for change in changes:
        for user_id, before, after, event_nid in _memberships(change):
            key = user_id, change.room.nid
            since = change.position if after != before else rows[key][1] if key in rows else 0
            rows[key] = event_nid, since, after
            if not change.room.is_local(user_id):
                strangers.add(user_id)
    if not rows:
        return
    if strangers:
        await connection.execute(sql.INTERN_USERS, list(strangers))
    found = list(rows.items())
    for start in range(0, len(found), MEMBERSHIPS_AT_ONCE):  # there are many of a large room that is joined
        portion = found[start : start + MEMBERSHIPS_AT_ONCE]
        await connection.execute(
            sql.WRITE_MEMBERSHIPS,
            [user_id for (user_id, _), _ in portion],
            [room_nid for (_, room_nid), _ in portion],
            [event_nid for _, (event_nid, _, _) in portion],
            [since for _, (_, since, _) in portion],
            [membership for _, (_, _, membership) in portion],
        )


def _memberships(change: RoomEventChange) -> Iterator[tuple[str, str, str, int]]:
    """The user, the membership before and after, and the number of the event, of each that changed."""
    event = change.event
    if change.membership_before is not None:
        yield event.state_key or "", change.membership_before, membership_of(event), event.nid
    for member in change.merge.members if change.merge is not None else ():
        # whose membership is gone has no event of it any more: that of the change stands for it
        yield member.user_id, member.before, member.after, (member.event or event).nid


async def write_relations(connection: Connection, found: Sequence[tuple[Event, Relation]]) -> None:
    """Store what events relate to."""
    await connection.execute(
        sql.WRITE_RELATIONS,
        [event.nid for event, _ in found],
        [event.room_nid for event, _ in found],
        [relation.event_id for _, relation in found],
        [relation.rel_type for _, relation in found],
        [event.type for event, _ in found],
        [event.sender for event, _ in found],
        [relation.key for _, relation in found],
    )


async def write_redactions(connection: Connection, redactions: Iterable[Redaction]) -> None:
    """Put the redacted form of events in their place; of several of one event, the last holds."""
    found = {redaction.target.nid: redaction for redaction in redactions}
    await connection.execute(
        sql.REDACT,
        list(found),
        [redaction.json for redaction in found.values()],
        [redaction.by.nid for redaction in found.values()],
    )
    await connection.execute(sql.UNRELATE, list(found))
