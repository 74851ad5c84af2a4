"""What the successor of a room begins with. Pure. Source: Client-Server API, "Room Upgrades"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from federation.event import JsonObject
from federation.power_levels import CREATOR_POWER, LEVEL_DEFAULTS, PowerLevels, parse_level
from federation.room_versions import RoomVersion
from homeserver.rooms.draft import Draft
from homeserver.rooms.initial_state import ADMIN_LEVEL, TOMBSTONE, TOMBSTONE_LEVEL
from homeserver.rooms.room import MEMBER, Room

POWER_LEVELS = "m.room.power_levels"
JOIN_RULES = "m.room.join_rules"
GUEST_ACCESS = "m.room.guest_access"

# "the recommended state events to transfer", power levels aside, and the canonical alias, since the
# aliases move too; an encrypted room never has a moment without encryption.
COPIED = (
    "m.room.encryption", JOIN_RULES, "m.room.history_visibility", GUEST_ACCESS,
    "m.room.server_acl", "m.room.name", "m.room.topic", "m.room.avatar", "m.room.canonical_alias",
)  # fmt: skip
# A space keeps its rooms, and a room its place in a space.
COPIED_OF_SPACES = ("m.space.child", "m.space.parent")
LEVELS_BY_NAME = ("events", "notifications")


def successor_create_content(
    old: Room, version: RoomVersion, creator: str, additional_creators: Sequence[str], last_event_id: str
) -> JsonObject:
    """The content of the successor's `m.room.create`.

    ``last_event_id`` is that of the tombstone where it can be known, to which older clients jump from here.
    """
    content: JsonObject = {
        "room_version": version.id,
        "predecessor": {"room_id": old.room_id, "event_id": last_event_id},
    }
    old_create = old.content_of("m.room.create")
    content |= {key: old_create[key] for key in ("type", "m.federate") if key in old_create}
    if version.creator_in_content:
        content["creator"] = creator
    if version.privileged_creators:
        additional = [user_id for user_id in dict.fromkeys(additional_creators) if user_id != creator]
        if additional:
            content["additional_creators"] = additional
    return content


def successor_power_levels(
    old: Room, version: RoomVersion, creator: str, additional_creators: Sequence[str]
) -> JsonObject:
    """The old room's power levels, as the successor's version can hold them.

    Where creators stand above all levels they have none of their own; where they do not, those who
    stood so in the old room become administrators.
    """
    levels = old.power_levels
    content: JsonObject = {name: getattr(levels, name) for name in LEVEL_DEFAULTS}
    given = old.content_of(POWER_LEVELS)
    for name in LEVELS_BY_NAME:
        listed = given.get(name)
        entries = listed.items() if isinstance(listed, dict) else ()
        content[name] = {
            key: level for key, value in entries if (level := parse_level(value, old.version)) is not None
        }
    if not content["notifications"]:
        del content["notifications"]
    users = {
        user_id: ADMIN_LEVEL if level == CREATOR_POWER else level
        for user_id, level in levels.named_users().items()
    }
    if version.privileged_creators:
        users = {
            user_id: level
            for user_id, level in users.items()
            if user_id != creator and user_id not in additional_creators
        }
        # "MUST explicitly be higher than state_default"
        floor = max(TOMBSTONE_LEVEL, content["state_default"] + 1)
        if (
            content["events"].get(TOMBSTONE, 0) <= content["state_default"]
            or not old.version.privileged_creators
        ):
            content["events"][TOMBSTONE] = floor
    content["users"] = users
    return content


def _highest_level(content: JsonObject) -> int:
    levels: list[int] = [content[name] for name in LEVEL_DEFAULTS]
    levels += [*content["users"].values(), *content["events"].values()]
    return max(ADMIN_LEVEL, *levels)


def enabling_power_levels(content: JsonObject, version: RoomVersion, creator: str) -> JsonObject:
    """`content`, with power for the creator to set everything else; to be replaced by it afterwards."""
    if version.privileged_creators:
        return content
    return {**content, "users": {**content["users"], creator: _highest_level(content) + 1}}


def copied_state(old: Room, version: RoomVersion, creator: str) -> Iterator[Draft]:
    """State that the successor takes over."""
    for event_type in COPIED:
        event = old.state_event(event_type)
        if event is not None:
            content = event.content
            if event_type == JOIN_RULES:
                content = _join_rules(content, version)
            yield Draft(sender=creator, type=event_type, state_key="", content=content)
        elif event_type == GUEST_ACCESS:  # what held without saying so is said from now on
            content = {"guest_access": "forbidden"}
            yield Draft(sender=creator, type=event_type, state_key="", content=content)
    for (event_type, state_key), event in old.state.items():
        if event_type in COPIED_OF_SPACES and event.content.get("via"):
            yield Draft(sender=creator, type=event_type, state_key=state_key, content=event.content)


def copied_bans(old: Room, creator: str) -> Iterator[Draft]:
    """Who is banned stays banned."""
    for user_id, event in old.members("ban"):
        reason = event.content.get("reason")
        content: JsonObject = {"membership": "ban"}
        if isinstance(reason, str):
            content["reason"] = reason
        if user_id != creator:
            yield Draft(sender=creator, type=MEMBER, state_key=user_id, content=content)


def _join_rules(content: JsonObject, version: RoomVersion) -> JsonObject:
    """Join rules for a version that may not know the old one's: then only invites let people in."""
    rule = content.get("join_rule")
    known = {
        "knock": version.knocking,
        "restricted": version.restricted_joins,
        "knock_restricted": version.knock_restricted,
    }
    return content if not isinstance(rule, str) or known.get(rule, True) else {"join_rule": "invite"}


def closing_power_levels(old: Room) -> JsonObject:
    """The old room's power levels, with nobody but moderators sending or inviting.

    "For example, setting events_default and invite to the greater of 50 and users_default + 1."
    """
    levels: PowerLevels = old.power_levels
    closed = max(50, levels.users_default + 1)
    content = dict(old.content_of(POWER_LEVELS))
    content["events_default"] = max(closed, levels.events_default)
    content["invite"] = max(closed, levels.invite)
    return content
