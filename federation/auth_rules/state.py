"""The state of a room as the authorisation rules see it."""

from __future__ import annotations

from typing import Protocol

from federation.auth_events import CREATE_KEY, JOIN_RULES_KEY, MEMBER, POWER_LEVELS_KEY
from federation.errors import Rejected
from federation.event import PDU, StateKey
from federation.power_levels import PowerLevels
from federation.room_versions import RoomVersion


class StateLookup(Protocol):
    """A room's state by key; a ``dict[StateKey, PDU]`` is one."""

    def get(self, key: StateKey, /) -> PDU | None: ...


class AuthState:
    """A view of ``events`` that keeps the parsed power levels.

    It holds no copy: where ``events`` changes, the next question is answered by the new state, and
    power levels are read again once their event is another. One object serves a room for its lifetime.
    ``events`` must hold the create event, also where events do not name it among their auth events.
    """

    __slots__ = ("_power_levels", "events", "version")

    def __init__(
        self, version: RoomVersion, events: StateLookup, power_levels: PowerLevels | None = None
    ) -> None:
        self.version = version
        self.events = events
        self._power_levels = power_levels

    @property
    def create(self) -> PDU | None:
        """The room's create event."""
        return self.events.get(CREATE_KEY)

    @property
    def power_levels(self) -> PowerLevels:
        """The room's power levels, or what holds without such an event."""
        event = self.events.get(POWER_LEVELS_KEY)
        known = self._power_levels
        if known is not None and (known.event is event or _same_event(known.event, event)):
            return known
        create = self.create
        levels = PowerLevels.from_state(self.version, event, create)
        if create is not None:
            self._power_levels = levels
        return levels

    @property
    def join_rule(self) -> str:
        """``content.join_rule`` of the join rules; ``invite`` where a room has none."""
        event = self.events.get(JOIN_RULES_KEY)
        rule = event.content.get("join_rule") if event is not None else None
        return rule if isinstance(rule, str) else "invite"

    def member(self, user_id: str) -> PDU | None:
        """The user's member event."""
        return self.events.get((MEMBER, user_id))

    def membership(self, user_id: str) -> str:
        """The user's membership; ``leave`` for whoever never was in the room."""
        event = self.events.get((MEMBER, user_id))
        if event is None:
            return "leave"
        membership = event.content.get("membership")
        return membership if isinstance(membership, str) else "leave"

    def require_create(self, event: PDU) -> PDU:
        """The create event of the room that ``event`` is sent to. Raises Rejected if this is not it."""
        create = self.events.get(CREATE_KEY)
        if create is None:
            raise Rejected("state.no_create", event.event_id)
        # "If the event's room_id is not an event ID for an accepted (not rejected) m.room.create event,
        # with the sigil ! instead of $, reject." (v12 rule 2)
        if self.version.room_id_is_create_hash and event.room_id[1:] != create.event_id[1:]:
            raise Rejected("room_id.not_create", event.event_id)
        return create


def _same_event(first: PDU | None, second: PDU | None) -> bool:
    return first is not None and second is not None and first.event_id == second.event_id
