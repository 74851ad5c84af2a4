"""What a new room's first events hold. Pure. Source: Client-Server API, `createRoom`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from federation.errors import BadIdentifier
from federation.event import JsonObject
from federation.identifiers import split_user_id
from federation.power_levels import LEVEL_DEFAULTS
from federation.room_versions import RoomVersion
from homeserver.errors import BadJson
from homeserver.rooms.creation_request import CreationRequest, Preset

TOMBSTONE = "m.room.tombstone"
OVERWRITTEN = frozenset({"creator", "room_version"})  # "The server will overwrite the following keys"
ADMIN_LEVEL = 100
TOMBSTONE_LEVEL = 150  # where creators stand above all levels
ADDITIONAL_CREATORS_MAX = 100

EVENT_LEVELS: Mapping[str, int] = MappingProxyType({
    "m.room.name": 50, "m.room.avatar": 50, "m.room.canonical_alias": 50, "m.room.power_levels": 100,
    "m.room.history_visibility": 100, "m.room.encryption": 100, "m.room.server_acl": 100,
    TOMBSTONE: 100,
})  # fmt: skip
"""The levels that clients show for a new room: what cannot be undone takes an administrator."""

# Preset to join rule, history visibility, guest access
PRESETS: Mapping[Preset, tuple[str, str, str]] = MappingProxyType({
    "private_chat": ("invite", "shared", "can_join"),
    "trusted_private_chat": ("invite", "shared", "can_join"),
    "public_chat": ("public", "shared", "forbidden"),
})  # fmt: skip


def create_content(
    request: CreationRequest, version: RoomVersion, creator: str, invitees: Sequence[str]
) -> JsonObject:
    """The content of `m.room.create`. Raises BadJson."""
    given = request.creation_content or {}
    content: JsonObject = {key: value for key, value in given.items() if key not in OVERWRITTEN}
    content["room_version"] = version.id
    if version.creator_in_content:
        content["creator"] = creator
    if not isinstance(content.get("m.federate", True), bool):
        raise BadJson("'m.federate' must be true or false")
    if not isinstance(content.get("type", ""), str):
        raise BadJson("The room's type must be a string")
    if version.privileged_creators:
        named = content.get("additional_creators", [])
        check_additional_creators(named)
        if request.effective_preset == "trusted_private_chat":
            named = [*named, *invitees]
        additional = [user_id for user_id in dict.fromkeys(named) if user_id != creator]
        content.pop("additional_creators", None)
        if additional:
            content["additional_creators"] = additional
    return content


def check_additional_creators(creators: Any) -> None:
    """Raise BadJson unless this is a list of user ids."""
    if not isinstance(creators, list) or len(creators) > ADDITIONAL_CREATORS_MAX:
        raise BadJson(f"'additional_creators' must be a list of at most {ADDITIONAL_CREATORS_MAX} user ids")
    for creator in creators:
        try:
            split_user_id(creator if isinstance(creator, str) else "")
        except BadIdentifier as cause:
            raise BadJson("'additional_creators' holds something that is no user id") from cause


def initial_power_levels(
    request: CreationRequest, version: RoomVersion, creator: str, invitees: Collection[str]
) -> JsonObject:
    """The content of `m.room.power_levels`: the default, and what the client wants instead."""
    users: dict[str, int] = {}
    if not version.privileged_creators:
        users[creator] = ADMIN_LEVEL
        if request.effective_preset == "trusted_private_chat":
            users |= dict.fromkeys(invitees, ADMIN_LEVEL)
    content: JsonObject = {
        **LEVEL_DEFAULTS,
        # Everybody in a private room may bring others.
        "invite": LEVEL_DEFAULTS["state_default"] if request.effective_preset == "public_chat" else 0,
        "users": users,
        "events": dict(EVENT_LEVELS),
    }
    if version.privileged_creators:
        del content["events"][TOMBSTONE]
    content |= request.power_level_content_override or {}
    if version.privileged_creators:
        raise_tombstone_level(content)
    return content


def raise_tombstone_level(content: JsonObject) -> None:
    """Give `m.room.tombstone` a level above `state_default` in power levels that name none.

    "If the room's version is 12 or higher, the power level for sending m.room.tombstone events MUST
    explicitly be higher than state_default."
    """
    events, state_default = content.get("events"), content.get("state_default")
    if isinstance(events, dict) and TOMBSTONE not in events:
        floor = state_default if type(state_default) is int else LEVEL_DEFAULTS["state_default"]
        content["events"] = {**events, TOMBSTONE: max(TOMBSTONE_LEVEL, floor + 1)}


def preset_state(preset: Preset) -> dict[str, JsonObject]:
    """Event type to content of what a preset sets."""
    join_rule, history_visibility, guest_access = PRESETS[preset]
    state: dict[str, JsonObject] = {
        "m.room.join_rules": {"join_rule": join_rule},
        "m.room.history_visibility": {"history_visibility": history_visibility},
    }
    if guest_access != "forbidden":  # which is what holds without an event
        state["m.room.guest_access"] = {"guest_access": guest_access}
    return state


def topic_content(topic: str) -> JsonObject:
    """The content of `m.room.topic`, with the form that has a media type (v1.15)."""
    return {"topic": topic, "m.topic": {"m.text": [{"mimetype": "text/plain", "body": topic}]}}
