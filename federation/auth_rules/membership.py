"""Authorisation of ``m.room.member``: rule 4 (rule 5 until v5 and in v12).

The numbers in the docstrings are version 11's. "Target user" is the one named by ``state_key``.
"""

from __future__ import annotations

from federation.auth_rules.state import AuthState
from federation.auth_rules.third_party import check_third_party_invite
from federation.errors import BadIdentifier, Rejected
from federation.event import PDU
from federation.identifiers import split_user_id
from federation.power_levels import creator_of


def check_member(event: PDU, state: AuthState, create: PDU) -> None:
    """Authorise a change of membership. Raises Rejected."""
    target, content = event.state_key, event.content
    # "If there is no state_key property, or no membership property in content, reject."
    if target is None:
        raise Rejected("member.no_state_key", event.event_id)
    if "membership" not in content:
        raise Rejected("member.no_membership", event.event_id)
    version, membership = state.version, content["membership"]
    # "If content has a join_authorised_via_users_server key: …" (v8)
    if version.restricted_joins and "join_authorised_via_users_server" in content:
        _check_authorising_signature(event, content["join_authorised_via_users_server"])
    if membership == "join":
        _check_join(event, target, state, create)
    elif membership == "invite":
        _check_invite(event, target, state)
    elif membership == "leave":
        _check_leave(event, target, state)
    elif membership == "ban":
        _check_ban(event, target, state)
    elif membership == "knock" and version.knocking:
        _check_knock(event, target, state)
    else:
        # "Otherwise, the membership is unknown. Reject."
        raise Rejected("member.unknown_membership", event.event_id)


def _check_authorising_signature(event: PDU, user_id: object) -> None:
    """Rule 4.2. That the signature verifies is settled before any authorisation, by
    `signing.required_signers`; here an event that carries none is refused.
    """
    # "If the event is not validly signed by the homeserver of the user ID denoted by the key, reject."
    try:
        server = split_user_id(user_id)[1] if isinstance(user_id, str) else None
    except BadIdentifier as cause:
        raise Rejected("member.authorising_user_invalid", event.event_id) from cause
    if server is None:
        raise Rejected("member.authorising_user_invalid", event.event_id)
    signatures = event.json.get("signatures")
    if not isinstance(signatures, dict) or not signatures.get(server):
        raise Rejected("member.authorising_server_not_signed", event.event_id)


def _check_join(event: PDU, target: str, state: AuthState, create: PDU) -> None:
    """Rule 4.3."""
    # "If the only previous event is an m.room.create and the state_key is the creator, allow." (from
    # v11: "is the sender of the m.room.create")
    if event.prev_events == (create.event_id,) and target == creator_of(create):
        return
    # "If the sender does not match state_key, reject."
    if event.sender != target:
        raise Rejected("member.join.sender_mismatch", event.event_id)
    current = state.membership(target)
    # "If the sender is banned, reject."
    if current == "ban":
        raise Rejected("member.join.banned", event.event_id)
    join_rule, version = state.join_rule, state.version
    # "If the join_rule is invite or knock then allow if membership state is invite or join." (knock: v7)
    if join_rule == "invite" or (join_rule == "knock" and version.knocking):
        if current not in ("invite", "join"):
            raise Rejected("member.join.not_invited", event.event_id)
    # "If the join_rule is restricted or knock_restricted: …" (v8, v10)
    elif (join_rule == "restricted" and version.restricted_joins) or (
        join_rule == "knock_restricted" and version.knock_restricted
    ):
        # "If membership state is join or invite, allow."
        if current not in ("invite", "join"):
            _check_authorising_user(event, state)
    # "If the join_rule is public, allow. Otherwise, reject."
    elif join_rule != "public":
        raise Rejected("member.join.join_rule", event.event_id)


