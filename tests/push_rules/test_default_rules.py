"""Each server-default rule, by its name. Source: Push Notifications, "Predefined Rules"."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.push_rules import (
    NO_CHANGES,
    Outcome,
    PushContext,
    PushEvent,
    compile_rules,
    get_rule,
    may_notify,
    set_enabled,
)

ALICE = "@alice:a.example"
BOB = "@bob:b.example"
ROOM = "!room:a.example"

SOUND = {"set_tweak": "sound", "value": "default"}
HIGHLIGHT = {"set_tweak": "highlight"}
GROUP = PushContext(member_count=5)
TWO = PushContext(member_count=2)


def event(
    type: str, content: dict[str, Any], *, state_key: str | None = None, sender: str = BOB
) -> PushEvent:
    return PushEvent(type=type, sender=sender, state_key=state_key, room_id=ROOM, content=content)


def message(**content: Any) -> PushEvent:
    return event("m.room.message", {"msgtype": "m.text", "body": "hello", **content})


def outcome(given: PushEvent, context: PushContext = GROUP) -> Outcome:
    return compile_rules(NO_CHANGES, ALICE).evaluate(given, context)


def test_ids_and_order() -> None:
    rules = NO_CHANGES.to_api(ALICE)["global"]
    assert list(rules) == ["override", "content", "room", "sender", "underride"]
    assert [rule["rule_id"] for rule in rules["override"]] == [
        ".m.rule.master",
        ".m.rule.suppress_notices",
        ".m.rule.invite_for_me",
        ".m.rule.member_event",
        ".m.rule.is_user_mention",
        ".m.rule.is_room_mention",
        ".m.rule.tombstone",
        ".m.rule.reaction",
        ".m.rule.room.server_acl",
        ".m.rule.suppress_edits",
    ]
    assert rules["content"] == rules["room"] == rules["sender"] == []
    assert [rule["rule_id"] for rule in rules["underride"]] == [
        ".m.rule.call",
        ".m.rule.encrypted_room_one_to_one",
        ".m.rule.room_one_to_one",
        ".m.rule.message",
        ".m.rule.encrypted",
    ]


def test_all_are_default_and_all_but_master_are_enabled() -> None:
    rules = NO_CHANGES.to_api(ALICE)["global"]
    every = [rule for kind in rules.values() for rule in kind]
    assert all(rule["default"] is True for rule in every)
    assert [rule["rule_id"] for rule in every if not rule["enabled"]] == [".m.rule.master"]


def test_rules_that_name_the_user_show_the_users_id() -> None:
    assert get_rule(NO_CHANGES, ALICE, "override", ".m.rule.is_user_mention") == {
        "rule_id": ".m.rule.is_user_mention",
        "default": True,
        "enabled": True,
        "conditions": [
            {"kind": "event_property_contains", "key": r"content.m\.mentions.user_ids", "value": ALICE}
        ],
        "actions": ["notify", SOUND, HIGHLIGHT],
    }
    invite = get_rule(NO_CHANGES, ALICE, "override", ".m.rule.invite_for_me")
    assert invite["conditions"][2] == {"kind": "event_match", "key": "state_key", "pattern": ALICE}


def test_master_silences_everything_once_enabled() -> None:
    silent = compile_rules(set_enabled(NO_CHANGES, "override", ".m.rule.master", {"enabled": True}), ALICE)
    assert not silent.evaluate(message(**{"m.mentions": {"user_ids": [ALICE]}}), GROUP).notify
    assert outcome(message(**{"m.mentions": {"user_ids": [ALICE]}})).notify


def test_suppress_notices() -> None:
    assert not outcome(message(msgtype="m.notice")).notify
    assert not outcome(message(**{"msgtype": "m.notice", "m.mentions": {"user_ids": [ALICE]}})).notify


def test_invite_for_me() -> None:
    invite = event("m.room.member", {"membership": "invite"}, state_key=ALICE)
    assert outcome(invite) == Outcome(notify=True, highlight=False, actions=("notify", SOUND))


@pytest.mark.parametrize(
    ("membership", "target"), [("invite", "@carol:a.example"), ("join", ALICE), ("ban", ALICE), (None, ALICE)]
)
def test_member_event_silences_any_other_membership(membership: str | None, target: str) -> None:
    content = {"membership": membership, "m.mentions": {"user_ids": [ALICE]}}
    assert not outcome(event("m.room.member", content, state_key=target)).notify


def test_is_user_mention() -> None:
    mentioned = outcome(message(**{"m.mentions": {"user_ids": ["@carol:a.example", ALICE]}}))
    assert mentioned == Outcome(notify=True, highlight=True, actions=("notify", SOUND, HIGHLIGHT))
    assert mentioned.tweaks == {"sound": "default", "highlight": True}


def test_is_user_mention_counts_for_any_type_of_event_and_for_edits() -> None:
    mentions = {"m.mentions": {"user_ids": [ALICE]}}
    assert outcome(event("org.example.poll", mentions)).highlight
    assert outcome(
        message(**mentions, **{"m.relates_to": {"rel_type": "m.replace", "event_id": "$e"}})
    ).highlight


@pytest.mark.parametrize(
    "mentions",
    [
        {"user_ids": ALICE},
        {"user_ids": {ALICE: True}},
        {"user_ids": ["@ALICE:a.example", 1, None]},
        [ALICE],
        "x",
    ],
)
def test_malformed_or_foreign_mentions_do_not_highlight(mentions: Any) -> None:
    assert not outcome(message(**{"m.mentions": mentions})).highlight


@pytest.mark.parametrize(
    ("level", "levels", "highlight"),
    [
        (50, {}, True),
        (49, {}, False),
        (0, {"room": 0}, True),
        (99, {"room": 100}, False),
        (50, {"room": "0"}, True),
    ],
)
def test_is_room_mention_needs_the_power_to_notify_the_room(
    level: int, levels: dict[str, Any], highlight: bool
) -> None:
    context = PushContext(member_count=5, sender_power_level=level, notification_levels=levels)
    result = outcome(message(**{"m.mentions": {"room": True}}), context)
    assert result.highlight is highlight
    assert result.actions == (("notify", HIGHLIGHT) if highlight else ("notify",))


@pytest.mark.parametrize("room", [1, "true", None, [True]])
def test_is_room_mention_wants_true_itself(room: Any) -> None:
    context = PushContext(member_count=5, sender_power_level=100)
    assert not outcome(message(**{"m.mentions": {"room": room}}), context).highlight


def test_tombstone() -> None:
    assert outcome(event("m.room.tombstone", {}, state_key="")).actions == ("notify", HIGHLIGHT)
    assert not outcome(event("m.room.tombstone", {}, state_key="x")).notify
    assert not outcome(event("m.room.tombstone", {})).notify


def test_reaction_is_silent_even_in_a_room_of_two() -> None:
    reaction = event(
        "m.reaction", {"m.relates_to": {"rel_type": "m.annotation", "event_id": "$e", "key": "+"}}
    )
    assert not outcome(reaction, TWO).notify


def test_server_acl_is_silent() -> None:
    assert not outcome(event("m.room.server_acl", {"allow": ["*"]}, state_key="")).notify


def test_suppress_edits() -> None:
    relation = {"rel_type": "m.replace", "event_id": "$e"}
    assert not outcome(message(**{"m.relates_to": relation})).notify
    assert not outcome(event("m.room.encrypted", {"m.relates_to": relation}), TWO).notify
    assert outcome(message(**{"m.relates_to": {"rel_type": "m.thread", "event_id": "$e"}})).notify


def test_call_rings() -> None:
    assert outcome(event("m.call.invite", {})).actions == ("notify", {"set_tweak": "sound", "value": "ring"})


@pytest.mark.parametrize("type", ["m.room.message", "m.room.encrypted"])
def test_rooms_of_two_sound_and_others_only_notify(type: str) -> None:
    assert outcome(event(type, {}), TWO).actions == ("notify", SOUND)
    assert outcome(event(type, {}), GROUP).actions == ("notify",)
    assert outcome(event(type, {}), PushContext(member_count=1)).actions == ("notify",)


def test_anything_else_is_silent() -> None:
    for type, state_key in [("m.room.topic", ""), ("m.room.power_levels", ""), ("org.example.x", None)]:
        assert outcome(event(type, {"body": "alice"}, state_key=state_key), TWO) == Outcome(False, False, ())


def test_own_messages_never_notify() -> None:
    own = event("m.room.message", {"body": "me", "m.mentions": {"user_ids": [ALICE]}}, sender=ALICE)
    assert not outcome(own, TWO).notify


def test_event_type_matches_in_any_case() -> None:
    assert outcome(event("M.Room.Message", {})).notify
    assert may_notify(event("M.Room.Message", {}))


def test_users_id_is_taken_literally() -> None:
    star = "@*:a.example"
    invite = event("m.room.member", {"membership": "invite"}, state_key=ALICE)
    assert not compile_rules(NO_CHANGES, star).evaluate(invite, GROUP).notify
