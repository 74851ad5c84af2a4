"""Room events as changes of the commit log: what a batch of them writes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

from homeserver.rooms.event import Event
from homeserver.rooms.relations_of import Relation
from homeserver.rooms.room import MEMBER, Room, membership_of
from homeserver.rooms.snapshots import Layer
from homeserver.storage import events as sql
from homeserver.storage.connection import Connection


class RoomWrittenElsewhere(Exception):
    """Another process wrote the room since this one read it: read it again."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """What an event that redacts does to its target."""

    target: Event
    json: bytes  # of the target, redacted


@dataclass(slots=True, eq=False)
class RoomEventChange:
    """One event appended to a room. `generation` is the room's before it; `summary` is set if it changed."""

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
    position: int = 0

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

    @property
    def owner(self) -> str | None:
        return None

    @property
    def audience(self) -> Collection[str]:
        members = self.room.local_members
        event = self.event
        if event.type == MEMBER and event.state_key is not None and event.state_key not in members:
            return members | {event.state_key}  # invited, knocking, or gone
        return members

    @property
    def size_bytes(self) -> int:
        return self.event.size_bytes

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[Self]) -> None:
        for change in changes:
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
            await _write_layers(connection, layers)
        members = [change for change in changes if change.membership_before is not None]
        if members:
            await _write_memberships(connection, members)
        relations = [change for change in changes if change.relation is not None]
        if relations:
            await _write_relations(connection, relations)
        redactions = [change for change in changes if change.redaction is not None]
        if redactions:
            await _write_redactions(connection, redactions)


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
    events = [change.event for change in changes]
    written = await connection.fetchval(
        sql.WRITE_EVENTS,
        list(rooms),
        [first for first, _ in rooms.values()],
        [change.generation + 1 for change in lasts],
        [change.snapshot_after for change in lasts],
        [str(change.event.nid) for change in lasts],
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


async def _write_layers(connection: Connection, layers: Sequence[tuple[int, Layer]]) -> None:
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
        user_id = change.event.state_key or ""
        membership = membership_of(change.event)
        key = user_id, change.room.nid
        since = (
            change.position if membership != change.membership_before else rows[key][1] if key in rows else 0
        )
        rows[key] = change.position, since, membership
        if not change.room.is_local(user_id):
            strangers.add(user_id)
    if strangers:
        await connection.execute(sql.INTERN_USERS, list(strangers))
    await connection.execute(
        sql.WRITE_MEMBERSHIPS,
        [user_id for user_id, _ in rows],
        [room_nid for _, room_nid in rows],
        [position for position, _, _ in rows.values()],
        [since for _, since, _ in rows.values()],
        [membership for _, _, membership in rows.values()],
    )


async def _write_relations(connection: Connection, changes: Sequence[RoomEventChange]) -> None:
    found = [(change.event, change.relation) for change in changes if change.relation is not None]
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


async def _write_redactions(connection: Connection, changes: Sequence[RoomEventChange]) -> None:
    found = {change.redaction.target.nid: change for change in changes if change.redaction is not None}
    await connection.execute(
        sql.REDACT,
        list(found),
        [change.redaction.json for change in found.values() if change.redaction is not None],
        [change.position for change in found.values()],
    )
    await connection.execute(sql.UNRELATE, list(found))
