"""A user whose client follows everything by sync, on whichever server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.api.client import JsonObject, User

DEADLINE_S = 60.0
SYNC_TIMEOUT_MS = 1000
FILTER = {"room": {"timeline": {"limit": 100}}, "presence": {"not_types": ["*"]}}
Found = TypeVar("Found")


@dataclass(slots=True)
class Follower:
    """What ``user``'s client has learnt so far."""

    user: User
    since: str | None = None
    events: dict[str, JsonObject] = field(default_factory=dict)
    """Of timelines, by ID, in the order in which they came."""
    invites: dict[str, list[JsonObject]] = field(default_factory=dict)
    """The stripped state of the rooms to which the user is invited."""
    joined: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    members: dict[tuple[str, str], str] = field(default_factory=dict)
    """Memberships by room and user, of joined rooms."""
    typing: dict[str, list[str]] = field(default_factory=dict)
    receipts: set[tuple[str, str]] = field(default_factory=set)
    """Events and who has read up to them."""
    to_device: list[JsonObject] = field(default_factory=list)
    devices_changed: set[str] = field(default_factory=set)
    """Users whose device lists have changed."""

    @property
    def user_id(self) -> str:
        return self.user.user_id

    async def sync(self) -> None:
        """Learn what is new; if nothing is, wait for a moment."""
        timeout_ms = SYNC_TIMEOUT_MS if self.since else 0
        answer = await self.user.sync(self.since, timeout_ms=timeout_ms, filter=FILTER)
        self.since = answer["next_batch"]
        rooms = answer.get("rooms", {})
        for room_id, room in rooms.get("invite", {}).items():
            self.invites[room_id] = room["invite_state"]["events"]
        for room_id, room in rooms.get("join", {}).items():
            self.joined.add(room_id)
            self.left.discard(room_id)
            self.invites.pop(room_id, None)
            self._learn(room_id, room)
        for room_id in rooms.get("leave", {}):
            self.left.add(room_id)
            self.joined.discard(room_id)
            self.invites.pop(room_id, None)
        self.to_device += answer.get("to_device", {}).get("events", [])
        self.devices_changed |= set(answer.get("device_lists", {}).get("changed", []))

    def _learn(self, room_id: str, room: JsonObject) -> None:
        timeline = room.get("timeline", {}).get("events", [])
        for event in (*room.get("state", {}).get("events", []), *timeline):
            if event["type"] == "m.room.member":
                self.members[(room_id, event["state_key"])] = event["content"].get("membership", "")
        self.events |= {event["event_id"]: event for event in timeline}
        for event in room.get("ephemeral", {}).get("events", []):
            if event["type"] == "m.typing":
                self.typing[room_id] = event["content"]["user_ids"]
            elif event["type"] == "m.receipt":
                self.receipts |= {
                    (event_id, user_id)
                    for event_id, kinds in event["content"].items()
                    for user_id in kinds.get("m.read", {})
                }

    async def until(self, reached: Callable[[], Found], what: str) -> Found:
        """What ``reached`` returns once that is true, after as many syncs as it takes."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not (found := reached()):
                    await self.sync()
                return found
        except TimeoutError:
            raise AssertionError(f"{self.user_id} has not seen {what} in {DEADLINE_S:.0f} s") from None

    async def event(self, event_id: str) -> JsonObject:
        """The event, when sync has brought it."""
        return await self.until(lambda: self.events.get(event_id, {}), event_id)

    async def invited_to(self, room_id: str) -> list[JsonObject]:
        """The stripped state of an invitation, when sync has brought it."""
        return await self.until(lambda: self.invites.get(room_id, []), f"an invitation to {room_id}")

    async def membership(self, room_id: str, user_id: str, membership: str) -> None:
        """Return when somebody's membership is this."""
        await self.until(
            lambda: self.members.get((room_id, user_id)) == membership, f"{membership} of {user_id}"
        )

    async def state_ids(self, room_id: str) -> dict[tuple[str, str], str]:
        """The IDs of the room's current state events, as the user's server has it."""
        events: list[Any] = await self.user.get("/v3/rooms/{}/state", room_id)
        return {(event["type"], event["state_key"]): event["event_id"] for event in events}


async def same_state(room_id: str, *followers: Follower) -> dict[tuple[str, str], str]:
    """The room's state by event IDs, once all servers have the same.

    Each server is asked again after a sync of it, so whoever is to see the same must be on its way to it.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE_S
    while True:
        states = [await follower.state_ids(room_id) for follower in followers]
        if all(state == states[0] for state in states):
            return states[0]
        if loop.time() > deadline:
            differing = {
                key: [state.get(key) for state in states]
                for key in set().union(*states)
                if len({state.get(key) for state in states}) > 1
            }
            raise AssertionError(f"the servers do not come to one state of {room_id}: {differing}")
        for follower in followers:
            await follower.sync()
