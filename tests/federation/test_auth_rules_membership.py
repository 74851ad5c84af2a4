"""Authorisation of ``m.room.member``: rule 4 of v11, by its numbers, in all versions."""

from __future__ import annotations

from typing import Any

import pytest

from federation.keys import SigningKey
from federation.room_versions import ROOM_VERSIONS
from federation.signing import sign_json
from tests.federation.rooms import ALICE, ALL_VERSIONS, BOB, NEW_USER, Room, levels, new_room, versions_with

every_version = pytest.mark.parametrize("version_id", ALL_VERSIONS)


def member(
    room: Room, user_id: str, membership: Any, sender: str | None = None, **content: Any
) -> str | None:
    """The refusal of a membership, by the user themself unless ``sender`` is given."""
    event = room.make("m.room.member", sender or user_id, {"membership": membership, **content}, user_id)
    return room.refusal(event)


def give_power(room: Room, **content: Any) -> None:
    """Put power levels; ``users`` by whole ID."""
    room.put("m.room.power_levels", ALICE, levels(room, **content))


def set_join_rule(room: Room, join_rule: Any) -> None:
    room.put("m.room.join_rules", ALICE, {"join_rule": join_rule})


@every_version
class TestShape:
    """Rules 4.1 and 4.8."""

    def test_4_1_has_a_state_key_and_a_membership(self, version_id: str) -> None:
        room = new_room(version_id)
        assert member(room, BOB, "join") is None
        without_key = room.make("m.room.member", BOB, {"membership": "join"})
        assert room.refusal(without_key) == "member.no_state_key"
        assert room.refusal(room.make("m.room.member", BOB, {}, BOB)) == "member.no_membership"

    def test_4_8_membership_is_a_known_one(self, version_id: str) -> None:
        room = new_room(version_id)
        for unknown in ("dance", "", None, 1, ["join"]):
            assert member(room, BOB, unknown) == "member.unknown_membership"
        knock = "member.knock.join_rule" if room.version.knocking else "member.unknown_membership"
        assert member(room, BOB, "knock") == knock


