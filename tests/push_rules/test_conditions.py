"""Each kind of condition. Source: Push Notifications, "Conditions"."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.push_rules import NO_CHANGES, PushContext, PushEvent, RuleSet, compile_rules

ALICE = "@alice:a.example"
BOB = "@bob:b.example"
ROOM = "!Room:a.example"
GROUP = PushContext(member_count=5)


def make_event(content: dict[str, Any] | None = None, **changes: Any) -> PushEvent:
    # The type is one that no default rule knows, so that only the rule under test can notify.
    fields: dict[str, Any] = {"type": "org.example.x", "sender": BOB, "state_key": None, "room_id": ROOM}
    return PushEvent(content=content or {}, **{**fields, **changes})


def holds(condition: dict[str, Any], event: PushEvent, context: PushContext = GROUP) -> bool:
    # Read from a record, as conditions stored by an earlier release are: nothing has checked them.
    rule = {"rule_id": "mine", "actions": ["notify"], "conditions": [condition]}
    rules = RuleSet.from_record({"custom": {"override": [rule]}})
    return compile_rules(rules, ALICE).evaluate(event, context).notify


def event_match(key: str, pattern: str) -> dict[str, Any]:
    return {"kind": "event_match", "key": key, "pattern": pattern}


@pytest.mark.parametrize(
    ("key", "pattern", "matches"),
    [
        ("content.topic", "lunc?*", True),
        ("content.topic", "LUNCH plans", True),
        ("content.topic", "lunch", False),  # the whole value
        ("content.topic", "plans", False),
        ("content.missing", "*", False),
        ("content.number", "*", False),
        ("content.null", "*", False),
        ("content.list", "*", False),
        ("content.nested.deep", "yes", True),
        ("content.nested", "*", False),
        ("content.topic.deep", "*", False),
        (r"content.m\.dotted", "yes", True),
        ("content.m.dotted", "yes", False),
        ("content.empty", "", True),
        ("content.empty", "?", False),
        ("type", "org.example.*", True),
        ("type", "ORG.example.X", True),
        ("type", "org.example", False),
        ("sender", "@bob:*", True),
        ("sender", BOB, True),
        ("sender", ALICE, False),
        ("room_id", ROOM, True),
        ("room_id", ROOM.lower(), True),
        ("room_id", "!other:a.example", False),
        ("state_key", "*", False),
        ("event_id", "$event", True),
        ("unsigned.age", "*", False),
        ("content", "*", False),
        ("", "*", False),
    ],
)
def test_event_match(key: str, pattern: str, matches: bool) -> None:
    content = {
        "topic": "Lunch plans",
        "number": 1,
        "null": None,
        "list": ["x"],
        "nested": {"deep": "yes"},
        "m.dotted": "yes",
        "empty": "",
    }
    assert holds(event_match(key, pattern), make_event(content, extra={"event_id": "$event"})) is matches


def test_event_match_on_a_state_key() -> None:
    assert holds(event_match("state_key", ""), make_event(state_key=""))
    assert not holds(event_match("state_key", ""), make_event(state_key="x"))


@pytest.mark.parametrize(
    ("pattern", "body", "matches"),
    [
        ("cake", "A piece of CAKE, please", True),
        ("Cake", "cake", True),
        ("cake", "pancakes", False),
        ("ex*ple", "An exciting triple-whammy", True),
        ("c?ke", "coke", True),
    ],
)
def test_body_matches_by_words(pattern: str, body: str, matches: bool) -> None:
    assert holds(event_match("content.body", pattern), make_event({"body": body})) is matches


def test_other_bodies_match_whole() -> None:
    assert not holds(event_match("content.info.body", "cake"), make_event({"info": {"body": "a cake"}}))


@pytest.mark.parametrize("value", ["x", 1, 0, True, False, None, "", -(2**53) + 1])
def test_event_property_is(value: Any) -> None:
    condition = {"kind": "event_property_is", "key": "content.v", "value": value}
    for other in ["x", "X", 1, 0, 1.0, True, False, None, "", [], {}, ["x"], -(2**53) + 1]:
        same = type(other) is type(value) and other == value
        assert holds(condition, make_event({"v": other})) is same
    assert not holds(condition, make_event({}))


@pytest.mark.parametrize("value", ["x", 1, True, False, None, 0])
def test_event_property_contains(value: Any) -> None:
    condition = {"kind": "event_property_contains", "key": "content.v", "value": value}
    for other in ["x", "X", 1, 0, 1.0, True, False, None, ["x"], {"x": 1}]:
        same = type(other) is type(value) and other == value
        assert holds(condition, make_event({"v": [{}, other, []]})) is same
        if not isinstance(other, list):
            assert not holds(condition, make_event({"v": other}))
    assert not holds(condition, make_event({}))


@pytest.mark.parametrize(
    ("name", "body", "matches"),
    [
        ("Alice", "hello alice!", True),
        ("Alice", "malice", False),
        ("Alice W.", "ask ALICE W. about it", True),
        ("*", "anything", False),
        ("", "anything", False),
        (None, "anything", False),
    ],
)
def test_contains_display_name(name: str | None, body: str, matches: bool) -> None:
    context = GROUP.with_display_name(name)
    assert holds({"kind": "contains_display_name"}, make_event({"body": body}), context) is matches


def test_contains_display_name_wants_a_body() -> None:
    context = GROUP.with_display_name("alice")
    assert not holds({"kind": "contains_display_name"}, make_event({"body": ["alice"]}), context)
    assert not holds({"kind": "contains_display_name"}, make_event({}), context)


@pytest.mark.parametrize(
    ("comparison", "counts"),
    [
        ("2", {2}),
        ("==2", {2}),
        ("<2", {0, 1}),
        ("<=2", {0, 1, 2}),
        (">2", {3, 4}),
        (">=2", {2, 3, 4}),
        ("", set()),
        ("=2", set()),
        ("<>2", set()),
        ("-1", set()),
        ("two", set()),
        (2, set()),
        (None, set()),
    ],
)
def test_room_member_count(comparison: Any, counts: set[int]) -> None:
    condition = {"kind": "room_member_count", "is": comparison}
    assert {n for n in range(5) if holds(condition, make_event(), PushContext(member_count=n))} == counts


@pytest.mark.parametrize(
    ("key", "power_level", "levels", "matches"),
    [
        ("room", 50, {}, True),
        ("room", 49, {}, False),
        ("room", 20, {"room": 20}, True),
        ("room", 19, {"room": 20}, False),
        ("org.example", 50, {"room": 100}, True),
        ("org.example", 1, {"org.example": 2}, False),
        ("room", -1, {"room": -1}, True),
        ("room", float("inf"), {"room": 2**53 - 1}, True),
        ("room", 1, {"room": True}, False),
        (1, 100, {}, False),
    ],
)
def test_sender_notification_permission(
    key: Any, power_level: float, levels: dict[str, Any], matches: bool
) -> None:
    context = PushContext(member_count=5, sender_power_level=power_level, notification_levels=levels)
    assert holds({"kind": "sender_notification_permission", "key": key}, make_event(), context) is matches


@pytest.mark.parametrize(
    "condition",
    [
        {},
        {"kind": "org.example.unknown"},
        {"kind": None},
        {"kind": ["event_match"]},
        {"kind": "event_match"},
        {"kind": "event_match", "key": "type"},
        {"kind": "event_match", "key": 1, "pattern": "*"},
        {"kind": "event_match", "key": "type", "pattern": 1},
        {"kind": "event_property_is", "key": "content.absent"},
        {"kind": "event_property_is", "key": "content.v", "value": [1]},
        {"kind": "event_property_contains", "key": "content.list", "value": {}},
        {"kind": "event_property_contains", "value": "x"},
        {"kind": "sender_notification_permission"},
    ],
)
def test_unknown_and_malformed_conditions_never_match(condition: dict[str, Any]) -> None:
    assert not holds(condition, make_event({"v": [1], "list": [{}]}))


def test_a_malformed_condition_disables_its_rule_alone() -> None:
    record = {
        "custom": {
            "override": [
                {"rule_id": "bad", "actions": [], "conditions": [{"kind": "org.example.unknown"}]},
                {"rule_id": "good", "actions": ["notify"], "conditions": []},
            ]
        }
    }
    assert compile_rules(RuleSet.from_record(record), ALICE).evaluate(make_event(), GROUP).notify


def test_the_empty_record_is_the_default_rules() -> None:
    assert RuleSet.from_record({}) == NO_CHANGES
