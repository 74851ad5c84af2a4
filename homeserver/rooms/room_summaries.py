"""What is shown of a room to who is outside, and to whom. Source: Client-Server API, "Room Summaries"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from federation.event import JsonObject
from federation.room_versions import ROOM_VERSIONS
from homeserver.errors import InvalidParam, NotFound
from homeserver.requester import Requester
from homeserver.rooms.described_rooms import AliasResolver, RoomDescriber, is_followed
from homeserver.rooms.user_rooms import UserRooms
from homeserver.storage.connection import Pool
from homeserver.storage.room_summaries import fetch_summaries

# Keys of public_rooms_chunk.yaml, and what room_summary.yaml adds to them
CHUNK_KEYS = (
    "room_id", "name", "topic", "canonical_alias", "avatar_url", "room_type", "join_rule",
    "num_joined_members", "world_readable", "guest_can_join",
)  # fmt: skip
SUMMARY_KEYS = (*CHUNK_KEYS, "room_version", "encryption", "allowed_room_ids")
MEGOLM = "m.megolm.v1.aes-sha2"
OPEN_JOIN_RULES = ("public", "knock", "knock_restricted")  # to those who are not logged in
INSIDE = ("join", "invite", "knock")

Memberships = Mapping[str, str]
"""A user's membership by room id."""


def directory_entry(stored: JsonObject) -> JsonObject:
    """The entry of public_rooms_chunk.yaml for a stored summary."""
    return {key: stored[key] for key in CHUNK_KEYS if key in stored and _is_presentable(key, stored[key])}


def room_summary(stored: JsonObject) -> JsonObject:
    """The object of room_summary.yaml for a stored summary."""
    return {key: stored[key] for key in SUMMARY_KEYS if key in stored and _is_presentable(key, stored[key])}


def _is_presentable(key: str, value: Any) -> bool:
    """Whether a value that anybody may have put into the room's state has the form that clients expect."""
    match key:
        case "avatar_url":
            return isinstance(value, str) and value.startswith("mxc://")
        case "canonical_alias":
            return isinstance(value, str) and value.startswith("#")
        case "encryption":
            return bool(value == MEGOLM)
        case "allowed_room_ids":
            return all(isinstance(room_id, str) and room_id.startswith("!") for room_id in value)
        case _:
            return True


def is_visible(stored: JsonObject, memberships: Memberships | None) -> bool:
    """Whether somebody may see the summary; `memberships` are None for who is not logged in.

    Source: getSpaceHierarchy, the conditions under `rooms`; getRoomSummary for those not logged in.
    """
    if not stored.get("room_id"):
        return False  # known by an invite of another server only
    if stored.get("world_readable"):
        return True
    if memberships is None:
        return _effective_join_rule(stored) in OPEN_JOIN_RULES
    membership = memberships.get(stored["room_id"], "leave")
    if membership in INSIDE:
        return True
    if membership == "ban":
        return False
    rule = _effective_join_rule(stored)
    if rule == "restricted":
        return any(memberships.get(room_id) == "join" for room_id in stored.get("allowed_room_ids", ()))
    return rule in OPEN_JOIN_RULES


def _effective_join_rule(stored: JsonObject) -> str:
    """The join rule, as far as the room's version knows it; others let nobody in."""
    rule = stored.get("join_rule")
    if not isinstance(rule, str):
        return "invite"
    if "room_version" not in stored:
        return rule  # of another server, which said no more (before v1.15)
    version = ROOM_VERSIONS.get(stored["room_version"])
    if version is None:
        return "invite"
    supported = {
        "knock": version.knocking,
        "restricted": version.restricted_joins,
        "knock_restricted": version.knock_restricted,
    }
    return rule if supported.get(rule, True) else "invite"


async def memberships_by_id(user_rooms: UserRooms, requester: Requester) -> Memberships:
    """The requester's membership of every room they have to do with."""
    return {row.room_id: row.membership for row in (await user_rooms.get(requester.user_id)).values()}


@dataclass(frozen=True, slots=True)
class RoomSummaries:
    """Summaries of single rooms."""

    pool: Pool
    user_rooms: UserRooms
    aliases: AliasResolver
    outside: RoomDescriber

    async def get(
        self, requester: Requester | None, asker: str, room_id_or_alias: str, via: Sequence[str]
    ) -> JsonObject:
        """`getRoomSummary`; the servers in ``via`` are asked for rooms that this node is not in.

        Raises NotFound, also for rooms that this user may not see; InvalidParam, and what looking for an
        alias of another server raises.
        """
        room_id = room_id_or_alias
        if room_id.startswith("#"):
            found = await self.aliases.resolve(room_id, asker)
            room_id, via = found["room_id"], [*via, *found["servers"]]
        elif not room_id.startswith("!"):
            raise InvalidParam("A room is named by its id (!…) or by an alias (#name:server)")
        memberships = await memberships_by_id(self.user_rooms, requester) if requester else None
        stored = (await fetch_summaries(self.pool, (room_id,))).get(room_id)
        if not is_followed(stored):
            described = await self.outside.describe(room_id, via, asker)
            stored = described.summary if described is not None else stored
        # "NOT … divulge existence of a room": MSC3266
        if stored is None or not is_visible(stored, memberships):
            raise NotFound("Room not found, or closed to you")
        summary = room_summary(stored)
        if memberships is not None:
            summary["membership"] = memberships.get(room_id, "leave")
        return summary
