"""The endpoints of pushrules.yaml, as functions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.errors import BadJson, InvalidParam, MatrixError, MissingParam, NotFound, TooLarge, Unknown
from homeserver.push_rules import (
    NO_CHANGES,
    RuleSet,
    copy_room_rules,
    delete_rule,
    get_actions,
    get_enabled,
    get_rule,
    put_rule,
    set_actions,
    set_enabled,
)
from homeserver.push_rules.changes import OWN_RULES_MAX

ALICE = "@alice:a.example"
KINDS = ["override", "content", "room", "sender", "underride"]
TEA = {"pattern": "tea", "actions": ["notify"]}


def own_ids(rules: RuleSet, kind: str) -> list[str]:
    shown = rules.to_api(ALICE)["global"][kind]
    return [rule["rule_id"] for rule in shown if not rule["default"]]


@pytest.fixture
def abc() -> RuleSet:
    """Content rules a, b, c, the most important first."""
    rules = NO_CHANGES
    for rule_id in "cba":
        rules = put_rule(rules, "content", rule_id, TEA)
    return rules


# -- setPushRule


@pytest.mark.parametrize("kind", KINDS)
def test_put_then_get_shows_what_the_kind_has(kind: str) -> None:
    condition = {"kind": "event_match", "key": "content.body", "pattern": "tea"}
    body = {"actions": ["notify"], "pattern": "tea", "conditions": [condition]}
    shown = get_rule(put_rule(NO_CHANGES, kind, "mine", body), ALICE, kind, "mine")
    expected: dict[str, Any] = {"rule_id": "mine", "default": False, "enabled": True, "actions": ["notify"]}
    if kind in ("override", "underride"):
        expected["conditions"] = [condition]
    if kind == "content":
        expected["pattern"] = "tea"
    assert shown == expected


def test_a_new_rule_is_the_most_important_of_its_kind(abc: RuleSet) -> None:
    assert own_ids(put_rule(abc, "content", "new", TEA), "content") == ["new", "a", "b", "c"]


@pytest.mark.parametrize(
    ("beside", "order"),
    [
        ({"before": "b"}, ["a", "new", "b", "c"]),
        ({"after": "b"}, ["a", "b", "new", "c"]),
        ({"before": "a"}, ["new", "a", "b", "c"]),
        ({"after": "c"}, ["a", "b", "c", "new"]),
        ({"before": "b", "after": "c"}, ["a", "new", "b", "c"]),
    ],
)
def test_before_and_after_place_a_new_rule(abc: RuleSet, beside: dict[str, str], order: list[str]) -> None:
    assert own_ids(put_rule(abc, "content", "new", TEA, **beside), "content") == order


@pytest.mark.parametrize(
    ("beside", "order"),
    [({}, ["a", "b", "c"]), ({"before": "a"}, ["c", "a", "b"]), ({"after": "a"}, ["a", "c", "b"])],
)
def test_an_update_moves_a_rule_only_when_asked(
    abc: RuleSet, beside: dict[str, str], order: list[str]
) -> None:
    updated = put_rule(abc, "content", "c", {"pattern": "cake", "actions": []}, **beside)
    assert own_ids(updated, "content") == order
    assert get_rule(updated, ALICE, "content", "c")["pattern"] == "cake"


def test_an_update_leaves_a_disabled_rule_disabled(abc: RuleSet) -> None:
    disabled = set_enabled(abc, "content", "a", {"enabled": False})
    assert get_enabled(put_rule(disabled, "content", "a", TEA), "content", "a") == {"enabled": False}


def test_putting_the_same_rule_again_changes_nothing(abc: RuleSet) -> None:
    assert put_rule(abc, "content", "b", TEA) is abc


@pytest.mark.parametrize("relative", ["before", "after"])
@pytest.mark.parametrize("other", ["nowhere", "new", ".m.rule.master"])
def test_a_rule_must_be_placed_beside_an_own_rule(abc: RuleSet, relative: str, other: str) -> None:
    with pytest.raises(Unknown, match="before/after rule not found") as refusal:
        put_rule(abc, "content", "new", TEA, **{relative: other})
    assert (refusal.value.status, refusal.value.errcode) == (400, "M_UNKNOWN")


def test_a_rule_of_another_kind_is_no_place(abc: RuleSet) -> None:
    with pytest.raises(Unknown):
        put_rule(abc, "room", "!r:a.example", {"actions": []}, before="a")


def test_own_rules_stand_between_master_and_the_other_defaults() -> None:
    rules = put_rule(NO_CHANGES, "override", "mine", {"actions": []}).to_api(ALICE)["global"]["override"]
    assert [rule["rule_id"] for rule in rules][:3] == [".m.rule.master", "mine", ".m.rule.suppress_notices"]


def test_own_underride_rules_stand_before_the_defaults() -> None:
    rules = put_rule(NO_CHANGES, "underride", "mine", {"actions": []}).to_api(ALICE)["global"]["underride"]
    assert [rule["rule_id"] for rule in rules][:2] == ["mine", ".m.rule.call"]


@pytest.mark.parametrize("rule_id", ["", ".mine", ".m.rule.master", "a/b", "a\\b", "a\x00", "a\n", "x" * 256])
def test_rule_ids_that_are_refused(rule_id: str) -> None:
    with pytest.raises(InvalidParam):
        put_rule(NO_CHANGES, "override", rule_id, {"actions": []})


def test_an_alias_may_stand_for_a_room_as_in_the_specification() -> None:
    rules = put_rule(NO_CHANGES, "room", "#spam:example.com", {"actions": []})
    assert own_ids(rules, "room") == ["#spam:example.com"]


def test_historical_actions_are_stripped() -> None:
    rules = put_rule(NO_CHANGES, "room", "!r:a.example", {"actions": ["dont_notify", "coalesce"]})
    assert get_actions(rules, "room", "!r:a.example") == {"actions": []}


def test_unknown_tweaks_are_kept() -> None:
    tweak = {"set_tweak": "light", "value": {"colour": "red"}}
    rules = put_rule(NO_CHANGES, "room", "!r:a.example", {"actions": ["notify", tweak]})
    assert get_actions(rules, "room", "!r:a.example") == {"actions": ["notify", tweak]}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ([], BadJson),
        ("x", BadJson),
        ({}, MissingParam),
        ({"actions": "notify"}, BadJson),
        ({"actions": [1]}, BadJson),
        ({"actions": [None]}, BadJson),
        ({"actions": ["not_an_action"]}, InvalidParam),
        ({"actions": [{"notify": True}]}, InvalidParam),
        ({"actions": [{"set_tweak": 1}]}, BadJson),
        ({"actions": [{"set_tweak": "sound", "value": "x" * 3000}]}, InvalidParam),
        ({"actions": ["notify"] * 17}, InvalidParam),
    ],
)
def test_actions_that_are_refused(body: Any, error: type[MatrixError]) -> None:
    with pytest.raises(error):
        put_rule(NO_CHANGES, "room", "!r:a.example", body)
    with pytest.raises(error):
        set_actions(NO_CHANGES, "override", ".m.rule.master", body)


@pytest.mark.parametrize("kind", ["override", "underride"])
@pytest.mark.parametrize(
    ("conditions", "error"),
    [
        ({}, BadJson),
        (["x"], BadJson),
        ([{}], MissingParam),
        ([{"kind": 1}], BadJson),
        ([{"kind": "event_match", "key": "type"}], MissingParam),
        ([{"kind": "event_match", "pattern": "x"}], MissingParam),
        ([{"kind": "event_match", "key": 1, "pattern": "x"}], BadJson),
        ([{"kind": "event_match", "key": "type", "pattern": 1}], BadJson),
        ([{"kind": "event_match", "key": "type", "pattern": "x" * 513}], InvalidParam),
        ([{"kind": "event_property_is", "key": "type"}], MissingParam),
        ([{"kind": "event_property_is", "key": "type", "value": [1]}], InvalidParam),
        ([{"kind": "event_property_is", "key": "type", "value": 1.5}], InvalidParam),
        ([{"kind": "event_property_is", "key": "type", "value": 2**53}], InvalidParam),
        ([{"kind": "event_property_contains", "value": 1}], MissingParam),
        ([{"kind": "event_property_contains", "key": "x", "value": {}}], InvalidParam),
        ([{"kind": "room_member_count"}], MissingParam),
        ([{"kind": "room_member_count", "is": 2}], BadJson),
        ([{"kind": "room_member_count", "is": "=2"}], InvalidParam),
        ([{"kind": "room_member_count", "is": "2\n"}], InvalidParam),
        ([{"kind": "room_member_count", "is": "<٣"}], InvalidParam),
        ([{"kind": "sender_notification_permission"}], MissingParam),
        ([{"kind": "org.example.unknown", "x": "x" * 3000}], InvalidParam),
        ([{"kind": "contains_display_name"}] * 17, InvalidParam),
    ],
)
def test_conditions_that_are_refused(kind: str, conditions: Any, error: type[MatrixError]) -> None:
    with pytest.raises(error):
        put_rule(NO_CHANGES, kind, "mine", {"actions": [], "conditions": conditions})


@pytest.mark.parametrize(
    "condition",
    [
        {"kind": "org.example.unknown", "x": [1]},
        {"kind": "event_property_is", "key": "type", "value": None},
        {"kind": "event_property_is", "key": "type", "value": 2**53 - 1},
        {"kind": "room_member_count", "is": "<=10"},
        {"kind": "contains_display_name"},
    ],
)
def test_conditions_that_are_kept(condition: dict[str, Any]) -> None:
    rules = put_rule(NO_CHANGES, "override", "mine", {"actions": [], "conditions": [condition]})
    assert get_rule(rules, ALICE, "override", "mine")["conditions"] == [condition]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"actions": []}, MissingParam),
        ({"actions": [], "pattern": 1}, BadJson),
        ({"actions": [], "pattern": "x" * 513}, InvalidParam),
    ],
)
def test_patterns_that_are_refused(body: Any, error: type[MatrixError]) -> None:
    with pytest.raises(error):
        put_rule(NO_CHANGES, "content", "mine", body)


def test_the_number_of_own_rules_is_bounded() -> None:
    rules = NO_CHANGES
    for number in range(OWN_RULES_MAX):
        rules = put_rule(rules, "room", f"!{number}:a.example", {"actions": []})
    with pytest.raises(TooLarge):
        put_rule(rules, "sender", ALICE, {"actions": []})
    assert put_rule(rules, "room", "!0:a.example", {"actions": ["notify"]}) is not rules


def test_the_number_of_own_conditions_is_bounded() -> None:
    body = {"actions": [], "conditions": [{"kind": "contains_display_name"}] * 16}
    rules = NO_CHANGES
    with pytest.raises(TooLarge):
        for number in range(130):
            rules = put_rule(rules, "override", str(number), body)


# -- the other operations


@pytest.mark.parametrize("rule_id", ["nowhere", ".m.rule.nowhere"])
def test_a_rule_that_does_not_exist_is_not_found(rule_id: str) -> None:
    for attempt in (
        lambda: get_rule(NO_CHANGES, ALICE, "override", rule_id),
        lambda: get_enabled(NO_CHANGES, "override", rule_id),
        lambda: get_actions(NO_CHANGES, "override", rule_id),
        lambda: set_enabled(NO_CHANGES, "override", rule_id, {"enabled": True}),
        lambda: set_actions(NO_CHANGES, "override", rule_id, {"actions": []}),
        lambda: delete_rule(NO_CHANGES, "override", rule_id),
    ):
        with pytest.raises(NotFound) as refusal:
            attempt()
        assert (refusal.value.status, refusal.value.errcode) == (404, "M_NOT_FOUND")


def test_an_id_counts_within_its_kind(abc: RuleSet) -> None:
    with pytest.raises(NotFound):
        get_rule(abc, ALICE, "override", "a")
    with pytest.raises(NotFound):
        get_rule(NO_CHANGES, ALICE, "underride", ".m.rule.master")


@pytest.mark.parametrize("kind", ["not_a_template", "", "OVERRIDE", "device"])
def test_a_kind_that_does_not_exist_is_refused(kind: str) -> None:
    with pytest.raises(InvalidParam, match="override, content, room, sender, underride"):
        get_rule(NO_CHANGES, ALICE, kind, ".m.rule.master")
    with pytest.raises(InvalidParam):
        put_rule(NO_CHANGES, kind, "mine", {"actions": []})


def test_delete(abc: RuleSet) -> None:
    assert own_ids(delete_rule(abc, "content", "b"), "content") == ["a", "c"]
    assert own_ids(abc, "content") == ["a", "b", "c"]


def test_deleting_the_last_rule_leaves_nothing_to_store() -> None:
    rules = delete_rule(put_rule(NO_CHANGES, "content", "a", TEA), "content", "a")
    assert rules.is_default and rules.to_record() == {}


def test_a_default_rule_cannot_be_deleted() -> None:
    with pytest.raises(InvalidParam):
        delete_rule(NO_CHANGES, "override", ".m.rule.master")


def test_default_and_own_rules_can_be_disabled_and_enabled(abc: RuleSet) -> None:
    for kind, rule_id in [("underride", ".m.rule.message"), ("content", "b")]:
        off = set_enabled(abc, kind, rule_id, {"enabled": False})
        assert get_enabled(off, kind, rule_id) == {"enabled": False}
        assert set_enabled(off, kind, rule_id, {"enabled": False}) is off
        assert set_enabled(off, kind, rule_id, {"enabled": True}) == abc


@pytest.mark.parametrize(
    ("body", "error"),
    [({}, MissingParam), ({"enabled": "not a boolean"}, BadJson), ({"enabled": 1}, BadJson), ([], BadJson)],
)
def test_enabled_must_be_a_boolean(body: Any, error: type[MatrixError]) -> None:
    with pytest.raises(error):
        set_enabled(NO_CHANGES, "override", ".m.rule.master", body)


def test_actions_of_default_and_own_rules_can_be_changed(abc: RuleSet) -> None:
    actions = {"actions": ["notify", {"set_tweak": "sound", "value": "bing"}]}
    for kind, rule_id in [("underride", ".m.rule.message"), ("content", "b")]:
        changed = set_actions(abc, kind, rule_id, actions)
        assert get_actions(changed, kind, rule_id) == actions
        assert get_rule(changed, ALICE, kind, rule_id)["default"] is (kind == "underride")


def test_a_default_rule_back_at_its_defaults_is_not_stored() -> None:
    changed = set_actions(NO_CHANGES, "underride", ".m.rule.message", {"actions": []})
    assert changed.to_record() == {"changed": {".m.rule.message": {"actions": []}}}
    assert set_actions(changed, "underride", ".m.rule.message", {"actions": ["notify"]}).is_default


def test_a_tweak_of_one_is_not_a_tweak_of_true() -> None:
    one = put_rule(NO_CHANGES, "room", "!r", {"actions": [{"set_tweak": "highlight", "value": 1}]})
    true = put_rule(one, "room", "!r", {"actions": [{"set_tweak": "highlight", "value": True}]})
    assert get_actions(true, "room", "!r")["actions"][0]["value"] is True


# -- room upgrades


def test_rules_of_a_room_are_copied_to_its_successor() -> None:
    def muted(room_id: str) -> dict[str, Any]:
        return {
            "actions": [],
            "conditions": [
                {"kind": "event_match", "key": "room_id", "pattern": room_id},
                {"kind": "contains_display_name"},
            ],
        }

    rules = put_rule(NO_CHANGES, "room", "!old", {"actions": []})
    rules = put_rule(rules, "override", "!old", muted("!old"))
    rules = put_rule(rules, "override", "quiet", muted("!old"))
    rules = put_rule(rules, "override", "other", muted("!other"))
    copied = copy_room_rules(rules, "!old", "!new")
    assert own_ids(copied, "room") == ["!new", "!old"]
    assert own_ids(copied, "override") == ["other", "quiet !new", "quiet", "!new", "!old"]
    shown = get_rule(copied, ALICE, "override", "!new")
    assert shown["conditions"] == muted("!new")["conditions"]
    assert copy_room_rules(copied, "!old", "!new") is copied
    assert copy_room_rules(copied, "!unknown", "!new") is copied


# -- the record

steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"), st.sampled_from(KINDS), st.sampled_from("abcd"), st.sampled_from([None, "a", "b"])
        ),
        st.tuples(st.just("delete"), st.sampled_from(KINDS), st.sampled_from("abcd"), st.none()),
        st.tuples(
            st.just("toggle"), st.sampled_from(KINDS), st.sampled_from(["a", ".m.rule.master"]), st.none()
        ),
        st.tuples(
            st.just("silence"), st.sampled_from(KINDS), st.sampled_from(["b", ".m.rule.call"]), st.none()
        ),
    ),
    max_size=25,
)


@given(steps)
def test_the_record_reads_back_as_the_same_rules(walk: list[tuple[str, str, str, str | None]]) -> None:
    rules = NO_CHANGES
    for operation, kind, rule_id, before in walk:
        before_step = rules
        try:
            if operation == "put":
                rules = put_rule(rules, kind, rule_id, {"actions": ["notify"], "pattern": "x"}, before=before)
            elif operation == "delete":
                rules = delete_rule(rules, kind, rule_id)
            elif operation == "toggle":
                now = get_enabled(rules, kind, rule_id)["enabled"]
                rules = set_enabled(rules, kind, rule_id, {"enabled": not now})
            else:
                rules = set_actions(rules, kind, rule_id, {"actions": []})
        except (NotFound, Unknown, InvalidParam):
            assert rules is before_step
        record = rules.to_record()
        assert RuleSet.from_record(json.loads(json.dumps(record))) == rules
        assert RuleSet.from_record(record).to_api(ALICE) == rules.to_api(ALICE)
        assert (record == {}) == rules.is_default
        for shown in rules.to_api(ALICE)["global"].values():
            ids = [rule["rule_id"] for rule in shown]
            assert len(ids) == len(set(ids))


def test_a_change_of_a_rule_that_is_no_default_any_more_is_kept_without_effect() -> None:
    record = {"changed": {".m.rule.contains_user_name": {"enabled": False}}}
    rules = RuleSet.from_record(record)
    assert rules.to_api(ALICE) == NO_CHANGES.to_api(ALICE)
    assert rules.to_record() == record