def _check_authorising_user(event: PDU, state: AuthState) -> None:
    """Rule 4.3.5.2."""
    # "If the join_authorised_via_users_server key in content is not a user with sufficient permission to
    # invite other users or is not a joined member of the room, reject."
    user_id = event.content.get("join_authorised_via_users_server")
    if not isinstance(user_id, str):
        raise Rejected("member.join.not_authorised", event.event_id)
    if state.membership(user_id) != "join":
        raise Rejected("member.join.authorising_user_not_joined", event.event_id)
    power_levels = state.power_levels
    if power_levels.for_user(user_id) < power_levels.invite:
        raise Rejected("member.join.authorising_user_power", event.event_id)


def _check_invite(event: PDU, target: str, state: AuthState) -> None:
    """Rule 4.4."""
    # "If content has a third_party_invite property: …"
    if "third_party_invite" in event.content:
        check_third_party_invite(event, target, state)
        return
    # "If the sender's current membership state is not join, reject."
    if state.membership(event.sender) != "join":
        raise Rejected("member.invite.sender_not_joined", event.event_id)
    # "If target user's current membership state is join or ban, reject."
    if state.membership(target) in ("join", "ban"):
        raise Rejected("member.invite.target_joined_or_banned", event.event_id)
    # "If the sender's power level is greater than or equal to the invite level, allow. Otherwise, reject."
    power_levels = state.power_levels
    if power_levels.for_user(event.sender) < power_levels.invite:
        raise Rejected("member.invite.power", event.event_id)


def _check_leave(event: PDU, target: str, state: AuthState) -> None:
    """Rule 4.5: leaving, refusing an invite, kicking, unbanning."""
    sender, current = event.sender, state.membership(target)
    # "If the sender matches state_key, allow if and only if that user's current membership state is
    # invite, join, or knock." (knock: v7)
    if sender == target:
        if current in ("invite", "join") or (current == "knock" and state.version.knocking):
            return
        raise Rejected("member.leave.not_in_room", event.event_id)
    # "If the sender's current membership state is not join, reject."
    if state.membership(sender) != "join":
        raise Rejected("member.leave.sender_not_joined", event.event_id)
    power_levels = state.power_levels
    sender_power = power_levels.for_user(sender)
    # "If the target user's current membership state is ban, and the sender's power level is less than
    # the ban level, reject."
    if current == "ban" and sender_power < power_levels.ban:
        raise Rejected("member.leave.unban_power", event.event_id)
    # "If the sender's power level is greater than or equal to the kick level, and the target user's power
    # level is less than the sender's power level, allow. Otherwise, reject."
    if sender_power < power_levels.kick:
        raise Rejected("member.leave.kick_power", event.event_id)
    if power_levels.for_user(target) >= sender_power:
        raise Rejected("member.leave.target_power", event.event_id)


def _check_ban(event: PDU, target: str, state: AuthState) -> None:
    """Rule 4.6."""
    # "If the sender's current membership state is not join, reject."
    if state.membership(event.sender) != "join":
        raise Rejected("member.ban.sender_not_joined", event.event_id)
    power_levels = state.power_levels
    sender_power = power_levels.for_user(event.sender)
    # "If the sender's power level is greater than or equal to the ban level, and the target user's power
    # level is less than the sender's power level, allow. Otherwise, reject."
    if sender_power < power_levels.ban:
        raise Rejected("member.ban.power", event.event_id)
    if power_levels.for_user(target) >= sender_power:
        raise Rejected("member.ban.target_power", event.event_id)


def _check_knock(event: PDU, target: str, state: AuthState) -> None:
    """Rule 4.7 (v7)."""
    # "If the join_rule is anything other than knock or knock_restricted, reject." (knock_restricted: v10)
    join_rule = state.join_rule
    if join_rule != "knock" and not (join_rule == "knock_restricted" and state.version.knock_restricted):
        raise Rejected("member.knock.join_rule", event.event_id)
    # "If sender does not match state_key, reject."
    if event.sender != target:
        raise Rejected("member.knock.sender_mismatch", event.event_id)
    # "If the sender's current membership is not ban, invite, or join, allow. Otherwise, reject."
    if state.membership(event.sender) in ("ban", "invite", "join"):
        raise Rejected("member.knock.membership", event.event_id)
