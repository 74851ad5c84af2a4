"""The order of rules, their outcome, and what evaluation may cost."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.push_rules import (
    NO_CHANGES,
    SILENT,
    PushContext,
    PushEvent,
    RuleSet,
    compile_rules,
    put_rule,
    set_actions,
    set_enabled,
)

ALICE = "@alice:a.example"
BOB = "@bob:b.example"
ROOM = "!room:a.example"
GROUP = PushContext(member_count=5)


def message(body: Any = "Time for tea", **changes: Any) -> PushEvent:
    fields: dict[str, Any] = {"type": "m.room.message", "sender": BOB, "state_key": None, "room_id": ROOM}
    return PushEvent(content={"msgtype": "m.text", "body": body}, **{**fields, **changes})


def tweak(name: str) -> dict[str, Any]:
    return {"actions": ["notify", {"set_tweak": "sound", "value": name}], "pattern": "tea"}


def sound(rules: RuleSet, event: PushEvent | None = None) -> str:
    return str(compile_rules(rules, ALICE).evaluate(event or message(), GROUP).tweaks.get("sound"))


RULE_IDS = {"override": "o", "content": "c", "room": ROOM, "sender": BOB, "underride": "u"}


def test_kinds_are_checked_in_their_order() -> None:
    rules = NO_CHANGES
    for kind in ("underride", "sender", "room", "content", "override"):
        rules = put_rule(rules, kind, RULE_IDS[kind], tweak(kind))
        assert sound(rules) == kind
    for kind in ("override", "content", "room", "sender", "underride"):
        assert sound(rules) == kind
        rules = set_enabled(rules, kind, RULE_IDS[kind], {"enabled": False})
    assert sound(rules) == "None"


def test_the_most_important_of_a_kind_decides() -> None:
    rules = put_rule(NO_CHANGES, "content", "tea", {"pattern": "tea", "actions": ["notify"]})
    rules = put_rule(rules, "content", "time", {"pattern": "time", "actions": []})
    assert not compile_rules(rules, ALICE).evaluate(message(), GROUP).notify
    rules = put_rule(rules, "content", "tea", {"pattern": "tea", "actions": ["notify"]}, before="time")
    assert compile_rules(rules, ALICE).evaluate(message(), GROUP).notify


def test_content_rules_match_the_body_alone() -> None:
    rules = put_rule(NO_CHANGES, "content", "tea", tweak("tea"))
    assert sound(rules, message("TEA!")) == "tea"
    assert sound(rules, message("steam")) == "None"
    assert sound(rules, message(["tea"])) == "None"
    encrypted = PushEvent(type="m.room.encrypted", sender=BOB, state_key=None, room_id=ROOM, content={})
    assert sound(rules, encrypted) == "None"


def test_room_and_sender_rules_match_their_id_exactly() -> None:
    rules = put_rule(NO_CHANGES, "room", ROOM, tweak("room"))
    assert sound(rules) == "room"
    assert sound(rules, message(room_id=ROOM.upper())) == "None"
    rules = put_rule(NO_CHANGES, "sender", BOB, tweak("sender"))
    assert sound(rules) == "sender"
    assert sound(rules, message(sender="@BOB:b.example")) == "None"
    assert sound(rules, message(sender="@carol:a.example")) == "None"


def test_a_wildcard_in_a_room_rule_is_a_character() -> None:
    assert sound(put_rule(NO_CHANGES, "room", "!*", tweak("room"))) == "None"


def test_all_conditions_must_hold() -> None:
    conditions = [
        {"kind": "event_match", "key": "type", "pattern": "m.room.message"},
        {"kind": "event_match", "key": "room_id", "pattern": ROOM},
        {"kind": "event_match", "key": "sender", "pattern": BOB},
        {"kind": "event_match", "key": "type", "pattern": "m.room.message"},
        {"kind": "room_member_count", "is": "<=10"},
    ]
    body = {**tweak("both"), "conditions": conditions}
    assert sound(put_rule(NO_CHANGES, "override", "o", body)) == "both"
    for number, other in enumerate(["m.reaction", "!x:a.example", "@x:a.example", "m.reaction", ">10"]):
        name = "is" if number == 4 else "pattern"
        changed = [*conditions]
        changed[number] = {**conditions[number], name: other}
        assert sound(put_rule(NO_CHANGES, "override", "o", {**body, "conditions": changed})) == "None"


def test_the_first_match_silences_those_below() -> None:
    rules = put_rule(NO_CHANGES, "override", "mute", {"actions": []})
    assert compile_rules(rules, ALICE).evaluate(message(), GROUP) == SILENT


@pytest.mark.parametrize(
    ("actions", "notify", "highlight"),
    [
        ([], False, False),
        (["notify"], True, False),
        (["notify", {"set_tweak": "highlight"}], True, True),
        (["notify", {"set_tweak": "highlight", "value": True}], True, True),
        (["notify", {"set_tweak": "highlight", "value": False}], True, False),
        (["notify", {"set_tweak": "highlight", "value": "yes"}], True, False),
        ([{"set_tweak": "highlight"}], False, False),
        (["notify", {"set_tweak": "highlight"}, {"set_tweak": "highlight", "value": False}], True, False),
    ],
)
def test_outcome_of_actions(actions: list[Any], notify: bool, highlight: bool) -> None:
    rules = set_actions(NO_CHANGES, "underride", ".m.rule.message", {"actions": actions})
    outcome = compile_rules(rules, ALICE).evaluate(message(), GROUP)
    assert (outcome.notify, outcome.highlight, outcome.actions) == (notify, highlight, tuple(actions))


def test_changed_default_rules_keep_their_conditions() -> None:
    rules = set_actions(NO_CHANGES, "override", ".m.rule.is_user_mention", {"actions": ["notify"]})
    event = PushEvent(
        type="m.room.topic",
        sender=BOB,
        state_key="",
        room_id=ROOM,
        content={"m.mentions": {"user_ids": [ALICE]}},
    )
    assert compile_rules(rules, ALICE).evaluate(event, GROUP).actions == ("notify",)
    assert not compile_rules(rules, "@carol:a.example").evaluate(event, GROUP).notify


def test_a_users_own_rule_may_hold_the_specifications_placeholder() -> None:
    condition = {"kind": "event_match", "key": "content.body", "pattern": "[the user's Matrix ID]"}
    rules = put_rule(NO_CHANGES, "override", "mine", {**tweak("mine"), "conditions": [condition]})
    assert sound(rules, message("[the user's Matrix ID]")) == "mine"
    assert rules.to_api(ALICE)["global"]["override"][1]["conditions"] == [condition]


def test_own_events_never_notify() -> None:
    rules = put_rule(NO_CHANGES, "override", "loud", {"actions": ["notify"]})
    assert compile_rules(rules, BOB).evaluate(message(), GROUP) == SILENT


def test_only_rules_about_display_names_ask_for_one() -> None:
    assert not compile_rules(NO_CHANGES, ALICE).needs_display_name
    body = {"actions": ["notify"], "conditions": [{"kind": "contains_display_name"}]}
    assert compile_rules(put_rule(NO_CHANGES, "underride", "name", body), ALICE).needs_display_name


def test_one_event_serves_many_users() -> None:
    event = message("tea and cake")
    for word, hit in [("tea", True), ("cake", True), ("coffee", False), ("tea", True)]:
        rules = put_rule(
            NO_CHANGES, "content", word, {"pattern": word, "actions": ["notify", {"set_tweak": "highlight"}]}
        )
        assert compile_rules(rules, ALICE).evaluate(event, GROUP).highlight is hit


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["type", "room_id", "sender", "content.msgtype"]),
            st.sampled_from(["m.room.message", "M.Room.Message", ROOM, BOB, "m.text", "", "*", "m.*"]),
        ),
        max_size=6,
    )
)
def test_the_index_changes_nothing(wanted: list[tuple[str, str]]) -> None:
    """Rules found through the index and rules with the same condition spelled so that the index
    cannot take it (a needless wildcard) come to the same."""

    def rules(suffix: str) -> RuleSet:
        made = NO_CHANGES
        for number, (key, pattern) in enumerate(wanted):
            condition = {"kind": "event_match", "key": key, "pattern": pattern + suffix}
            made = put_rule(made, "override", str(number), {**tweak(str(number)), "conditions": [condition]})
        return made

    # No text here is a prefix of another but "", which "*" would turn into a match of everything.
    plain, starred = rules(""), rules("*")
    if all(pattern for _, pattern in wanted):
        assert sound(plain) == sound(starred)
    expected = next(
        (str(n) for n, (key, pattern) in reversed([*enumerate(wanted)]) if _matches(key, pattern)), "None"
    )
    assert sound(plain) == expected


def _matches(key: str, pattern: str) -> bool:
    value = {"type": "m.room.message", "room_id": ROOM, "sender": BOB, "content.msgtype": "m.text"}[key]
    return pattern == "*" or pattern.lower() == value or (pattern == "m.*" and value.startswith("m."))


def test_rules_made_to_be_slow_stay_within_bounds() -> None:
    custom = [
        {"rule_id": str(n), "pattern": "a?" * 100 + "a" * (n % 99) + "*b", "actions": ["notify"]}
        for n in range(1000)
    ]
    evaluator = compile_rules(RuleSet.from_record({"custom": {"content": custom}}), ALICE)
    event = message("ba" + "a" * 65_000)
    costs = []
    for _ in range(3):
        began = time.process_time()
        evaluator.evaluate(event, GROUP)
        costs.append(time.process_time() - began)
    assert min(costs) < 0.5  # some 40 ms; without a bound, 10 s
