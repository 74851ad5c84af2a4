"""Which state of a room a client wants to have, and what of it is in a room.

Source: MSC4186, "RequiredStateRequest", "Combining required_state", "Lazy loaded memberships".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from federation.event import JsonObject
from homeserver.errors import BadJson, InvalidParam
from homeserver.rooms.event import Event
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.snapshot_reader import durable_event

ELEMENTS_MAX = 500  # of one request for state
TEXT_BYTES_MAX = 255  # of a type or a state key

StateKey = tuple[str, str]
Element = tuple[str | None, str | None]  # type and state key; None matches all


@dataclass(frozen=True, slots=True)
class RequiredState:
    """One list's or subscription's wish, `$ME` being replaced. Members that `lazy_members` may load later
    are matched only where they are named."""

    include: frozenset[Element] = frozenset()
    exclude: frozenset[Element] = frozenset()
    lazy_members: bool = False

    def matches(self, key: StateKey) -> bool:
        """Whether a piece of state is wanted, whoever sent what."""
        type, state_key = key
        include = self.include
        found = key in include or (None, state_key) in include
        if not found and not (self.lazy_members and type == MEMBER):
            found = (type, None) in include or (None, None) in include
        return found and not (self.exclude and _matches_any(self.exclude, key))

    @property
    def names_all(self) -> bool:
        """Whether every piece that can match is named, so that it can be looked up."""
        return all(type is not None and state_key is not None for type, state_key in self.include)

    @property
    def includes_all_members(self) -> bool:
        """Whether all member events match."""
        return not self.lazy_members and self.matches((MEMBER, "@nobody"))


@dataclass(frozen=True, slots=True)
class Selection:
    """What the rules that a room matches want together: the most events, and any state that one of them has.

    "The combined config has `lazy_members` set to true if and only if a) any of the configs have
    `lazy_members` set to true AND b) there are no configs that return all membership events".
    """

    timeline_limit: int
    wishes: tuple[RequiredState, ...]
    lazy_members: bool = field(init=False)
    named: tuple[StateKey, ...] | None = field(init=False)  # all that can match, or None

    def __post_init__(self) -> None:
        lazy = any(wish.lazy_members for wish in self.wishes) and not any(
            wish.includes_all_members for wish in self.wishes
        )
        object.__setattr__(self, "lazy_members", lazy)
        named: tuple[StateKey, ...] | None = None
        if all(wish.names_all for wish in self.wishes):
            elements = dict.fromkeys(element for wish in self.wishes for element in wish.include)
            keys = ((type or "", state_key or "") for type, state_key in elements)
            named = tuple(key for key in keys if self.matches(key))
        object.__setattr__(self, "named", named)

    def matches(self, key: StateKey) -> bool:
        """Whether any of the rules wants a piece of state."""
        return any(wish.matches(key) for wish in self.wishes)

    def select(self, room: Room, position: int) -> dict[StateKey, Event]:
        """What there is in the room, `position` being the log's."""
        found: dict[StateKey, Event] = {}
        for key in self.named if self.named is not None else filter(self.matches, list(room.state)):
            event = durable_event(room, key, position)
            if event is not None:
                found[key] = event
        return found

    def to_json(self) -> JsonObject:
        """For storage."""
        return {
            "limit": self.timeline_limit,
            "wishes": [[list(wish.include), list(wish.exclude), wish.lazy_members] for wish in self.wishes],
        }

    @classmethod
    def of_json(cls, stored: JsonObject) -> Selection:
        """As stored."""
        wishes = (
            RequiredState(
                frozenset((type, key) for type, key in include),
                frozenset((type, key) for type, key in exclude),
                lazy,
            )
            for include, exclude, lazy in stored["wishes"]
        )
        return cls(stored["limit"], tuple(wishes))


def combine(configs: Iterable[Selection]) -> Selection:
    """The superset of what several rules want. Source: MSC4186, "Combining room configs".

    Those that exclude nothing become one, but for lazy members, so that asking costs little.
    """
    distinct = dict.fromkeys(configs)
    if len(distinct) == 1:
        return next(iter(distinct))
    wishes = dict.fromkeys(wish for config in distinct for wish in config.wishes)
    combined = [wish for wish in wishes if wish.exclude]
    for lazy in (False, True):
        plain = [wish.include for wish in wishes if wish.lazy_members is lazy and not wish.exclude]
        if plain:
            combined.append(RequiredState(frozenset().union(*plain), frozenset(), lazy))
    return Selection(max(config.timeline_limit for config in distinct), tuple(combined))


def parse_required_state(value: object, user_id: str) -> RequiredState:
    """The stable form. Raises BadJson, InvalidParam."""
    if not isinstance(value, dict):
        raise BadJson("required_state must be an object with include, exclude and lazy_members")
    lazy = value.get("lazy_members", False)
    if not isinstance(lazy, bool):
        raise BadJson("lazy_members must be true or false")
    include, exclude = (_elements(value.get(name), user_id) for name in ("include", "exclude"))
    return RequiredState(include, exclude, lazy)


def parse_required_pairs(value: object, user_id: str) -> RequiredState:
    """The form that clients send under the unstable path: pairs of type and state key, with `*` for all,
    `$ME` for the user's own, and `$LAZY` for members as they are needed. Raises BadJson, InvalidParam."""
    if not isinstance(value, list):
        raise BadJson("required_state must be a list of pairs: type and state key")
    if len(value) > ELEMENTS_MAX:
        raise InvalidParam(f"required_state may have {ELEMENTS_MAX} elements at most")
    include: set[Element] = set()
    lazy = False
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadJson("Each element of required_state must be a pair: type and state key")
        type, state_key = (_text(part) for part in pair)
        if state_key == "$LAZY":
            lazy = lazy or type == MEMBER
            continue
        key = user_id if state_key == "$ME" else state_key
        include.add((None if type == "*" else type, None if key == "*" else key))
    return RequiredState(frozenset(include), frozenset(), lazy)


def _elements(value: object, user_id: str) -> frozenset[Element]:
    if value is None:
        return frozenset()
    if not isinstance(value, list):
        raise BadJson("include and exclude must be lists")
    if len(value) > ELEMENTS_MAX:
        raise InvalidParam(f"include and exclude may have {ELEMENTS_MAX} elements at most")
    return frozenset(_element(element, user_id) for element in value)


def _element(value: object, user_id: str) -> Element:
    if not isinstance(value, dict):
        raise BadJson("Each element of required_state must be an object")
    type, state_key = (
        _text(value[name]) if value.get(name) is not None else None for name in ("type", "state_key")
    )
    return type, user_id if state_key == "$ME" else state_key


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise BadJson("Types and state keys in required_state must be strings")
    if len(value.encode(errors="replace")) > TEXT_BYTES_MAX:
        raise InvalidParam(f"Types and state keys have {TEXT_BYTES_MAX} bytes at most")
    return value


def _matches_any(elements: frozenset[Element], key: StateKey) -> bool:
    type, state_key = key
    return (
        key in elements
        or (type, None) in elements
        or (None, state_key) in elements
        or (None, None) in elements
    )