@every_version
class TestJoin:
    """Rule 4.3."""

    def test_4_3_1_of_the_creator_right_after_the_create_event(self, version_id: str) -> None:
        room = Room(version_id)
        assert member(room, ALICE, "join") is None
        assert member(room, BOB, "join") == "member.join.not_invited"
        room.put("m.room.topic", ALICE)
        assert member(room, ALICE, "join") == "member.join.not_invited"

    def test_4_3_1_goes_by_the_content_until_version_10(self, version_id: str) -> None:
        room = Room(version_id)
        room.create.content["creator"] = BOB
        by_content = ROOM_VERSIONS[version_id].creator_in_content
        assert member(room, BOB, "join") == (None if by_content else "member.join.not_invited")
        assert member(room, ALICE, "join") == ("member.join.not_invited" if by_content else None)

    def test_4_3_1_needs_the_create_event_as_the_only_previous_one(self, version_id: str) -> None:
        room = Room(version_id)
        content = {"membership": "join"}
        for prev_events, refusal in (
            ((room.create.event_id,), None),
            ((room.create.event_id, "$other"), "member.join.not_invited"),
            ((), "member.join.not_invited"),
        ):
            event = room.make("m.room.member", ALICE, content, ALICE, prev_events=prev_events)
            assert room.refusal(event) == refusal

    def test_4_3_2_is_by_the_user_themself(self, version_id: str) -> None:
        room = new_room(version_id)
        assert member(room, BOB, "join") is None
        assert member(room, BOB, "join", ALICE) == "member.join.sender_mismatch"

    @pytest.mark.parametrize("join_rule", ["public", "invite", "knock", "restricted", "knock_restricted"])
    def test_4_3_3_is_not_for_the_banned(self, version_id: str, join_rule: str) -> None:
        room = new_room(version_id, join_rule=join_rule)
        room.member(BOB, "ban", ALICE)
        assert member(room, BOB, "join") == "member.join.banned"

    def test_4_3_4_by_invitation(self, version_id: str) -> None:
        room = new_room(version_id, join_rule="invite")
        assert member(room, BOB, "join") == "member.join.not_invited"
        room.member(BOB, "invite", ALICE)
        assert member(room, BOB, "join") is None
        room.member(BOB, "join")
        assert member(room, BOB, "join", displayname="Bob") is None
        room.member(BOB, "leave")
        assert member(room, BOB, "join") == "member.join.not_invited"

    def test_4_3_4_by_invitation_after_a_knock(self, version_id: str) -> None:
        room = new_room(version_id, join_rule="knock")
        known = room.version.knocking
        assert member(room, BOB, "join") == ("member.join.not_invited" if known else "member.join.join_rule")
        room.member(BOB, "knock")
        assert member(room, BOB, "join") is not None
        room.member(BOB, "invite", ALICE)
        assert member(room, BOB, "join") == (None if known else "member.join.join_rule")

    @pytest.mark.parametrize(("join_rule", "flag"), [
        ("restricted", "restricted_joins"), ("knock_restricted", "knock_restricted"),
    ])  # fmt: skip
    def test_4_3_5_by_what_a_member_vouches_for(self, version_id: str, join_rule: str, flag: str) -> None:
        room = new_room(version_id, join_rule=join_rule)
        vouched = {"join_authorised_via_users_server": ALICE}
        signatures = {"a.example": {"ed25519:1": "…"}}

        def join(**content: Any) -> str | None:
            body = {"membership": "join", **content}
            return room.refusal(room.make("m.room.member", BOB, body, BOB, signatures=signatures))

        if not getattr(room.version, flag):
            assert join(**vouched) == "member.join.join_rule"
            room.member(BOB, "invite", ALICE)
            assert join() == "member.join.join_rule"
            return
        # 4.3.5.3: "Otherwise, allow."
        assert join(**vouched) is None
        # 4.3.5.2: the key must be there, its user joined, and with power to invite.
        assert join() == "member.join.not_authorised"
        room.member(NEW_USER, "join")
        vouched = {"join_authorised_via_users_server": NEW_USER}
        signatures["c.example"] = {"ed25519:1": "…"}
        assert join(**vouched) is None
        give_power(room, invite=1)
        assert join(**vouched) == "member.join.authorising_user_power"
        give_power(room, invite=1, users={NEW_USER: 1})
        assert join(**vouched) is None
        room.member(NEW_USER, "leave")
        assert join(**vouched) == "member.join.authorising_user_not_joined"
        # 4.3.5.1: "If membership state is join or invite, allow."
        for membership in ("invite", "join"):
            room.member(BOB, membership, ALICE)
            assert join() is None

    def test_4_3_6_is_free_in_a_public_room(self, version_id: str) -> None:
        room = new_room(version_id, join_rule="public")
        assert member(room, BOB, "join") is None
        room.member(BOB, "leave")
        assert member(room, BOB, "join") is None

    @pytest.mark.parametrize("join_rule", ["private", "", "org.example.unknown"])
    def test_4_3_7_is_refused_by_any_other_rule(self, version_id: str, join_rule: str) -> None:
        room = new_room(version_id, join_rule=join_rule)
        room.member(BOB, "invite", ALICE)
        assert member(room, BOB, "join") == "member.join.join_rule"

    @pytest.mark.parametrize("join_rule", [None, 7, ["public"]])
    def test_a_join_rule_of_another_type_counts_as_invite(self, version_id: str, join_rule: Any) -> None:
        room = new_room(version_id, join_rule=join_rule)
        assert member(room, BOB, "join") == "member.join.not_invited"


class TestAuthorisingServer:
    """Rule 4.2 (v8)."""

    @staticmethod
    def refusal(version_id: str, user_id: Any, signatures: Any, membership: str = "join") -> str | None:
        room = new_room(version_id)
        content = {"membership": membership, "join_authorised_via_users_server": user_id}
        event = room.make("m.room.member", BOB, content, BOB, signatures=signatures)
        return room.refusal(event)

    @pytest.mark.parametrize("version_id", versions_with(restricted_joins=True))
    def test_must_have_signed(self, version_id: str) -> None:
        signed, by_bob = {"a.example": {"ed25519:1": "…"}}, {"b.example": {"ed25519:1": "…"}}
        assert self.refusal(version_id, ALICE, signed) is None
        for without in (by_bob, {}, {"a.example": {}}, None, []):
            assert self.refusal(version_id, ALICE, without) == "member.authorising_server_not_signed"

    @pytest.mark.parametrize("version_id", versions_with(restricted_joins=True))
    def test_must_have_signed_other_memberships_too(self, version_id: str) -> None:
        for membership in ("invite", "leave", "ban", "knock"):
            rule = self.refusal(version_id, ALICE, {}, membership)
            assert rule == "member.authorising_server_not_signed"

    @pytest.mark.parametrize("version_id", versions_with(restricted_joins=True))
    @pytest.mark.parametrize("user_id", [None, 1, "", "alice", "@alice", ["@alice:a.example"]])
    def test_must_be_that_of_a_user(self, version_id: str, user_id: Any) -> None:
        rule = self.refusal(version_id, user_id, {"a.example": {"ed25519:1": "…"}})
        assert rule == "member.authorising_user_invalid"

    @pytest.mark.parametrize("version_id", versions_with(restricted_joins=False))
    def test_means_nothing_before_version_8(self, version_id: str) -> None:
        assert self.refusal(version_id, "whoever", {}) is None


