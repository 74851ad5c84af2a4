"""What a user is told whose event the authorisation rules refuse."""

from __future__ import annotations

_EXPLANATIONS = {
    "federate": "This room is open to users of one server only",
    "create.prev_events": "A room's create event cannot be sent again",
    "sender.not_joined": "You are not in this room: join it first",
    "policy_server": "The room's policy server does not let this through",
    "event.power": "Your power level in this room does not allow you to send this",
    "state_key.other_user": "This state belongs to another user",
    "third_party_invite.power": "Your power level in this room does not allow you to invite",
    "member.join.banned": "You are banned from this room",
    "member.join.not_invited": "You are not invited to this room",
    "member.join.join_rule": "Nobody can join this room",
    "member.join.sender_mismatch": "You cannot join a room for another user: invite them",
    "member.join.not_authorised": "You are in none of the rooms whose members may join this one",
    "member.invite.sender_not_joined": "You are not in this room: join it first",
    "member.invite.target_joined_or_banned": "This user is in the room already, or banned from it",
    "member.invite.power": "Your power level in this room does not allow you to invite",
    "member.leave.not_in_room": "You are not in this room",
    "member.leave.sender_not_joined": "You are not in this room: join it first",
    "member.leave.unban_power": "Your power level in this room does not allow you to unban",
    "member.leave.kick_power": "Your power level in this room does not allow you to kick",
    "member.leave.target_power": "This user's power level is not below yours",
    "member.ban.sender_not_joined": "You are not in this room: join it first",
    "member.ban.power": "Your power level in this room does not allow you to ban",
    "member.ban.target_power": "This user's power level is not below yours",
    "member.knock.join_rule": "This room takes no knocks",
    "member.knock.membership": "You are in this room, invited to it, or banned from it already",
    "member.unknown_membership": "This room does not know such a membership",
    "power_levels.current_above_sender": "You cannot change a power level that is above yours",
    "power_levels.new_above_sender": "You cannot give more power than you have",
    "power_levels.not_integer": "Power levels must be integers",
    "power_levels.users_creator": "The room's creators have all power: they cannot be given a level",
}


def explain(rule: str) -> str:
    """A sentence for the rule that refused (`federation.errors.Rejected.rule`)."""
    return _EXPLANATIONS.get(rule) or f"The room's rules do not allow you this ({rule})"
