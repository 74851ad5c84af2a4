"""What events from a room's past bring with them: relations, and redactions of each other.

Source: rooms/v3, "Handling redactions"; Client-Server API, "Forming relationships between events".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from federation.auth_rules import redaction_applies
from federation.event import PDU
from homeserver.rooms.branch_states import BranchStates
from homeserver.rooms.changes import Redaction, write_redactions, write_relations
from homeserver.rooms.event import FLAG_REJECTED, Event
from homeserver.rooms.redacting import redact_current, redaction_of
from homeserver.rooms.relations_of import Relation, relation_of
from homeserver.rooms.room import Room
from homeserver.rooms.snapshot_reader import State
from homeserver.storage import received_events as sql
from homeserver.storage.connection import Connection, Pool


@dataclass(slots=True, eq=False)
class PastConsequences:
    """Written with the events, after them. `awaiting` are redactions of what is not known yet."""

    relations: Sequence[tuple[Event, Relation]] = ()
    redactions: Sequence[Redaction] = ()
    awaiting: Sequence[tuple[str, Event]] = ()
    position: int = 0
    is_visible: ClassVar[bool] = False

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[Self]) -> None:
        relations = [each for change in changes for each in change.relations]
        if relations:
            await write_relations(connection, relations)
        redactions = [each for change in changes for each in change.redactions]
        if redactions:
            await write_redactions(connection, redactions)
        awaiting = [each for change in changes for each in change.awaiting]
        if awaiting:
            await connection.execute(
                sql.WRITE_PENDING_REDACTIONS,
                [event_id for event_id, _ in awaiting],
                [event.nid for _, event in awaiting],
            )


@dataclass(frozen=True, slots=True)
class Consequences:
    """Finds them, for `PDU`s of a room whose `Event`s have their numbers."""

    pool: Pool
    branches: BranchStates

    async def of(
        self,
        room: Room,
        pdus: Mapping[str, PDU],
        events: Mapping[str, Event],
        known: Mapping[str, Event],
        states: Mapping[str, State],
    ) -> PastConsequences:
        """`known` are stored events, the targets of redactions among them; `states` those before events."""
        standing = {id: event for id, event in events.items() if not event.flags & FLAG_REJECTED}
        found = PastConsequences(
            [
                (event, relation)
                for id, event in standing.items()
                if event.state_key is None and (relation := relation_of(pdus[id].content)) is not None
            ]
        )
        redactions: dict[str, Redaction] = {}
        awaiting: list[tuple[str, Event]] = []
        for row in await sql.pending_redactions(self.pool, room.nid, list(standing)):
            by = Event.of_row(row)
            before = await self.branches.at(room, by.snapshot) if by.snapshot >= 0 else {}
            target = standing[row["redacts"]]
            self._redact(room, by.pdu(room.version), by, target, pdus[target.event_id], before, redactions)
        for id, by in standing.items():
            target_id = pdus[id].redacts
            if target_id is None:
                continue
            cited = standing.get(target_id) or known.get(target_id)
            if cited is None:
                awaiting.append((target_id, by))
            elif id in states:
                cited_pdu = pdus.get(target_id) or cited.pdu(room.version)
                self._redact(room, pdus[id], by, cited, cited_pdu, states[id], redactions)
        found.redactions, found.awaiting = list(redactions.values()), awaiting
        return found

    def _redact(
        self,
        room: Room,
        redaction: PDU,
        by: Event,
        target: Event,
        target_pdu: PDU,
        before: State,
        redactions: dict[str, Redaction],
    ) -> None:
        if target.redacted_by is not None or target.event_id in redactions:
            return
        levels = self.branches.auth_state(room, before).power_levels
        if redaction_applies(redaction, target_pdu, levels):
            found = redactions[target.event_id] = redaction_of(room, target, by)
            redact_current(room, found)
