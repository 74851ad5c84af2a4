"""`may_notify` and `singled_out_users` against the rules themselves."""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from homeserver.push_rules import (
    NO_CHANGES,
    NOBODY,
    PushContext,
    PushEvent,
    RuleSet,
    compile_rules,
    may_notify,
    put_rule,
    set_actions,
    set_enabled,
    singled_out_users,
)

USERS = ["@alice:a.example", "@bob:b.example", "@carol:a.example"]
SENDER = "@bob:b.example"
TYPES = [
    "m.room.message", "m.room.encrypted", "m.call.invite", "m.room.tombstone", "m.room.member", "m.reaction",
    "m.room.server_acl", "m.room.topic", "M.ROOM.MESSAGE", "org.example.x",
]  # fmt: skip
CONTEXTS = [
    PushContext(member_count=count, sender_power_level=level) for count, level in product((1, 2, 3), (0, 50))
]

anything = st.sampled_from([None, True, 1, "x", [], {}])
mentions = st.fixed_dictionaries(
    {},
    optional={
        "user_ids": anything | st.lists(st.sampled_from([*USERS, "", 1, None]), max_size=3),
        "room": anything,
    },
)
contents = st.fixed_dictionaries(
    {},
    optional={
        "msgtype": anything | st.sampled_from(["m.text", "m.notice", "M.Notice"]),
        "membership": anything | st.sampled_from(["join", "invite", "INVITE"]),
        "m.mentions": anything | mentions,
        "m.relates_to": anything
        | st.fixed_dictionaries({"rel_type": anything | st.sampled_from(["m.replace", "m.thread"])}),
        "body": st.sampled_from(["tea", "hello"]),
    },
)


def make_event(type: str, state_key: str | None, content: dict[str, Any]) -> PushEvent:
    return PushEvent(type=type, sender=SENDER, state_key=state_key, room_id="!r:a.example", content=content)


events = st.builds(make_event, st.sampled_from(TYPES), st.sampled_from([None, "", "x", *USERS]), contents)

own_rules = st.tuples(
    st.sampled_from(["override", "content", "room", "sender", "underride"]),
    st.sampled_from([[], ["notify"], [{"set_tweak": "highlight"}]]),
)
defaults = st.sampled_from(
    [
        (kind, rule["rule_id"])
        for kind, rules in NO_CHANGES.to_api(USERS[0])["global"].items()
        for rule in rules
    ]
)
rule_ids = {"room": "!r:a.example", "sender": SENDER}


@st.composite
def rule_sets(draw: st.DrawFn) -> RuleSet:
    rules = NO_CHANGES
    for kind, actions in draw(st.lists(own_rules, max_size=2)):
        body = {"actions": actions, "pattern": "tea", "conditions": []}
        rules = put_rule(rules, kind, rule_ids.get(kind, "mine"), body)
    for kind, rule_id in draw(st.lists(defaults, max_size=3)):
        rules = set_enabled(rules, kind, rule_id, {"enabled": draw(st.booleans())})
        if draw(st.booleans()):
            rules = set_actions(rules, kind, rule_id, {"actions": draw(st.sampled_from([[], ["notify"]]))})
    return rules


@given(events)
def test_may_notify_is_exact_for_the_default_rules(event: PushEvent) -> None:
    users = ["@x:a.example", "x", *USERS]  # "x" may be the state key
    notified = any(
        compile_rules(NO_CHANGES, user).evaluate(event, context).notify
        for user in users
        for context in CONTEXTS
    )
    assert may_notify(event) == notified


@given(events)
def test_users_who_are_not_singled_out_share_one_outcome(event: PushEvent) -> None:
    nobody = compile_rules(NO_CHANGES, NOBODY)
    for user, context in product(set(USERS) - singled_out_users(event) - {SENDER}, CONTEXTS):
        assert compile_rules(NO_CHANGES, user).evaluate(event, context) == nobody.evaluate(event, context)


@given(rule_sets(), events)
def test_an_evaluator_that_may_not_notify_does_not(rules: RuleSet, event: PushEvent) -> None:
    for user in USERS:
        evaluator = compile_rules(rules, user)
        if not evaluator.may_notify(event):
            assert not any(evaluator.evaluate(event, context).notify for context in CONTEXTS)


def test_nobody_is_never_named() -> None:
    nobody = compile_rules(NO_CHANGES, NOBODY)
    mention = make_event("m.room.message", None, {"m.mentions": {"user_ids": [""]}})
    invite = make_event("m.room.member", "", {"membership": "invite"})
    assert not nobody.evaluate(mention, CONTEXTS[0]).highlight
    assert not nobody.evaluate(invite, CONTEXTS[0]).notify


def test_invitations_of_nobody_and_of_the_sender_notify_nobody() -> None:
    for state_key, notifies in [(None, False), ("", False), (SENDER, False), (USERS[0], True)]:
        assert may_notify(make_event("m.room.member", state_key, {"membership": "invite"})) is notifies


def test_silent_rules_keep_the_cheap_question() -> None:
    muted = put_rule(NO_CHANGES, "room", "!r:a.example", {"actions": []})
    quiet = set_enabled(muted, "underride", ".m.rule.message", {"enabled": False})
    quiet = set_actions(quiet, "override", ".m.rule.master", {"actions": [{"set_tweak": "sound"}]})
    assert not compile_rules(quiet, USERS[0]).may_notify(make_event("m.room.topic", "", {}))


def test_rules_that_notify_ask_for_evaluation() -> None:
    topic = make_event("m.room.topic", "", {})
    loud = put_rule(NO_CHANGES, "room", "!r:a.example", {"actions": ["notify"]})
    assert compile_rules(loud, USERS[0]).may_notify(topic)
    reactions = set_actions(NO_CHANGES, "override", ".m.rule.reaction", {"actions": ["notify"]})
    assert compile_rules(reactions, USERS[0]).may_notify(make_event("m.reaction", None, {}))
    notices = set_enabled(NO_CHANGES, "override", ".m.rule.suppress_notices", {"enabled": False})
    assert compile_rules(notices, USERS[0]).may_notify(
        make_event("m.room.message", None, {"msgtype": "m.notice"})
    )
