"""Events that are stored without being shown live: refused ones, outliers, and history fetched later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from homeserver.rooms.changes import write_layers
from homeserver.rooms.event import Event
from homeserver.rooms.room import Room
from homeserver.rooms.snapshots import Layer
from homeserver.storage import received_events as sql
from homeserver.storage.connection import Connection


@dataclass(slots=True, eq=False)
class UnseenEvents:
    """Events with numbers from `past_nids`, and the layers of the states before them. Nobody is told."""

    events: Sequence[Event]
    room: Room | None
    layers: Sequence[Layer] = ()
    position: int = 0
    is_visible: ClassVar[bool] = False

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[Self]) -> None:
        rows = [row_of(event) for change in changes for event in change.events]
        if rows:
            await sql.store(connection, rows)
        layers = [
            (change.room.nid, layer)
            for change in changes
            if change.room is not None
            for layer in change.layers
        ]
        if layers:
            await write_layers(connection, layers)


def row_of(event: Event) -> tuple[object, ...]:
    """An event as `homeserver.storage.received_events.store` takes it."""
    return (
        event.nid,
        event.depth,
        event.origin_server_ts,
        event.room_nid,
        event.snapshot,
        event.flags,
        event.event_id,
        storable(event.type),
        storable(event.state_key) if event.state_key is not None else None,
        event.json,
    )


def storable(text: str) -> str:
    """PostgreSQL's text has no NUL. Events with one are refused, so only their JSON is ever looked at."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
