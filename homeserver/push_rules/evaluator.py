"""A rule set compiled once, so that evaluating one event for one user costs a few microseconds.

Most rules ask for one event type, room or sender. Those are taken out of the conditions and into
an index: for an event only the rules remain that could match it at all (a *plan*, made on first
use), and most plans hold a handful. All users with nothing but default rules share their plans.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from federation.event import JsonObject
from homeserver.property_paths import PropertyPath
from homeserver.push_rules.conditions import (
    Predicate,
    body_matches,
    compile_condition,
    literal_match,
    own_user_id_contained,
    own_user_id_matches,
)
from homeserver.push_rules.default_rules import DEFAULT_RULES, OWN_USER_ID
from homeserver.push_rules.event import PushContext, PushEvent
from homeserver.push_rules.prefilter import may_notify
from homeserver.push_rules.rule_set import NO_CHANGES, RuleSet
from homeserver.push_rules.rules import Action, PushRule, RuleKind

# What all the patterns of one user may cost at one event together, in steps (see `homeserver.globs`):
# some 30 ms for rules and an event made to be as slow as can be, and out of reach for any others.
PATTERN_STEPS_MAX = 200_000
PLANS_MAX = 256

_INDEXED: dict[PropertyPath, int] = {("type",): 0, ("room_id",): 1, ("sender",): 2}
IndexKey = tuple[str | None, str | None, str | None]  # type, room id, sender: lower case, None for any


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the rules say about one event for one user.

    ``highlight`` is never set without ``notify``; ``actions`` are those of the rule that matched.
    """

    notify: bool
    highlight: bool
    actions: tuple[Action, ...]

    @property
    def tweaks(self) -> JsonObject:
        """``tweaks`` of the request to the push gateway."""
        return {
            action["set_tweak"]: action.get("value", True if action["set_tweak"] == "highlight" else None)
            for action in self.actions
            if isinstance(action, dict) and "set_tweak" in action
        }


SILENT = Outcome(notify=False, highlight=False, actions=())


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """``index`` and ``predicates`` must all hold."""

    index: IndexKey
    predicates: tuple[Predicate, ...]
    outcome: Outcome


class CompiledRules:
    """Rules in the order of the checks, and the plans made of them so far."""

    __slots__ = ("rules", "_known", "_plans")

    def __init__(self, rules: tuple[CompiledRule, ...]) -> None:
        self.rules = rules
        self._known = tuple(frozenset(rule.index[n] for rule in rules) for n in range(3))
        self._plans: dict[IndexKey, tuple[CompiledRule, ...]] = {}

    def plan(self, event: PushEvent) -> tuple[CompiledRule, ...]:
        """The rules whose index admits the event, in order."""
        types, rooms, senders = self._known
        key = (
            event.type_lower if event.type_lower in types else None,
            event.room_id_lower if event.room_id_lower in rooms else None,
            event.sender_lower if event.sender_lower in senders else None,
        )
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            plan = tuple(
                rule
                for rule in self.rules
                if all(wanted in (None, given) for wanted, given in zip(rule.index, key, strict=True))
            )
            self._plans[key] = plan
        return plan


@dataclass(frozen=True, slots=True)
class Evaluator:
    """The rules of one user, ready to be asked."""

    user_id: str
    rules: CompiledRules
    needs_display_name: bool  # whether `PushContext.display_name` matters
    only_narrows: bool  # whether the user changed nothing that could notify where defaults would not

    def may_notify(self, event: PushEvent) -> bool:
        """False where no evaluation is needed: this user is not notified, in no circumstances."""
        return not self.only_narrows or may_notify(event)

    def evaluate(self, event: PushEvent, context: PushContext) -> Outcome:
        """The outcome of the first rule that matches; silence without any, and for own events."""
        user_id = self.user_id
        if event.sender == user_id:
            return SILENT
        for rule in self.rules.plan(event):
            for predicate in rule.predicates:
                if not predicate(event, context, user_id):
                    break
            else:
                return rule.outcome
        return SILENT


