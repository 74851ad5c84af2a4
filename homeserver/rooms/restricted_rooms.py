"""Who may join a restricted room without an invite, and in whose name.

Source: Client-Server API, "Restricted rooms"; Server-Server API, "Restricted rooms".
"""

from __future__ import annotations

from enum import Enum

from homeserver.rooms.room import Room
from homeserver.rooms.rooms import Rooms

AUTHORISED_VIA = "join_authorised_via_users_server"
RESTRICTED = ("restricted", "knock_restricted")
CONDITIONS_MAX = 50  # rooms that are looked at for one join


class Condition(Enum):
    """Whether a user meets one of a room's conditions, as far as it can be told here."""

    MET = "met"
    FAILED = "failed"
    UNKNOWN = "unknown"  # some of the rooms are not followed here, and none of the others decides


async def check_conditions(rooms: Rooms, room: Room, user_id: str) -> Condition:
    """Look for the user in the rooms whose members may join, of which this node follows some."""
    outcome = Condition.FAILED
    for room_id in room.allowed_room_ids()[:CONDITIONS_MAX]:
        allowed = await rooms.find(room_id)
        if allowed is None or not allowed.followed:
            outcome = Condition.UNKNOWN
        elif allowed.membership(user_id) == "join":
            return Condition.MET
    return outcome


def needs_authority(room: Room, user_id: str) -> bool:
    """Whether the user can join only in somebody's name: a restricted room, and no invite."""
    return room.join_rule in RESTRICTED and room.membership(user_id) in ("leave", "knock")


def authorising_user(room: Room) -> str | None:
    """A user of this server in whose name others may join, if there is one."""
    power_levels = room.power_levels
    for member in room.local_members:
        if power_levels.for_user(member) >= power_levels.invite:
            return member
    return None
