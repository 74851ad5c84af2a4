"""Authorisation of everything but memberships and power levels, rule by rule.

The numbers are version 11's unless another version is named.
"""

from __future__ import annotations

from typing import Any

import pytest

from federation.auth_rules import AuthState, check_event, redaction_applies
from federation.errors import Rejected
from federation.event import PDU
from federation.room_versions import ROOM_VERSIONS
from tests.federation.rooms import ALICE, ALL_VERSIONS, BOB, NEW_USER, Room, levels, new_room, versions_with

every_version = pytest.mark.parametrize("version_id", ALL_VERSIONS)


def create_refusal(version_id: str, content: dict[str, Any], **rest: Any) -> str | None:
    """The rule that refuses a create event by Alice, with a creator unless the content has one."""
    room = Room(version_id)
    if room.version.creator_in_content:
        content = {"creator": ALICE} | content
    event = room.make("m.room.create", ALICE, content, "", **({"prev_events": ()} | rest))
    try:
        check_event(event, AuthState(room.version, {}))
    except Rejected as rejection:
        return rejection.rule
    return None


class TestCreate:
    """Rule 1."""

    @every_version
    def test_needs_no_state(self, version_id: str) -> None:
        assert create_refusal(version_id, {"room_version": version_id}) is None
        assert create_refusal(version_id, {}) is None

    @every_version
    def test_has_no_previous_events(self, version_id: str) -> None:
        assert create_refusal(version_id, {}, prev_events=()) is None
        assert create_refusal(version_id, {}, prev_events=("$before",)) == "create.prev_events"

    @pytest.mark.parametrize("version_id", versions_with(room_id_is_create_hash=False))
    def test_room_id_is_of_the_senders_server(self, version_id: str) -> None:
        assert create_refusal(version_id, {}, room_id="!room:a.example") is None
        assert create_refusal(version_id, {}, room_id="!room:b.example") == "create.room_id_domain"
        assert create_refusal(version_id, {}, room_id="!room") == "create.room_id_domain"

    @pytest.mark.parametrize("version_id", versions_with(room_id_is_create_hash=True))
    def test_has_no_room_id_where_it_is_the_hash(self, version_id: str) -> None:
        room = Room(version_id)
        assert room.refusal(room.create) is None
        room.create.json["room_id"] = room.room_id
        assert room.refusal(room.create) == "create.room_id"

    @every_version
    def test_room_version_is_a_known_one(self, version_id: str) -> None:
        assert create_refusal(version_id, {"room_version": "1"}) is None
        for unknown in ("0", "org.example.unknown", 1, None, ["1"]):
            assert create_refusal(version_id, {"room_version": unknown}) == "create.room_version"

    @every_version
    def test_names_its_creator_until_version_10(self, version_id: str) -> None:
        room = Room(version_id)
        assert room.refusal(room.create) is None
        room.create.content.pop("creator", None)
        required = ROOM_VERSIONS[version_id].creator_in_content
        assert room.refusal(room.create) == ("create.no_creator" if required else None)

    @pytest.mark.parametrize("version_id", versions_with(privileged_creators=True))
    def test_additional_creators_are_user_ids(self, version_id: str) -> None:
        for good in ([], [BOB], [BOB, "@Old Style:c.example"]):
            assert create_refusal(version_id, {"additional_creators": good}) is None
        for bad in (None, BOB, {BOB: 1}, [1], [BOB, None], ["bob"], ["@bob"], ["@bob:"], ["#bob:b.example"]):
            rule = create_refusal(version_id, {"additional_creators": bad})
            assert rule == "create.additional_creators"

    def test_additional_creators_mean_nothing_before_version_12(self) -> None:
        assert create_refusal("11", {"additional_creators": "whoever"}) is None


@every_version
def test_a_room_without_a_create_event_accepts_nothing(version_id: str) -> None:
    room = new_room(version_id)
    event = room.make("m.room.message", ALICE)
    assert room.refusal(event) is None
    del room.state["m.room.create", ""]
    assert room.refusal(event) == "state.no_create"


