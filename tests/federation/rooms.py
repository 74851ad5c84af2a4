"""A room made by hand, event by event: no hashes and no signatures, for rules that look at neither."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any

from federation.auth_events import select_auth_events
from federation.auth_rules import AuthState, check_event
from federation.errors import Rejected
from federation.event import PDU, JsonObject, StateKey
from federation.room_versions import ROOM_VERSIONS, RoomVersion
from federation.state_resolution import MemoryGraph

ALICE = "@alice:a.example"
BOB = "@bob:b.example"
NEW_USER = "@new.user:c.example"
ALL_VERSIONS = tuple(ROOM_VERSIONS)


def versions_with(**flags: object) -> list[str]:
    """The IDs of the room versions whose flags have these values."""
    return [
        version_id
        for version_id, version in ROOM_VERSIONS.items()
        if all(getattr(version, name) == value for name, value in flags.items())
    ]


class Room:
    """A room in one state, with all events that were ever made in it.

    `make` makes an event on top of the state as it is; `put` also lets it take its place in the
    state, without asking whether it may.
    """

    def __init__(self, version_id: str, *, creator: str = ALICE, **create_content: Any) -> None:
        self.version: RoomVersion = ROOM_VERSIONS[version_id]
        self.events: dict[str, PDU] = {}
        self.state: dict[StateKey, PDU] = {}
        self.rejected: set[str] = set()
        self._last: str | None = None
        self.room_id = "!0" if self.version.room_id_is_create_hash else "!room:" + creator.split(":", 1)[1]
        content: JsonObject = {"room_version": version_id, **create_content}
        if self.version.creator_in_content:
            content.setdefault("creator", creator)
        self.create = self.put("m.room.create", creator, content, "")

    def fork(self) -> Room:
        """A branch that shares the events made so far and to come, with a state of its own."""
        branch = copy(self)
        branch.state = dict(self.state)
        return branch

    def state_map(self) -> dict[StateKey, str]:
        """The state by event ID."""
        return {key: event.event_id for key, event in self.state.items()}

    def graph(self) -> MemoryGraph:
        """All events of all branches, as state resolution sees them."""
        return MemoryGraph(self.events, self.rejected)

    def event_id(self, name: str, sender: str) -> str:
        """An event ID of the shape that the version has."""
        return f"${name}" if self.version.event_id_is_hash else f"${name}:{sender.partition(':')[2]}"

    def make(
        self,
        event_type: str,
        sender: str,
        content: JsonObject | None = None,
        state_key: str | None = None,
        *,
        state: Mapping[StateKey, PDU] | None = None,
        auth_events: Sequence[PDU] | None = None,
        prev_events: Iterable[str] | None = None,
        ts_ms: int | None = None,
        depth: int | None = None,
        name: str | None = None,
        **json: Any,
    ) -> PDU:
        """An event of this room. ``state`` (the room's own unless given) gives its auth events."""
        content = {} if content is None else content
        number = len(self.events)
        event_id = self.event_id(str(number) if name is None else name, sender)
        if auth_events is None:
            lookup = self.state if state is None else state
            auth_events = select_auth_events(self.version, event_type, state_key, sender, content, lookup.get)
        if prev_events is None:
            prev_events = () if self._last is None else (self._last,)
        room_id = json.pop("room_id", self.room_id)
        event = PDU(
            version=self.version,
            event_id=event_id,
            room_id=room_id,
            type=event_type,
            state_key=state_key,
            sender=sender,
            content=content,
            origin_server_ts=number if ts_ms is None else ts_ms,
            depth=number + 1 if depth is None else depth,
            prev_events=tuple(prev_events),
            auth_events=tuple(auth_event.event_id for auth_event in auth_events),
            redacts=json.get("redacts", content.get("redacts")),
            json={"type": event_type, "content": content, **json},
        )
        self.events[event_id] = event
        return event

    def put(
        self,
        event_type: str,
        sender: str,
        content: JsonObject | None = None,
        state_key: str = "",
        **rest: Any,
    ) -> PDU:
        """Make a state event and give it its place in the state."""
        event = self.make(event_type, sender, content, state_key, **rest)
        self.state[event_type, state_key] = event
        self._last = event.event_id
        return event

    def member(
        self,
        user_id: str,
        membership: str,
        sender: str | None = None,
        ts_ms: int | None = None,
        **content: Any,
    ) -> PDU:
        """Put a membership, by the user themself unless ``sender`` is given."""
        body = {"membership": membership, **content}
        return self.put("m.room.member", sender or user_id, body, user_id, ts_ms=ts_ms)

    def auth_state(self) -> AuthState:
        """The room's state as the rules see it."""
        return AuthState(self.version, self.state)

    def refusal(self, event: PDU) -> str | None:
        """The rule that refuses ``event`` in the room's state, ``None`` if it is allowed."""
        try:
            check_event(event, self.auth_state())
        except Rejected as refusal:
            assert refusal.event_id == event.event_id
            return refusal.rule
        return None


def levels(room: Room, **content: Any) -> JsonObject:
    """Content of ``m.room.power_levels`` that keeps the creator at 100 where creators are named."""
    users = dict(content.pop("users", {}))
    if not room.version.privileged_creators:
        users.setdefault(ALICE, 100)
    return {"users": users, **content}


def new_room(version_id: str = "11", *, join_rule: str = "public", **create_content: Any) -> Room:
    """A room that Alice made and joined, with power levels and a join rule."""
    room = Room(version_id, **create_content)
    room.member(ALICE, "join")
    room.put("m.room.power_levels", ALICE, levels(room))
    room.put("m.room.join_rules", ALICE, {"join_rule": join_rule})
    return room