@every_version
class TestInvite:
    """Rules 4.4.2 to 4.4.5."""

    def test_4_4_2_is_by_a_joined_member(self, version_id: str) -> None:
        room = new_room(version_id)
        assert member(room, NEW_USER, "invite", ALICE) is None
        assert member(room, NEW_USER, "invite", BOB) == "member.invite.sender_not_joined"
        room.member(BOB, "join")
        assert member(room, NEW_USER, "invite", BOB) is None

    def test_4_4_3_is_of_somebody_neither_joined_nor_banned(self, version_id: str) -> None:
        room = new_room(version_id)
        for membership in ("leave", "invite", "knock"):
            room.member(BOB, membership, ALICE)
            assert member(room, BOB, "invite", ALICE) is None
        for membership in ("join", "ban"):
            room.member(BOB, membership, ALICE)
            assert member(room, BOB, "invite", ALICE) == "member.invite.target_joined_or_banned"

    def test_4_4_4_needs_the_invite_level(self, version_id: str) -> None:
        room = new_room(version_id)
        room.member(BOB, "join")
        give_power(room, invite=10, users={BOB: 9})
        assert member(room, NEW_USER, "invite", BOB) == "member.invite.power"
        give_power(room, invite=10, users={BOB: 10})
        assert member(room, NEW_USER, "invite", BOB) is None


