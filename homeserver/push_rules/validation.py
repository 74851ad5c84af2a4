"""What a client may store in a push rule, bounded.

Source: ``pushrules.yaml``, ``push_condition.yaml``; Push Notifications, "Actions", "Conditions".
Raises BadJson for a wrong type, MissingParam for a missing field, InvalidParam for a bad value.
"""

from __future__ import annotations

import json
import re
from typing import Any

from federation.event import JsonObject
from homeserver.errors import BadJson, InvalidParam, MissingParam
from homeserver.push_rules.rules import Action, RuleKind

RULE_ID_LENGTH_MAX = 255
ACTIONS_MAX = 16
CONDITIONS_MAX = 16  # of one rule
PATTERN_LENGTH_MAX = 512
OBJECT_BYTES_MAX = 2048  # one action or condition: unknown ones are kept, so that only their size is bounded
INTEGER_MAX = 2**53 - 1  # Appendices, "Canonical JSON"

HISTORICAL_ACTIONS = ("dont_notify", "coalesce")

MEMBER_COUNT = re.compile(r"(==|<=|>=|<|>)?([0-9]{1,10})", re.ASCII)

_KINDS_WITH_KEY = frozenset(
    {"event_match", "event_property_is", "event_property_contains", "sender_notification_permission"}
)
_FORBIDDEN_IN_RULE_ID = re.compile(r"[/\\\x00-\x1f\x7f]")


def parse_kind(kind: str) -> RuleKind:
    """Raises InvalidParam for anything but the five kinds."""
    try:
        return RuleKind(kind)
    except ValueError as cause:
        raise InvalidParam(f"No such kind of push rule: use one of {', '.join(RuleKind)}") from cause


def check_own_rule_id(rule_id: str) -> None:
    """Whether a user may give a rule this id; raises InvalidParam.

    "If the string starts with a dot ("."), the request MUST be rejected as this is reserved for
    server-default rules. Slashes ("/") and backslashes are also not allowed." The id of a room or
    sender rule is not held to be a room or user id: the specification's own example has an alias
    there, and such a rule merely never matches.
    """
    if not rule_id:
        raise InvalidParam("The rule id is empty")
    if len(rule_id) > RULE_ID_LENGTH_MAX:
        raise InvalidParam(f"The rule id is longer than {RULE_ID_LENGTH_MAX} characters")
    if rule_id.startswith("."):
        raise InvalidParam("Rule ids that start with a dot are reserved for the server's default rules")
    if _FORBIDDEN_IN_RULE_ID.search(rule_id):
        raise InvalidParam("A rule id may hold no slash, backslash or control character")


def parse_enabled(body: Any) -> bool:
    """The body of `setPushRuleEnabled`."""
    enabled = _field(_object(body, "The body"), "enabled")
    if not isinstance(enabled, bool):
        raise BadJson("enabled must be true or false")
    return enabled


def parse_actions(body: Any) -> tuple[Action, ...]:
    """The ``actions`` of a rule's body, without historical ones.

    "Clients and homeservers MUST ignore these actions, for instance, by stripping them from
    actions arrays they encounter."
    """
    actions = _field(_object(body, "The body"), "actions")
    if not isinstance(actions, list):
        raise BadJson("actions must be a list")
    if len(actions) > ACTIONS_MAX:
        raise InvalidParam(f"A rule has at most {ACTIONS_MAX} actions")
    return tuple(_action(action) for action in actions if action not in HISTORICAL_ACTIONS)


def _action(action: Any) -> Action:
    if isinstance(action, str):
        if action == "notify":
            return action
        raise InvalidParam('Unknown action: use "notify", or an object with set_tweak')
    tweak = _object(action, "An action that is no string")
    if "set_tweak" not in tweak:
        raise InvalidParam('Unknown action: use "notify", or an object with set_tweak')
    if not isinstance(tweak["set_tweak"], str):
        raise BadJson("set_tweak must be a string, the name of the tweak")
    _check_size(tweak, "An action")
    return tweak


def parse_pattern(body: JsonObject) -> str:
    """The ``pattern`` of a content rule."""
    return _pattern(body, "A content rule")


def parse_conditions(body: JsonObject) -> tuple[JsonObject, ...]:
    """The ``conditions`` of an override or underride rule; they may be left out.

    Conditions of a kind that the specification does not know are kept as they are, and never match.
    """
    conditions = body.get("conditions", [])
    if not isinstance(conditions, list):
        raise BadJson("conditions must be a list")
    if len(conditions) > CONDITIONS_MAX:
        raise InvalidParam(f"A rule has at most {CONDITIONS_MAX} conditions")
    for condition in conditions:
        _check_condition(condition)
    return tuple(conditions)


def _check_condition(given: Any) -> None:
    condition = _object(given, "A condition")
    kind = _field(condition, "kind", "A condition")
    if not isinstance(kind, str):
        raise BadJson("The kind of a condition must be a string")
    _check_size(condition, "A condition")
    if kind in _KINDS_WITH_KEY and not isinstance(_field(condition, "key", kind), str):
        raise BadJson(f"The key of {kind} must be a string")
    if kind == "event_match":
        _pattern(condition, kind)
    elif kind in ("event_property_is", "event_property_contains"):
        if not is_plain_value(_field(condition, "value", kind)):
            raise InvalidParam(f"The value of {kind} must be a string, an integer, a boolean or null")
    elif kind == "room_member_count":
        comparison = _field(condition, "is", kind)
        if not isinstance(comparison, str):
            raise BadJson("The is of room_member_count must be a string")
        if not MEMBER_COUNT.fullmatch(comparison):
            raise InvalidParam("The is of room_member_count must be a number, perhaps after ==, <, >, <=, >=")


def is_plain_value(value: Any) -> bool:
    """Whether this is a "non-compound canonical JSON value"."""
    if isinstance(value, int) and not isinstance(value, bool):
        return -INTEGER_MAX <= value <= INTEGER_MAX
    return value is None or isinstance(value, bool | str)


def _pattern(holder: JsonObject, owner: str) -> str:
    pattern = _field(holder, "pattern", owner)
    if not isinstance(pattern, str):
        raise BadJson("A pattern must be a string")
    if len(pattern) > PATTERN_LENGTH_MAX:
        raise InvalidParam(f"A pattern has at most {PATTERN_LENGTH_MAX} characters")
    return pattern


def _object(value: Any, what: str) -> JsonObject:
    if not isinstance(value, dict):
        raise BadJson(f"{what} must be a JSON object")
    return value


def _field(holder: JsonObject, name: str, owner: str = "The body") -> Any:
    if name not in holder:
        raise MissingParam(f"{owner} needs the field {name}")
    return holder[name]


def _check_size(value: JsonObject, what: str) -> None:
    if len(json.dumps(value)) > OBJECT_BYTES_MAX:
        raise InvalidParam(f"{what} is larger than {OBJECT_BYTES_MAX} bytes")
