"""Auth events: their selection, and the rules on what an event cites (rule 2; rules 2 and 3 in v12)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from federation.auth_events import auth_event_keys, check_auth_events, select_auth_events
from federation.errors import Rejected
from federation.event import PDU, JsonObject, StateKey
from federation.room_versions import ROOM_VERSIONS
from tests.federation.rooms import ALICE, ALL_VERSIONS, BOB, NEW_USER, Room, new_room, versions_with

CREATE = ("m.room.create", "")
POWER_LEVELS = ("m.room.power_levels", "")
JOIN_RULES = ("m.room.join_rules", "")


def keys_for(version_id: str, membership: str, **content: object) -> set[StateKey]:
    """The keys of a member event by Alice on Bob, without those that every event has."""
    version = ROOM_VERSIONS[version_id]
    body: JsonObject = {"membership": membership, **content}
    keys = auth_event_keys(version, "m.room.member", BOB, ALICE, body)
    assert len(keys) == len(set(keys))
    return set(keys) - {CREATE, POWER_LEVELS, ("m.room.member", ALICE), ("m.room.member", BOB)}


def refusal(
    room: Room, event: PDU, auth_events: Sequence[PDU] | None = None, create: PDU | None = None
) -> str | None:
    cited = [room.events[event_id] for event_id in event.auth_events] if auth_events is None else auth_events
    try:
        check_auth_events(event, cited, room.rejected, create or room.create)
    except Rejected as rejection:
        return rejection.rule
    return None


class TestSelection:
    @pytest.mark.parametrize("version_id", ALL_VERSIONS)
    def test_nothing_for_a_create_event(self, version_id: str) -> None:
        assert auth_event_keys(ROOM_VERSIONS[version_id], "m.room.create", "", ALICE, {}) == []

    @pytest.mark.parametrize("version_id", versions_with(room_id_is_create_hash=False))
    def test_create_power_levels_and_sender_for_a_message(self, version_id: str) -> None:
        keys = auth_event_keys(ROOM_VERSIONS[version_id], "m.room.message", None, ALICE, {})
        assert set(keys) == {CREATE, POWER_LEVELS, ("m.room.member", ALICE)}

    @pytest.mark.parametrize("version_id", versions_with(room_id_is_create_hash=True))
    def test_no_create_event_where_the_room_id_names_it(self, version_id: str) -> None:
        keys = auth_event_keys(ROOM_VERSIONS[version_id], "m.room.message", None, ALICE, {})
        assert set(keys) == {POWER_LEVELS, ("m.room.member", ALICE)}

    def test_the_target_of_a_membership(self) -> None:
        keys = auth_event_keys(ROOM_VERSIONS["11"], "m.room.member", BOB, ALICE, {"membership": "ban"})
        assert set(keys) == {CREATE, POWER_LEVELS, ("m.room.member", ALICE), ("m.room.member", BOB)}

    @pytest.mark.parametrize("membership", ["join", "invite", "knock"])
    def test_join_rules_for_whoever_wants_in(self, membership: str) -> None:
        assert keys_for("11", membership) == {JOIN_RULES}

    @pytest.mark.parametrize("membership", ["leave", "ban", "dance"])
    def test_no_join_rules_on_the_way_out(self, membership: str) -> None:
        assert keys_for("11", membership) == set()

    def test_the_third_party_invite_by_its_token(self) -> None:
        invite = {"signed": {"token": "abc", "mxid": BOB}}
        assert keys_for("11", "invite", third_party_invite=invite) == {
            JOIN_RULES,
            ("m.room.third_party_invite", "abc"),
        }
        assert keys_for("11", "join", third_party_invite=invite) == {JOIN_RULES}

    @pytest.mark.parametrize(
        "invite", [None, "abc", [], {}, {"signed": []}, {"signed": {}}, {"signed": {"token": 1}}]
    )
    def test_a_third_party_invite_without_a_token_selects_nothing(self, invite: object) -> None:
        assert keys_for("11", "invite", third_party_invite=invite) == {JOIN_RULES}

    @pytest.mark.parametrize("version_id", ALL_VERSIONS)
    def test_the_authorising_user_where_joins_can_be_restricted(self, version_id: str) -> None:
        keys = keys_for(version_id, "join", join_authorised_via_users_server=NEW_USER)
        expected = {JOIN_RULES}
        if ROOM_VERSIONS[version_id].restricted_joins:
            expected.add(("m.room.member", NEW_USER))
        assert keys == expected

    def test_the_authorising_user_of_joins_only(self) -> None:
        assert keys_for("11", "invite", join_authorised_via_users_server=NEW_USER) == {JOIN_RULES}
        assert keys_for("11", "join", join_authorised_via_users_server=7) == {JOIN_RULES}
        assert keys_for("11", "join", join_authorised_via_users_server=BOB) == {JOIN_RULES}

    @pytest.mark.parametrize("membership", [None, 1, [], {}])
    def test_a_membership_of_another_type_selects_nothing_more(self, membership: object) -> None:
        content: JsonObject = {"membership": membership}
        keys = auth_event_keys(ROOM_VERSIONS["11"], "m.room.member", BOB, ALICE, content)
        assert JOIN_RULES not in keys

    def test_what_the_state_lacks_is_left_out(self) -> None:
        room = Room("11")
        selected = select_auth_events(room.version, "m.room.message", None, ALICE, {}, room.state.get)
        assert selected == [room.create]
        alice = room.member(ALICE, "join")
        selected = select_auth_events(room.version, "m.room.message", None, ALICE, {}, room.state.get)
        assert selected == [room.create, alice]


@pytest.mark.parametrize("version_id", ALL_VERSIONS)
class TestChecks:
    def test_what_was_selected_is_accepted(self, version_id: str) -> None:
        room = new_room(version_id)
        for event in (
            room.make("m.room.message", ALICE),
            room.make("m.room.member", ALICE, {"membership": "invite"}, BOB),
            room.make("m.room.member", BOB, {"membership": "join"}, BOB),
        ):
            assert refusal(room, event) is None

    def test_duplicates_are_rejected(self, version_id: str) -> None:
        room = new_room(version_id)
        old = room.state[POWER_LEVELS]
        room.put("m.room.power_levels", ALICE, dict(old.content))
        event = room.make("m.room.message", ALICE)
        cited = [room.events[event_id] for event_id in event.auth_events]
        assert refusal(room, event, cited) is None
        assert refusal(room, event, [*cited, old]) == "auth_events.duplicate"
        assert refusal(room, event, [*cited, cited[-1]]) == "auth_events.duplicate"

    def test_entries_that_selection_does_not_ask_for_are_rejected(self, version_id: str) -> None:
        room = new_room(version_id)
        message = room.make("m.room.message", ALICE)
        cited = [room.events[event_id] for event_id in message.auth_events]
        join_rules = room.state[JOIN_RULES]
        assert refusal(room, message, [*cited, join_rules]) == "auth_events.not_selected"
        assert refusal(room, message, [*cited, message]) == "auth_events.not_selected"
        join = room.make("m.room.member", ALICE, {"membership": "join"}, ALICE)
        cited = [room.events[event_id] for event_id in join.auth_events]
        assert join_rules in cited
        assert refusal(room, join, cited) is None

    def test_rejected_entries_are_rejected(self, version_id: str) -> None:
        room = new_room(version_id)
        event = room.make("m.room.message", ALICE)
        assert refusal(room, event) is None
        room.rejected.add(room.state[POWER_LEVELS].event_id)
        assert refusal(room, event) == "auth_events.rejected"

    def test_entries_of_another_room_are_rejected(self, version_id: str) -> None:
        room, other = new_room(version_id), new_room(version_id)
        event = room.make("m.room.message", ALICE)
        cited = [room.events[event_id] for event_id in event.auth_events]
        assert refusal(room, event, cited) is None
        foreign = other.make(
            "m.room.member", ALICE, {"membership": "join"}, ALICE, room_id="!other:a.example"
        )
        assert refusal(room, event, [*cited[:-1], foreign]) == "auth_events.other_room"

    def test_create_events_cite_nothing(self, version_id: str) -> None:
        room = Room(version_id)
        assert refusal(room, room.create) is None


@pytest.mark.parametrize("version_id", versions_with(room_id_is_create_hash=False))
def test_the_create_event_must_be_cited(version_id: str) -> None:
    room = new_room(version_id)
    event = room.make("m.room.message", ALICE)
    cited = [room.events[event_id] for event_id in event.auth_events]
    assert refusal(room, event, cited) is None
    assert refusal(room, event, [entry for entry in cited if entry is not room.create]) == (
        "auth_events.no_create"
    )


@pytest.mark.parametrize("version_id", versions_with(room_id_is_create_hash=True))
class TestRoomIdIsCreateHash:
    """v12 rules 2 and 3.2."""

    def test_the_create_event_must_not_be_cited(self, version_id: str) -> None:
        room = new_room(version_id)
        event = room.make("m.room.message", ALICE)
        cited = [room.events[event_id] for event_id in event.auth_events]
        assert room.create not in cited
        assert refusal(room, event, cited) is None
        assert refusal(room, event, [room.create, *cited]) == "auth_events.not_selected"

    def test_the_room_id_must_name_a_create_event(self, version_id: str) -> None:
        room = new_room(version_id)
        event = room.make("m.room.message", ALICE)
        assert refusal(room, event) is None
        assert refusal(room, event, create=room.state[POWER_LEVELS]) == "room_id.not_create"
        other = room.make("m.room.create", ALICE, {}, "", name="other")
        assert refusal(room, event, create=other) == "room_id.not_create"
        with pytest.raises(Rejected, match=r"room_id\.not_create"):
            check_auth_events(event, [room.events[i] for i in event.auth_events], ())

    def test_the_create_event_must_not_have_been_rejected(self, version_id: str) -> None:
        room = new_room(version_id)
        event = room.make("m.room.message", ALICE)
        assert refusal(room, event) is None
        room.rejected.add(room.create.event_id)
        assert refusal(room, event) == "room_id.create_rejected"

    def test_the_room_in_which_it_is_checked_must_be_the_one_it_names(self, version_id: str) -> None:
        room = new_room(version_id)
        assert room.refusal(room.make("m.room.message", ALICE)) is None
        stray = room.make("m.room.message", ALICE, room_id="!elsewhere")
        assert room.refusal(stray) == "room_id.not_create"