def compile_rules(rule_set: RuleSet, user_id: str) -> Evaluator:
    """Compile once, keep while the rule set is the same. Cheap for users with the defaults only."""
    if rule_set.is_default:
        return Evaluator(user_id, _default_rules(), needs_display_name=False, only_narrows=True)
    return Evaluator(
        user_id,
        CompiledRules(tuple(_compile_all(rule_set))),
        needs_display_name=any(
            condition.get("kind") == "contains_display_name"
            for kind in RuleKind
            for rule in rule_set.own_rules(kind)
            for condition in rule.conditions
        ),
        only_narrows=_only_narrows(rule_set),
    )


@cache
def _default_rules() -> CompiledRules:
    return CompiledRules(tuple(_compile_all(NO_CHANGES)))


def _compile_all(rule_set: RuleSet) -> Iterator[CompiledRule]:
    patterns_count = sum(_costly_patterns(rule) for kind in RuleKind for rule in rule_set.own_rules(kind))
    steps_max = PATTERN_STEPS_MAX // max(1, patterns_count)
    for kind in RuleKind:
        for rule in rule_set.rules(kind):
            if rule.enabled:
                compiled = _compile_rule(rule, kind, steps_max)
                if compiled is not None:
                    yield compiled


def _costly_patterns(rule: PushRule) -> int:
    if rule.pattern:
        return 1
    matches = [each for each in rule.conditions if each.get("kind") == "event_match"]
    return sum(literal_match(condition) is None for condition in matches)


def _compile_rule(rule: PushRule, kind: RuleKind, steps_max: int) -> CompiledRule | None:
    """None for a rule that can never match."""
    index: list[str | None] = [None, None, None]
    predicates: list[Predicate] = []
    if kind is RuleKind.CONTENT:
        predicates.append(body_matches(rule.pattern, steps_max=steps_max))
    elif kind is RuleKind.ROOM:
        index[1] = rule.rule_id.lower()
        predicates.append(lambda event, _context, _user_id: event.room_id == rule.rule_id)
    elif kind is RuleKind.SENDER:
        index[2] = rule.rule_id.lower()
        predicates.append(lambda event, _context, _user_id: event.sender == rule.rule_id)
    else:
        for condition in rule.conditions:
            predicate = _compile_own_user_id(condition) if rule.default else None
            predicate = predicate or compile_condition(condition, steps_max=steps_max)
            if predicate is None:
                return None
            literal = literal_match(condition)
            place = _INDEXED.get(literal[0]) if literal else None
            if literal and place is not None and index[place] is None:
                index[place] = literal[1]
            else:
                predicates.append(predicate)
    return CompiledRule((index[0], index[1], index[2]), tuple(predicates), _outcome(rule))


def _compile_own_user_id(condition: JsonObject) -> Predicate | None:
    if condition.get("pattern") == OWN_USER_ID:
        return own_user_id_matches(condition["key"])
    if condition.get("value") == OWN_USER_ID:
        return own_user_id_contained(condition["key"])
    return None


def _outcome(rule: PushRule) -> Outcome:
    if not rule.notifies:
        return Outcome(notify=False, highlight=False, actions=rule.actions)
    silent = Outcome(notify=True, highlight=False, actions=rule.actions)
    highlight: Any = silent.tweaks.get("highlight", False)
    return Outcome(notify=True, highlight=highlight is True, actions=rule.actions)


def _only_narrows(rule_set: RuleSet) -> bool:
    """Whether nothing that the user changed can notify of an event that the defaults pass over.

    Silent rules of the user's only take notifications away, and so does any change of a default
    rule that notifies. A default rule that is silent must stay so, and enabled where it was.
    """
    if any(rule.notifies for kind in RuleKind for rule in rule_set.own_rules(kind)):
        return False
    shipped = (rule for rules in DEFAULT_RULES.values() for rule in rules)
    for rule in shipped:
        change = rule_set.changed.get(rule.rule_id)
        if change is None or rule.notifies:
            continue
        now = change.apply(rule)
        if now.notifies or (rule.enabled and not now.enabled):
            return False
    return True