@every_version
class TestFederate:
    """Rule 3."""

    @pytest.mark.parametrize(
        "content", [{}, {"m.federate": True}, {"m.federate": "false"}, {"m.federate": 0}]
    )
    def test_a_federated_room_is_open_to_other_servers(
        self, version_id: str, content: dict[str, Any]
    ) -> None:
        room = new_room(version_id, **content)
        assert room.refusal(room.make("m.room.member", BOB, {"membership": "join"}, BOB)) is None

    def test_an_unfederated_room_is_for_its_own_server(self, version_id: str) -> None:
        room = new_room(version_id, **{"m.federate": False})
        neighbour = "@bob:a.example"
        assert room.refusal(room.make("m.room.message", ALICE)) is None
        assert room.refusal(room.make("m.room.member", neighbour, {"membership": "join"}, neighbour)) is None
        assert room.refusal(room.make("m.room.member", BOB, {"membership": "join"}, BOB)) == "federate"
        room.member(BOB, "join")
        assert room.refusal(room.make("m.room.message", BOB)) == "federate"


class TestAliases:
    """Rule 4 until v5."""

    @pytest.mark.parametrize("version_id", versions_with(special_case_aliases_auth=True))
    def test_are_set_by_a_server_for_itself_from_outside_too(self, version_id: str) -> None:
        room = new_room(version_id)
        assert room.refusal(room.make("m.room.aliases", BOB, {}, "b.example")) is None
        assert room.refusal(room.make("m.room.aliases", BOB, {}, "a.example")) == "aliases.domain"
        assert room.refusal(room.make("m.room.aliases", BOB, {}, "")) == "aliases.domain"
        assert room.refusal(room.make("m.room.aliases", BOB, {})) == "aliases.no_state_key"

    @pytest.mark.parametrize("version_id", versions_with(special_case_aliases_auth=False))
    def test_are_state_like_any_other_since(self, version_id: str) -> None:
        room = new_room(version_id)
        aliases = room.make("m.room.aliases", BOB, {}, "b.example")
        assert room.refusal(aliases) == "sender.not_joined"
        room.member(BOB, "join")
        assert room.refusal(aliases) == "event.power"
        room.put("m.room.power_levels", ALICE, levels(room, users={BOB: 50}))
        assert room.refusal(aliases) is None


@every_version
class TestSender:
    """Rule 5."""

    @pytest.mark.parametrize("membership", ["leave", "invite", "ban", "knock"])
    def test_must_have_joined(self, version_id: str, membership: str) -> None:
        room = new_room(version_id)
        message = room.make("m.room.message", BOB)
        assert room.refusal(message) == "sender.not_joined"
        room.member(BOB, "join")
        assert room.refusal(message) is None
        room.member(BOB, membership, ALICE)
        assert room.refusal(message) == "sender.not_joined"

    @pytest.mark.parametrize("membership", [None, 1, ["join"]])
    def test_has_not_joined_by_a_membership_of_another_type(self, version_id: str, membership: Any) -> None:
        room = new_room(version_id)
        room.member(BOB, membership)
        assert room.refusal(room.make("m.room.message", BOB)) == "sender.not_joined"


@every_version
class TestThirdPartyInvite:
    """Rule 6."""

    def test_needs_the_invite_level_and_no_other(self, version_id: str) -> None:
        room = new_room(version_id)
        room.member(BOB, "join")
        event = room.make("m.room.third_party_invite", BOB, {}, "token")
        assert room.refusal(event) is None
        room.put("m.room.power_levels", ALICE, levels(room, invite=1))
        assert room.refusal(event) == "third_party_invite.power"
        room.put("m.room.power_levels", ALICE, levels(room, invite=1, users={BOB: 1}, state_default=99))
        assert room.refusal(event) is None

    def test_needs_a_joined_sender(self, version_id: str) -> None:
        room = new_room(version_id)
        event = room.make("m.room.third_party_invite", BOB, {}, "token")
        assert room.refusal(event) == "sender.not_joined"


