"""What the push rule endpoints do, as functions from rule set to rule set.

Source: ``pushrules.yaml``; each function names its operation. ``kind`` and ``rule_id`` are the
path's; a request that changes nothing returns the very rule set it was given, so that the caller
can leave out the write and the ``m.push_rules`` update. Errors: NotFound for a rule that does not
exist, and what `validation` raises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from federation.event import JsonObject
from homeserver.errors import InvalidParam, NotFound, TooLarge, Unknown
from homeserver.push_rules.default_rules import default_rule, for_user
from homeserver.push_rules.rule_set import DefaultChange, RuleSet
from homeserver.push_rules.rules import PushRule, RuleKind
from homeserver.push_rules.validation import (
    RULE_ID_LENGTH_MAX,
    check_own_rule_id,
    parse_actions,
    parse_conditions,
    parse_enabled,
    parse_kind,
    parse_pattern,
)

OWN_RULES_MAX = 1000  # of one user, all kinds together
OWN_CONDITIONS_MAX = 2000  # of one user, all rules together


def get_rule(rule_set: RuleSet, user_id: str, kind: str, rule_id: str) -> JsonObject:
    """`getPushRule`."""
    parsed_kind = parse_kind(kind)
    return for_user(_find(rule_set, parsed_kind, rule_id), user_id).to_api(parsed_kind)


def get_enabled(rule_set: RuleSet, kind: str, rule_id: str) -> JsonObject:
    """`isPushRuleEnabled`."""
    return {"enabled": _find(rule_set, parse_kind(kind), rule_id).enabled}


def get_actions(rule_set: RuleSet, kind: str, rule_id: str) -> JsonObject:
    """`getPushRuleActions`."""
    return {"actions": list(_find(rule_set, parse_kind(kind), rule_id).actions)}


def put_rule(
    rule_set: RuleSet,
    kind: str,
    rule_id: str,
    body: Any,
    *,
    before: str | None = None,
    after: str | None = None,
) -> RuleSet:
    """`setPushRule`: add a rule of the user's, or change and perhaps move it.

    Raises Unknown (400) where ``before`` or ``after`` is no rule of the user's of this kind, and
    TooLarge beyond OWN_RULES_MAX or OWN_CONDITIONS_MAX.
    """
    parsed_kind = parse_kind(kind)
    check_own_rule_id(rule_id)
    actions = parse_actions(body)  # which checks that the body is an object
    conditions = parse_conditions(body) if parsed_kind.has_conditions else ()
    pattern = parse_pattern(body) if parsed_kind is RuleKind.CONTENT else ""

    rules = list(rule_set.own_rules(parsed_kind))
    position = next((n for n, rule in enumerate(rules) if rule.rule_id == rule_id), None)
    if position is None:
        # "When creating push rules, they MUST be enabled by default." And without before or after,
        # "it should be added as the most important user defined rule among rules of the same kind".
        rule = PushRule(rule_id=rule_id, actions=actions, conditions=conditions, pattern=pattern)
        position = 0
    else:
        rule = replace(rules.pop(position), actions=actions, conditions=conditions, pattern=pattern)
    # "If both after and before are provided, the new or updated rule must be the next most
    # important rule with respect to the rule identified by before."
    if before is not None:
        position = _position_beside(rules, before)
    elif after is not None:
        position = _position_beside(rules, after) + 1
    rules.insert(position, rule)
    changed = _with_own_rules(rule_set, parsed_kind, rules)
    _check_totals(changed)
    return changed


def delete_rule(rule_set: RuleSet, kind: str, rule_id: str) -> RuleSet:
    """`deletePushRule`. A default rule cannot be deleted: InvalidParam."""
    parsed_kind = parse_kind(kind)
    if _find(rule_set, parsed_kind, rule_id).default:
        raise InvalidParam("A default rule of the server cannot be deleted: disable it instead")
    kept = [rule for rule in rule_set.own_rules(parsed_kind) if rule.rule_id != rule_id]
    return _with_own_rules(rule_set, parsed_kind, kept)


def set_enabled(rule_set: RuleSet, kind: str, rule_id: str, body: Any) -> RuleSet:
    """`setPushRuleEnabled`, for own and default rules."""
    enabled = parse_enabled(body)
    return _change(rule_set, parse_kind(kind), rule_id, lambda rule: replace(rule, enabled=enabled))


def set_actions(rule_set: RuleSet, kind: str, rule_id: str, body: Any) -> RuleSet:
    """`setPushRuleActions`, for own and default rules."""
    actions = parse_actions(body)
    return _change(rule_set, parse_kind(kind), rule_id, lambda rule: replace(rule, actions=actions))


def copy_room_rules(rule_set: RuleSet, old_room_id: str, new_room_id: str) -> RuleSet:
    """Give a room's successor the rules that the user set for the room (Room Upgrades).

    Copied are the room rule, and override and underride rules with an ``event_match`` of the old
    room's id, each just before the one it is copied from; what already exists is left alone, and
    nothing is copied that would exceed the bounds.
    """
    result = rule_set
    for kind in (RuleKind.OVERRIDE, RuleKind.ROOM, RuleKind.UNDERRIDE):
        rules = list(rule_set.own_rules(kind))
        taken = {rule.rule_id for rule in rules}
        copied: list[PushRule] = []
        for rule in rules:
            successor = _for_successor(rule, kind, old_room_id, new_room_id)
            if successor and successor.rule_id not in taken and len(successor.rule_id) <= RULE_ID_LENGTH_MAX:
                taken.add(successor.rule_id)
                copied.append(successor)
            copied.append(rule)
        result = _with_own_rules(result, kind, copied)
    try:
        _check_totals(result)
    except TooLarge:
        return rule_set
    return result


def _for_successor(rule: PushRule, kind: RuleKind, old_room_id: str, new_room_id: str) -> PushRule | None:
    if kind is RuleKind.ROOM:
        return replace(rule, rule_id=new_room_id) if rule.rule_id == old_room_id else None
    old: JsonObject = {"kind": "event_match", "key": "room_id", "pattern": old_room_id}
    if old not in rule.conditions:
        return None
    # Clients name such a rule after its room; another name gets the new room's id added.
    if old_room_id in rule.rule_id:
        rule_id = rule.rule_id.replace(old_room_id, new_room_id)
    else:
        rule_id = f"{rule.rule_id} {new_room_id}"
    new = {**old, "pattern": new_room_id}
    moved = tuple(new if condition == old else condition for condition in rule.conditions)
    return replace(rule, rule_id=rule_id, conditions=moved)


def _find(rule_set: RuleSet, kind: RuleKind, rule_id: str) -> PushRule:
    for rule in rule_set.rules(kind):
        if rule.rule_id == rule_id:
            return rule
    raise NotFound("The push rule was not found.")


def _position_beside(rules: list[PushRule], rule_id: str) -> int:
    for position, rule in enumerate(rules):
        if rule.rule_id == rule_id:
            return position
    # The status and code of the specification's example. "It is not possible to add a rule relative
    # to a predefined server rule", so those are not found either.
    raise Unknown("before/after rule not found: it must be one of your own rules of the same kind")


def _change(rule_set: RuleSet, kind: RuleKind, rule_id: str, edit: Callable[[PushRule], PushRule]) -> RuleSet:
    rule = _find(rule_set, kind, rule_id)
    edited = edit(rule)
    shipped = default_rule(kind, rule_id)
    if shipped is None:
        own = [edited if each is rule else each for each in rule_set.own_rules(kind)]
        return _with_own_rules(rule_set, kind, own)
    change = DefaultChange(
        enabled=None if edited.enabled == shipped.enabled else edited.enabled,
        actions=None if _same(edited.actions, shipped.actions) else edited.actions,
    )
    changed = dict(rule_set.changed)
    if change == DefaultChange():
        changed.pop(rule_id, None)
    else:
        changed[rule_id] = change
    return rule_set if _same(changed, dict(rule_set.changed)) else replace(rule_set, changed=changed)


def _with_own_rules(rule_set: RuleSet, kind: RuleKind, rules: list[PushRule]) -> RuleSet:
    if _same(tuple(rules), rule_set.own_rules(kind)):
        return rule_set
    custom = dict(rule_set.custom)
    if rules:
        custom[kind] = tuple(rules)
    else:
        custom.pop(kind, None)
    return replace(rule_set, custom=custom)


def _same(left: object, right: object) -> bool:
    # Plain equality would take a tweak's true for 1.
    return left == right and repr(left) == repr(right)


def _check_totals(rule_set: RuleSet) -> None:
    own = [rule for rules in rule_set.custom.values() for rule in rules]
    if len(own) > OWN_RULES_MAX:
        raise TooLarge(f"A user has at most {OWN_RULES_MAX} own push rules: delete some first")
    if sum(len(rule.conditions) for rule in own) > OWN_CONDITIONS_MAX:
        raise TooLarge(f"A user's push rules have at most {OWN_CONDITIONS_MAX} conditions: delete some first")