@every_version
class TestThirdPartyInvite:
    """Rule 4.4.1."""

    KEY, OTHER_KEY = SigningKey.generate(), SigningKey.generate()

    def room(self, version_id: str, **content: Any) -> Room:
        """A room where Alice invited somebody by e-mail, under the token ``tok``."""
        room = new_room(version_id, join_rule="invite")
        content = content or {"public_key": self.KEY.verify_key_base64}
        room.put("m.room.third_party_invite", ALICE, content, "tok")
        return room

    def signed(self, key: SigningKey | None = None, **changed: Any) -> dict[str, Any]:
        body = {"mxid": BOB, "token": "tok", "sender": ALICE} | changed
        return sign_json(body, "identity.example", key or self.KEY)

    def refusal(self, room: Room, invite: Any, sender: str = ALICE) -> str | None:
        return member(room, BOB, "invite", sender, third_party_invite=invite)

    def test_4_4_1_7_is_allowed_by_a_signature(self, version_id: str) -> None:
        assert self.refusal(self.room(version_id), {"signed": self.signed()}) is None

    def test_4_4_1_7_is_allowed_by_a_signature_with_any_listed_key(self, version_id: str) -> None:
        keys = [{"public_key": key.verify_key_base64} for key in (self.OTHER_KEY, self.KEY)]
        room = self.room(version_id, public_keys=keys)
        assert self.refusal(room, {"signed": self.signed()}) is None
        assert self.refusal(room, {"signed": self.signed(self.OTHER_KEY)}) is None
        room = self.room(version_id, public_key=self.OTHER_KEY.verify_key_base64, public_keys=keys[1:])
        assert self.refusal(room, {"signed": self.signed()}) is None

    def test_4_4_1_7_is_allowed_to_a_sender_without_power_or_membership(self, version_id: str) -> None:
        room = self.room(version_id)
        room.member(ALICE, "leave")
        give_power(room, invite=101)
        assert self.refusal(room, {"signed": self.signed()}) is None

    def test_4_4_1_1_is_not_for_the_banned(self, version_id: str) -> None:
        room = self.room(version_id)
        room.member(BOB, "ban", ALICE)
        assert self.refusal(room, {"signed": self.signed()}) == "member.invite.third_party.banned"

    def test_4_4_1_2_has_a_signed_object(self, version_id: str) -> None:
        room = self.room(version_id)
        for wrong in ({}, None, "signed", {"signed": None}, {"signed": "yes"}):
            assert self.refusal(room, wrong) == "member.invite.third_party.no_signed"

    def test_4_4_1_3_has_a_user_and_a_token(self, version_id: str) -> None:
        room = self.room(version_id)
        for missing in ("mxid", "token"):
            signed = self.signed()
            del signed[missing]
            rule = self.refusal(room, {"signed": signed})
            assert rule == "member.invite.third_party.no_mxid_or_token"
        rule = self.refusal(room, {"signed": self.signed(token=1)})
        assert rule == "member.invite.third_party.no_mxid_or_token"

    def test_4_4_1_4_is_of_the_user_that_was_signed_for(self, version_id: str) -> None:
        rule = self.refusal(self.room(version_id), {"signed": self.signed(mxid=NEW_USER)})
        assert rule == "member.invite.third_party.mxid_mismatch"

    def test_4_4_1_5_is_of_a_token_in_the_room(self, version_id: str) -> None:
        rule = self.refusal(self.room(version_id), {"signed": self.signed(token="other")})
        assert rule == "member.invite.third_party.unknown_token"

    def test_4_4_1_6_is_by_whoever_invited_by_address(self, version_id: str) -> None:
        room = self.room(version_id)
        room.member(NEW_USER, "join")
        rule = self.refusal(room, {"signed": self.signed()}, NEW_USER)
        assert rule == "member.invite.third_party.sender_mismatch"

    def test_4_4_1_8_is_refused_without_a_matching_signature(self, version_id: str) -> None:
        room = self.room(version_id)
        tampered = self.signed() | {"sender": BOB}
        for signed in (
            self.signed(self.OTHER_KEY), tampered, self.signed() | {"signatures": {}},
            self.signed() | {"signatures": None},
        ):  # fmt: skip
            assert self.refusal(room, {"signed": signed}) == "member.invite.third_party.signature"
        for keys in ({"public_key": "?"}, {"public_key": 1}, {"public_keys": [None, {"public_key": "?"}]}):
            rule = self.refusal(self.room(version_id, **keys), {"signed": self.signed()})
            assert rule == "member.invite.third_party.signature"


@every_version
class TestLeave:
    """Rule 4.5."""

    def test_4_5_1_is_for_whoever_is_in_or_asked_in(self, version_id: str) -> None:
        room = new_room(version_id)
        assert member(room, BOB, "leave") == "member.leave.not_in_room"
        for membership in ("join", "invite"):
            room.member(BOB, membership, ALICE)
            assert member(room, BOB, "leave") is None
        for membership in ("leave", "ban"):
            room.member(BOB, membership, ALICE)
            assert member(room, BOB, "leave") == "member.leave.not_in_room"
        room.member(BOB, "knock")
        expected = None if room.version.knocking else "member.leave.not_in_room"
        assert member(room, BOB, "leave") == expected

    def test_4_5_2_kicks_are_by_a_joined_member(self, version_id: str) -> None:
        room = new_room(version_id)
        room.member(BOB, "join")
        assert member(room, BOB, "leave", ALICE) is None
        room.member(ALICE, "leave")
        assert member(room, BOB, "leave", ALICE) == "member.leave.sender_not_joined"

    def test_4_5_3_unbans_need_the_ban_level(self, version_id: str) -> None:
        room = new_room(version_id)
        room.member(BOB, "join")
        room.member(NEW_USER, "ban", ALICE)
        give_power(room, ban=60, kick=50, users={BOB: 59})
        assert member(room, NEW_USER, "leave", BOB) == "member.leave.unban_power"
        give_power(room, ban=60, kick=50, users={BOB: 60})
        assert member(room, NEW_USER, "leave", BOB) is None
        # "To unban somebody, you must have power level greater than or equal to both the kick and ban
        # levels, and greater than the target user's power level."
        give_power(room, ban=60, kick=61, users={BOB: 60})
        assert member(room, NEW_USER, "leave", BOB) == "member.leave.kick_power"
        give_power(room, ban=60, kick=50, users={BOB: 60, NEW_USER: 60})
        assert member(room, NEW_USER, "leave", BOB) == "member.leave.target_power"

    @pytest.mark.parametrize("membership", ["join", "invite", "knock", "leave"])
    def test_4_5_4_kicks_need_the_kick_level_and_more_than_the_target(
        self, version_id: str, membership: str
    ) -> None:
        room = new_room(version_id)
        room.member(BOB, "join")
        room.member(NEW_USER, membership, ALICE)
        give_power(room, kick=50, users={BOB: 49})
        assert member(room, NEW_USER, "leave", BOB) == "member.leave.kick_power"
        give_power(room, kick=50, users={BOB: 50})
        assert member(room, NEW_USER, "leave", BOB) is None
        for target in (50, 51):
            give_power(room, kick=50, users={BOB: 50, NEW_USER: target})
            assert member(room, NEW_USER, "leave", BOB) == "member.leave.target_power"
        assert member(room, ALICE, "leave", BOB) == "member.leave.target_power"


