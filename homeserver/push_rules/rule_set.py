"""The push rules of one user: the server's defaults, what the user changed of them, and the user's own.

Stored is only what differs from the defaults, so that a user who never touched a rule costs
nothing, and a later specification's defaults reach everyone. The record, as JSON::

    {"custom": {"content": [{"rule_id": "tea", "pattern": "tea", "actions": ["notify"]}]},
     "changed": {".m.rule.master": {"enabled": true}}}

Lists stand in the order of importance, the most important rule first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from federation.event import JsonObject
from homeserver.push_rules.default_rules import DEFAULT_RULES, MASTER, for_user
from homeserver.push_rules.rules import Action, PushRule, RuleKind


@dataclass(frozen=True, slots=True)
class DefaultChange:
    """What a user changed of one default rule; None is unchanged."""

    enabled: bool | None = None
    actions: tuple[Action, ...] | None = None

    def apply(self, rule: PushRule) -> PushRule:
        return replace(
            rule,
            enabled=rule.enabled if self.enabled is None else self.enabled,
            actions=rule.actions if self.actions is None else self.actions,
        )


@dataclass(frozen=True, slots=True)
class RuleSet:
    """An immutable rule set; the functions of ``changes`` make new ones."""

    custom: Mapping[RuleKind, tuple[PushRule, ...]] = field(default_factory=dict)
    changed: Mapping[str, DefaultChange] = field(default_factory=dict)  # by id of the default rule

    @property
    def is_default(self) -> bool:
        return not self.custom and not self.changed

    def own_rules(self, kind: RuleKind) -> tuple[PushRule, ...]:
        """The user's own rules of a kind, the most important first."""
        return self.custom.get(kind, ())

    def default_rules(self, kind: RuleKind) -> Iterator[PushRule]:
        """The default rules with the user's changes, ``OWN_USER_ID`` still standing for the user."""
        for rule in DEFAULT_RULES[kind]:
            change = self.changed.get(rule.rule_id)
            yield change.apply(rule) if change else rule

    def rules(self, kind: RuleKind) -> Iterator[PushRule]:
        """All rules of a kind in the order of the checks.

        Defaults come after the user's rules, "except for the ``.m.rule.master`` rule which has
        always a higher priority than any other rule".
        """
        defaults = list(self.default_rules(kind))
        if defaults and defaults[0].rule_id == MASTER:
            yield defaults.pop(0)
        yield from self.own_rules(kind)
        yield from defaults

    def to_api(self, user_id: str) -> JsonObject:
        """``{"global": {"override": […], "content": […], …}}``: the answer of `getPushRules` and the
        content of ``m.push_rules``."""
        return {
            "global": {
                kind.value: [for_user(rule, user_id).to_api(kind) for rule in self.rules(kind)]
                for kind in RuleKind
            }
        }

    def to_record(self) -> JsonObject:
        """What to store, as JSON; `from_record` reads it back. Empty for a user with the defaults."""
        record: JsonObject = {}
        if self.custom:
            record["custom"] = {
                kind.value: [_rule_record(rule, kind) for rule in rules]
                for kind, rules in self.custom.items()
            }
        if self.changed:
            record["changed"] = {rule_id: _change_record(change) for rule_id, change in self.changed.items()}
        return record

    @classmethod
    def from_record(cls, record: JsonObject) -> RuleSet:
        """Read what `to_record` wrote. Raises KeyError, TypeError or ValueError on anything else.

        A change of a rule that is no default any more is kept, and has no effect.
        """
        custom = {
            RuleKind(kind): tuple(
                PushRule(
                    rule_id=rule["rule_id"],
                    actions=tuple(rule["actions"]),
                    enabled=rule.get("enabled", True),
                    conditions=tuple(rule.get("conditions", ())),
                    pattern=rule.get("pattern", ""),
                )
                for rule in rules
            )
            for kind, rules in record.get("custom", {}).items()
        }
        changed = {
            rule_id: DefaultChange(
                enabled=change.get("enabled"),
                actions=tuple(change["actions"]) if "actions" in change else None,
            )
            for rule_id, change in record.get("changed", {}).items()
        }
        return cls(custom, changed)


NO_CHANGES = RuleSet()


def _rule_record(rule: PushRule, kind: RuleKind) -> JsonObject:
    record = rule.to_api(kind)
    del record["default"]
    if record["enabled"]:
        del record["enabled"]
    return record


def _change_record(change: DefaultChange) -> JsonObject:
    record: JsonObject = {}
    if change.enabled is not None:
        record["enabled"] = change.enabled
    if change.actions is not None:
        record["actions"] = list(change.actions)
    return record
