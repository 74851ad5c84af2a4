"""The server-default rules of Matrix v1.19, in their order.

Source: Push Notifications, "Predefined Rules". The definitions are the specification's, word for
word; two of them name the user, whose place ``OWN_USER_ID`` holds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from federation.event import JsonObject
from homeserver.push_rules.rules import Action, PushRule, RuleKind

MASTER = ".m.rule.master"
OWN_USER_ID = "[the user's Matrix ID]"

SOUND: Action = {"set_tweak": "sound", "value": "default"}
RING: Action = {"set_tweak": "sound", "value": "ring"}
HIGHLIGHT: Action = {"set_tweak": "highlight"}


def _event_match(key: str, pattern: str) -> JsonObject:
    return {"kind": "event_match", "key": key, "pattern": pattern}


def _property_is(key: str, value: Any) -> JsonObject:
    return {"kind": "event_property_is", "key": key, "value": value}


def _rule(
    rule_id: str, conditions: list[JsonObject], actions: list[Action], *, enabled: bool = True
) -> PushRule:
    return PushRule(
        rule_id=rule_id, conditions=tuple(conditions), actions=tuple(actions), enabled=enabled, default=True
    )


_TWO_MEMBERS: JsonObject = {"kind": "room_member_count", "is": "2"}

OVERRIDE_RULES = (
    _rule(MASTER, [], [], enabled=False),
    _rule(".m.rule.suppress_notices", [_event_match("content.msgtype", "m.notice")], []),
    _rule(
        ".m.rule.invite_for_me",
        [
            _event_match("type", "m.room.member"),
            _event_match("content.membership", "invite"),
            _event_match("state_key", OWN_USER_ID),
        ],
        ["notify", SOUND],
    ),
    _rule(".m.rule.member_event", [_event_match("type", "m.room.member")], []),
    _rule(
        ".m.rule.is_user_mention",
        [{"kind": "event_property_contains", "key": r"content.m\.mentions.user_ids", "value": OWN_USER_ID}],
        ["notify", SOUND, HIGHLIGHT],
    ),
    _rule(
        ".m.rule.is_room_mention",
        [
            _property_is(r"content.m\.mentions.room", True),
            {"kind": "sender_notification_permission", "key": "room"},
        ],
        ["notify", HIGHLIGHT],
    ),
    _rule(
        ".m.rule.tombstone",
        [_event_match("type", "m.room.tombstone"), _event_match("state_key", "")],
        ["notify", HIGHLIGHT],
    ),
    _rule(".m.rule.reaction", [_event_match("type", "m.reaction")], []),
    _rule(
        ".m.rule.room.server_acl",
        [_event_match("type", "m.room.server_acl"), _event_match("state_key", "")],
        [],
    ),
    _rule(".m.rule.suppress_edits", [_property_is(r"content.m\.relates_to.rel_type", "m.replace")], []),
)

UNDERRIDE_RULES = (
    _rule(".m.rule.call", [_event_match("type", "m.call.invite")], ["notify", RING]),
    _rule(
        ".m.rule.encrypted_room_one_to_one",
        [_TWO_MEMBERS, _event_match("type", "m.room.encrypted")],
        ["notify", SOUND],
    ),
    _rule(
        ".m.rule.room_one_to_one",
        [_TWO_MEMBERS, _event_match("type", "m.room.message")],
        ["notify", SOUND],
    ),
    _rule(".m.rule.message", [_event_match("type", "m.room.message")], ["notify"]),
    _rule(".m.rule.encrypted", [_event_match("type", "m.room.encrypted")], ["notify"]),
)

DEFAULT_RULES: dict[RuleKind, tuple[PushRule, ...]] = {
    RuleKind.OVERRIDE: OVERRIDE_RULES,
    RuleKind.CONTENT: (),
    RuleKind.ROOM: (),
    RuleKind.SENDER: (),
    RuleKind.UNDERRIDE: UNDERRIDE_RULES,
}


def default_rule(kind: RuleKind, rule_id: str) -> PushRule | None:
    """The default rule as shipped, ``OWN_USER_ID`` standing for the user."""
    return next((rule for rule in DEFAULT_RULES[kind] if rule.rule_id == rule_id), None)


def for_user(rule: PushRule, user_id: str) -> PushRule:
    """The rule with ``user_id`` in the place of ``OWN_USER_ID``; a rule of the user's own as it is."""
    if not rule.default:
        return rule
    named = tuple(
        {name: user_id if value == OWN_USER_ID else value for name, value in condition.items()}
        for condition in rule.conditions
    )
    return replace(rule, conditions=named)
