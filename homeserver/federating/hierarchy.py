"""Spaces, as other servers may see them. Source: Server-Server API, "Spaces"; space_hierarchy.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from federation.canonical import JsonObject
from homeserver.errors import NotFound
from homeserver.rooms.described_rooms import is_followed
from homeserver.rooms.room import Room
from homeserver.rooms.room_summaries import INSIDE, is_visible, room_summary
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.space_hierarchy import SPACE, child_state, children_of
from homeserver.storage.connection import Pool
from homeserver.storage.room_summaries import fetch_summaries

CHILDREN_MAX = 200  # of one answer


@dataclass(frozen=True, slots=True)
class FederationHierarchy:
    """One level of a space, without pages: whoever asks walks on by asking again."""

    pool: Pool
    rooms: Rooms

    async def of_space(self, origin: str, room_id: str, suggested_only: bool) -> JsonObject:
        """`getSpaceHierarchy`: a room and its children, as far as users of ``origin`` could enter or read.

        Raises NotFound for a room that is unknown here or closed to that server.
        """
        stored = (await fetch_summaries(self.pool, (room_id,))).get(room_id)
        if stored is None or not await self._is_open(stored, origin):
            raise NotFound("The room is not known here, or closed to your server")
        space = await self.rooms.find(room_id) if stored.get("room_type") == SPACE else None
        events = children_of(space, suggested_only)[:CHILDREN_MAX] if space is not None else []
        child_ids = [event.state_key for event in events if event.state_key]
        children, inaccessible = [], []
        summaries = await fetch_summaries(self.pool, child_ids)
        for child_id in child_ids:
            child = summaries.get(child_id)
            if child is None or not is_followed(child):
                continue  # "Rooms which the responding server cannot provide details on" are left out
            if await self._is_open(child, origin):
                children.append(room_summary(child))
            else:
                inaccessible.append(child_id)
        return {
            "room": {**room_summary(stored), "children_state": [child_state(event) for event in events]},
            "children": children,
            "inaccessible_children": inaccessible,
        }

    async def _is_open(self, stored: JsonObject, origin: str) -> bool:
        """Whether some user of ``origin`` could read or enter the room, or is in it already."""
        if stored.get("federate") is False or not is_followed(stored):
            return False
        if is_visible(stored, None):
            return True
        room_ids = [stored.get("room_id", ""), *stored.get("allowed_room_ids", ())]
        for room_id in room_ids:
            room = await self.rooms.find(room_id)
            memberships = INSIDE if room_id == stored.get("room_id") else ("join",)
            if room is not None and _has_member(room, origin, memberships):
                return True
        return False


def _has_member(room: Room, server: str, memberships: tuple[str, ...]) -> bool:
    suffix = f":{server}"
    return any(user_id.endswith(suffix) for user_id, _ in room.members(*memberships))
