"""Push rules: the server's defaults, a user's changes, and what they say about an event (see README.md)."""

from homeserver.push_rules.changes import (
    copy_room_rules,
    delete_rule,
    get_actions,
    get_enabled,
    get_rule,
    put_rule,
    set_actions,
    set_enabled,
)
from homeserver.push_rules.conditions import NOBODY
from homeserver.push_rules.evaluator import SILENT, Evaluator, Outcome, compile_rules
from homeserver.push_rules.event import PushContext, PushEvent
from homeserver.push_rules.prefilter import may_notify, singled_out_users
from homeserver.push_rules.rule_set import NO_CHANGES, RuleSet

__all__ = [
    "NOBODY",
    "NO_CHANGES",
    "SILENT",
    "Evaluator",
    "Outcome",
    "PushContext",
    "PushEvent",
    "RuleSet",
    "compile_rules",
    "copy_room_rules",
    "delete_rule",
    "get_actions",
    "get_enabled",
    "get_rule",
    "may_notify",
    "put_rule",
    "set_actions",
    "set_enabled",
    "singled_out_users",
]