@every_version
class TestBan:
    """Rule 4.6."""

    def test_4_6_1_is_by_a_joined_member(self, version_id: str) -> None:
        room = new_room(version_id)
        assert member(room, BOB, "ban", ALICE) is None
        room.member(ALICE, "leave")
        assert member(room, BOB, "ban", ALICE) == "member.ban.sender_not_joined"

    @pytest.mark.parametrize("membership", ["join", "invite", "knock", "leave", "ban"])
    def test_4_6_2_needs_the_ban_level_and_more_than_the_target(
        self, version_id: str, membership: str
    ) -> None:
        room = new_room(version_id)
        room.member(BOB, "join")
        room.member(NEW_USER, membership, ALICE)
        give_power(room, ban=50, users={BOB: 49})
        assert member(room, NEW_USER, "ban", BOB) == "member.ban.power"
        give_power(room, ban=50, users={BOB: 50})
        assert member(room, NEW_USER, "ban", BOB) is None
        for target in (50, 51):
            give_power(room, ban=50, users={BOB: 50, NEW_USER: target})
            assert member(room, NEW_USER, "ban", BOB) == "member.ban.target_power"
        assert member(room, ALICE, "ban", BOB) == "member.ban.target_power"


@pytest.mark.parametrize("version_id", versions_with(privileged_creators=True))
def test_creators_cannot_remove_each_other(version_id: str) -> None:
    room = new_room(version_id, additional_creators=[BOB])
    room.member(BOB, "join")
    assert member(room, BOB, "leave", ALICE) == "member.leave.target_power"
    assert member(room, ALICE, "ban", BOB) == "member.ban.target_power"
    assert member(room, NEW_USER, "ban", BOB) is None


@pytest.mark.parametrize("version_id", versions_with(knocking=True))
class TestKnock:
    """Rule 4.7 (v7)."""

    @pytest.mark.parametrize("join_rule", ["public", "invite", "private", "restricted"])
    def test_4_7_1_needs_a_join_rule_that_asks_for_it(self, version_id: str, join_rule: str) -> None:
        room = new_room(version_id, join_rule=join_rule)
        assert member(room, BOB, "knock") == "member.knock.join_rule"
        set_join_rule(room, "knock")
        assert member(room, BOB, "knock") is None

    def test_4_7_1_knock_restricted_from_version_10(self, version_id: str) -> None:
        room = new_room(version_id, join_rule="knock_restricted")
        expected = None if room.version.knock_restricted else "member.knock.join_rule"
        assert member(room, BOB, "knock") == expected

    def test_4_7_2_is_by_the_user_themself(self, version_id: str) -> None:
        room = new_room(version_id, join_rule="knock")
        assert member(room, BOB, "knock") is None
        assert member(room, BOB, "knock", ALICE) == "member.knock.sender_mismatch"

    def test_4_7_3_is_for_whoever_is_outside(self, version_id: str) -> None:
        room = new_room(version_id, join_rule="knock")
        for membership in ("leave", "knock"):
            room.member(BOB, membership)
            assert member(room, BOB, "knock") is None
        for membership in ("ban", "invite", "join"):
            room.member(BOB, membership, ALICE)
            assert member(room, BOB, "knock") == "member.knock.membership"
