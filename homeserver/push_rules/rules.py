"""One push rule, and the kinds of rules in the order in which they are checked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from federation.event import JsonObject

Action = str | JsonObject


class RuleKind(StrEnum):
    """Source: Push Notifications, "Push Rules"; the members stand in the order of the checks."""

    OVERRIDE = "override"
    CONTENT = "content"
    ROOM = "room"
    SENDER = "sender"
    UNDERRIDE = "underride"

    @property
    def has_conditions(self) -> bool:
        return self is RuleKind.OVERRIDE or self is RuleKind.UNDERRIDE


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRule:
    """A rule of a known kind. The JSON inside is shared, never changed.

    ``conditions`` counts for override and underride rules, ``pattern`` for content rules; a room
    or sender rule is conditioned by its ``rule_id``.
    """

    rule_id: str
    actions: tuple[Action, ...]
    enabled: bool = True
    default: bool = False
    conditions: tuple[JsonObject, ...] = ()
    pattern: str = ""

    @property
    def notifies(self) -> bool:
        return "notify" in self.actions

    def to_api(self, kind: RuleKind) -> JsonObject:
        """The rule as clients see it. Source: ``definitions/push_rule.yaml``."""
        shown: JsonObject = {
            "rule_id": self.rule_id,
            "default": self.default,
            "enabled": self.enabled,
            "actions": list(self.actions),
        }
        if kind.has_conditions:
            shown["conditions"] = list(self.conditions)
        elif kind is RuleKind.CONTENT:
            shown["pattern"] = self.pattern
        return shown