@every_version
class TestRequiredPower:
    """Rule 7."""

    def test_of_a_message_is_events_default(self, version_id: str) -> None:
        room = new_room(version_id)
        room.member(BOB, "join")
        message = room.make("m.room.message", BOB)
        assert room.refusal(message) is None
        room.put("m.room.power_levels", ALICE, levels(room, events_default=1))
        assert room.refusal(message) == "event.power"
        room.put("m.room.power_levels", ALICE, levels(room, events_default=1, users_default=1))
        assert room.refusal(message) is None

    def test_of_state_is_state_default(self, version_id: str) -> None:
        room = new_room(version_id)
        room.member(BOB, "join")
        topic = room.make("m.room.topic", BOB, {}, "")
        assert room.refusal(topic) == "event.power"
        room.put("m.room.power_levels", ALICE, levels(room, users={BOB: 50}))
        assert room.refusal(topic) is None
        room.put("m.room.power_levels", ALICE, levels(room, users={BOB: 50}, state_default=51))
        assert room.refusal(topic) == "event.power"

    def test_of_a_listed_type_is_its_own(self, version_id: str) -> None:
        room = new_room(version_id)
        room.member(BOB, "join")
        topic, message = room.make("m.room.topic", BOB, {}, ""), room.make("m.room.message", BOB)
        room.put("m.room.power_levels", ALICE, levels(room, events={"m.room.topic": 0, "m.room.message": 1}))
        assert room.refusal(topic) is None
        assert room.refusal(message) == "event.power"

    def test_without_power_levels_the_creator_alone_sets_state(self, version_id: str) -> None:
        room = Room(version_id)
        room.member(ALICE, "join")
        room.member(BOB, "join")
        assert room.refusal(room.make("m.room.topic", ALICE, {}, "")) is None
        assert room.refusal(room.make("m.room.topic", BOB, {}, "")) == "event.power"
        assert room.refusal(room.make("m.room.message", BOB)) is None


@pytest.mark.parametrize("version_id", versions_with(privileged_creators=True))
class TestPrivilegedCreators:
    """v12: "The power level of room creators is infinitely high." """

    def test_can_do_what_no_number_allows(self, version_id: str) -> None:
        room = new_room(version_id, additional_creators=[BOB])
        room.member(BOB, "join")
        highest = 2**53 - 1
        room.put(
            "m.room.power_levels",
            ALICE,
            {"users": {NEW_USER: highest - 1}, "events": {"m.room.tombstone": highest}},
        )
        room.member(NEW_USER, "join")
        for sender, refusal in ((ALICE, None), (BOB, None), (NEW_USER, "event.power")):
            assert room.refusal(room.make("m.room.tombstone", sender, {}, "")) == refusal


@every_version
class TestStateKeyOfAUser:
    """Rule 8."""

    def test_is_for_that_user_alone(self, version_id: str) -> None:
        room = new_room(version_id)
        room.member(BOB, "join")
        room.put("m.room.power_levels", ALICE, levels(room, events={"org.example.status": 0}))
        assert room.refusal(room.make("org.example.status", BOB, {}, BOB)) is None
        assert room.refusal(room.make("org.example.status", BOB, {}, ALICE)) == "state_key.other_user"
        assert room.refusal(room.make("org.example.status", ALICE, {}, BOB)) == "state_key.other_user"
        assert room.refusal(room.make("org.example.status", BOB, {}, "bob")) is None


