"""Which rooms of a user belong into a list. Source: MSC4186, "SlidingRoomFilter"."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from federation.event import JsonObject
from homeserver.errors import BadJson, InvalidParam

ELEMENTS_MAX = 200  # of a list in a filter
TEXT_BYTES_MAX = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRoom:
    """One of a user's rooms, as far as lists ask for it. `event_nid` is the current member event's number,
    `since` the position at which the membership took its present value.

    `kicked` tells who was removed, or banned, by somebody else after having been in the room. `inviter` is
    the sender of the member event of who is not in the room. `outside` if another server told of it, this
    node not being in the room.
    """

    nid: int
    room_id: str
    membership: str
    event_nid: int
    since: int
    forgotten: bool
    was_joined: bool
    kicked: bool
    inviter: str
    outside: bool
    encrypted: bool
    room_type: str | None
    name: str  # folded, empty where there is none or the user is not in the room


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFilter:
    """None in a field does not filter."""

    is_dm: bool | None = None
    is_encrypted: bool | None = None
    is_invited: bool | None = None
    spaces: frozenset[str] | None = None
    room_types: frozenset[str | None] | None = None
    not_room_types: frozenset[str | None] = frozenset()
    tags: frozenset[str] | None = None
    not_tags: frozenset[str] = frozenset()
    name_like: str = ""

    def matches(
        self, room: ListedRoom, *, is_dm: bool, tags: Collection[str], in_spaces: Collection[str]
    ) -> bool:
        """Whether a room passes; ``in_spaces`` are the ids of the rooms in `spaces`."""
        if self.is_dm is not None and self.is_dm != is_dm:
            return False
        if self.is_encrypted is not None and self.is_encrypted != room.encrypted:
            return False
        if self.is_invited is not None and self.is_invited != (room.membership == "invite"):
            return False
        if self.room_types is not None and room.room_type not in self.room_types:
            return False
        # "If a type is in both room_types and not_room_types, then not_room_types wins"
        if self.not_room_types and room.room_type in self.not_room_types:
            return False
        if self.tags is not None and self.tags.isdisjoint(tags):
            return False
        if self.not_tags and not self.not_tags.isdisjoint(tags):
            return False
        if self.spaces is not None and room.room_id not in in_spaces:
            return False
        return not self.name_like or self.name_like in room.name


NO_FILTER = ListFilter()


def parse_filter(body: JsonObject) -> ListFilter:
    """Read the filters of a list, in either dialect. Raises BadJson, InvalidParam."""
    name_like = body.get("room_name_like")
    if name_like is not None and not isinstance(name_like, str):
        raise BadJson("room_name_like must be a string")
    is_invited = _flag(body, "is_invited")
    return ListFilter(
        is_dm=_flag(body, "is_dm"),
        is_encrypted=_flag(body, "is_encrypted"),
        is_invited=is_invited if is_invited is not None else _flag(body, "is_invite"),
        spaces=_strings(body, "spaces"),
        room_types=_types(body, "room_types"),
        not_room_types=_types(body, "not_room_types") or frozenset(),
        tags=_strings(body, "tags"),
        not_tags=_strings(body, "not_tags") or frozenset(),
        name_like=(name_like or "").casefold()[:TEXT_BYTES_MAX],
    )


def _flag(body: JsonObject, name: str) -> bool | None:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadJson(f"{name} must be true or false")
    return value


def _strings(body: JsonObject, name: str) -> frozenset[str] | None:
    found = _types(body, name)
    if found is None:
        return None
    if None in found:
        raise BadJson(f"{name} must be a list of strings")
    return frozenset(each for each in found if each is not None)


def _types(body: JsonObject, name: str) -> frozenset[str | None] | None:
    """Strings, or null for rooms without a type."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(each is None or isinstance(each, str) for each in value):
        raise BadJson(f"{name} must be a list of strings")
    if len(value) > ELEMENTS_MAX:
        raise InvalidParam(f"{name} may have {ELEMENTS_MAX} elements at most")
    return frozenset(value)