class TestRedaction:
    """v1 rule 11; rooms/v3, "Handling redactions"."""

    @pytest.mark.parametrize("version_id", versions_with(redaction_auth_rule=True))
    def test_of_others_needs_the_redact_level_in_versions_1_and_2(self, version_id: str) -> None:
        room = new_room(version_id)
        room.member(BOB, "join")
        own = room.make("m.room.redaction", BOB, redacts="$message:b.example")
        others = room.make("m.room.redaction", BOB, redacts="$message:a.example")
        nothing = room.make("m.room.redaction", BOB)
        assert room.refusal(own) is None
        assert room.refusal(others) == room.refusal(nothing) == "redaction.power"
        room.put("m.room.power_levels", ALICE, levels(room, redact=0))
        assert room.refusal(others) is None

    @pytest.mark.parametrize("version_id", versions_with(redaction_auth_rule=False))
    def test_is_an_event_like_others_since(self, version_id: str) -> None:
        room = new_room(version_id)
        room.member(BOB, "join")
        redaction = room.make("m.room.redaction", BOB, {"redacts": "$message"})
        assert room.refusal(redaction) is None
        room.put("m.room.power_levels", ALICE, levels(room, events={"m.room.redaction": 1}))
        assert room.refusal(redaction) == "event.power"

    @staticmethod
    def applies(room: Room, sender: str, target: PDU, **rest: Any) -> bool:
        redaction = room.make("m.room.redaction", sender, redacts=target.event_id, **rest)
        return redaction_applies(redaction, target, room.auth_state().power_levels)

    @pytest.mark.parametrize("version_id", versions_with(redaction_auth_rule=False))
    def test_takes_effect_by_power_or_on_the_own_server(self, version_id: str) -> None:
        room = new_room(version_id)
        room.member(BOB, "join")
        of_alice, of_bob = room.make("m.room.message", ALICE), room.make("m.room.message", BOB)
        neighbour = "@new.user:b.example"
        assert self.applies(room, ALICE, of_bob)
        assert self.applies(room, neighbour, of_bob)
        assert not self.applies(room, BOB, of_alice)
        room.put("m.room.power_levels", ALICE, levels(room, redact=0))
        assert self.applies(room, BOB, of_alice)

    @pytest.mark.parametrize("version_id", versions_with(redaction_auth_rule=True))
    def test_takes_effect_once_authorised_in_versions_1_and_2(self, version_id: str) -> None:
        room = new_room(version_id)
        assert self.applies(room, BOB, room.make("m.room.message", ALICE))

    @every_version
    def test_takes_no_effect_on_another_event_or_in_another_room(self, version_id: str) -> None:
        room = new_room(version_id)
        first, second = room.make("m.room.message", ALICE), room.make("m.room.message", ALICE)
        redaction = room.make("m.room.redaction", ALICE, redacts=first.event_id)
        power_levels = room.auth_state().power_levels
        assert redaction_applies(redaction, first, power_levels)
        assert not redaction_applies(redaction, second, power_levels)
        assert not self.applies(room, ALICE, first, room_id="!other:a.example")


class TestAuthState:
    def test_follows_the_state_that_it_looks_at(self) -> None:
        room = new_room("11")
        room.member(BOB, "join")
        state = room.auth_state()
        assert state.power_levels is state.power_levels
        assert state.power_levels.for_user(BOB) == 0
        room.put("m.room.power_levels", ALICE, levels(room, users={BOB: 50}))
        assert state.power_levels.for_user(BOB) == 50
        del room.state["m.room.power_levels", ""]
        assert state.power_levels.for_user(BOB) == 0
        assert state.power_levels.for_user(ALICE) == 100

    def test_reads_the_same_event_once_even_from_another_object(self) -> None:
        room = new_room("11")
        state = room.auth_state()
        before = state.power_levels
        original = room.state["m.room.power_levels", ""]
        room.put("m.room.power_levels", ALICE, original.content)
        room.state["m.room.power_levels", ""].event_id = original.event_id
        assert state.power_levels is before

    def test_join_rule_is_invite_without_join_rules(self) -> None:
        room = Room("11")
        assert room.auth_state().join_rule == "invite"
        room.put("m.room.join_rules", ALICE, {"join_rule": 7})
        assert room.auth_state().join_rule == "invite"
        room.put("m.room.join_rules", ALICE, {"join_rule": "public"})
        assert room.auth_state().join_rule == "public"

    def test_member_gives_the_event(self) -> None:
        room = new_room("11")
        assert room.auth_state().member(ALICE) is room.state["m.room.member", ALICE]
        assert room.auth_state().member(BOB) is None
