"""The rules in their order: what a local send runs, so a plain message costs a few microseconds.

Rule numbers differ between versions; those in the comments are version 11's, with the first of the
older ones where a rule was dropped since. Source: rooms/v1 to rooms/v12, "Authorisation rules".
"""

from __future__ import annotations

from federation.auth_events import CREATE_KEY, MEMBER, POWER_LEVELS_KEY, THIRD_PARTY_INVITE
from federation.auth_rules.create import check_create
from federation.auth_rules.membership import check_member
from federation.auth_rules.power_levels import check_power_levels
from federation.auth_rules.redaction import check_redaction
from federation.auth_rules.state import AuthState
from federation.errors import BadIdentifier, Rejected
from federation.event import PDU
from federation.identifiers import server_name_of

ALIASES = "m.room.aliases"
REDACTION = "m.room.redaction"


def check_event(event: PDU, state: AuthState) -> None:
    """Authorise ``event`` in a room in ``state``. Raises Rejected, naming the rule.

    Not checked here: signatures, the event's format, and its choice of auth events.
    """
    event_type, version, sender = event.type, state.version, event.sender
    # Rule 1: "If type is m.room.create: …"
    if event_type == CREATE_KEY[0]:
        check_create(event)
        return
    create = state.require_create(event)
    # Rule 3: "If the content of the m.room.create event in the room state has the property m.federate
    # set to false, and the sender domain of the event does not match the sender domain of the create
    # event, reject."
    if create.content.get("m.federate") is False and not _same_server(sender, create.sender):
        raise Rejected("federate", event.event_id)
    # Rule 4 until v5: "If type is m.room.aliases: …"
    if event_type == ALIASES and version.special_case_aliases_auth:
        _check_aliases(event)
        return
    # Rule 4: "If type is m.room.member: …"
    if event_type == MEMBER:
        check_member(event, state, create)
        return
    # Rule 5: "If the sender's current membership state is not join, reject."
    if state.membership(sender) != "join":
        raise Rejected("sender.not_joined", event.event_id)
    power_levels = state.power_levels
    sender_power = power_levels.for_user(sender)
    state_key = event.state_key
    # Rule 6: "If type is m.room.third_party_invite: Allow if and only if sender's current power level
    # is greater than or equal to the invite level."
    if event_type == THIRD_PARTY_INVITE:
        if sender_power < power_levels.invite:
            raise Rejected("third_party_invite.power", event.event_id)
        return
    # Rule 7: "If the event type's required power level is greater than the sender's power level, reject."
    required_power = power_levels.for_event(event_type, state_key is not None)
    if required_power > sender_power:
        raise Rejected("event.power", event.event_id, f"{sender_power} is less than {required_power}")
    # Rule 8: "If the event has a state_key that starts with an @ and does not match the sender, reject."
    if state_key is not None and state_key.startswith("@") and state_key != sender:
        raise Rejected("state_key.other_user", event.event_id)
    # Rule 9: "If type is m.room.power_levels: …"
    if event_type == POWER_LEVELS_KEY[0]:
        check_power_levels(event, power_levels)
    # Rule 11 until v2: "If type is m.room.redaction: …"
    elif event_type == REDACTION and version.redaction_auth_rule:
        check_redaction(event, power_levels)
    # Rule 10: "Otherwise, allow."


def _check_aliases(event: PDU) -> None:
    # "If event has no state_key, reject."
    if event.state_key is None:
        raise Rejected("aliases.no_state_key", event.event_id)
    # "If sender's domain doesn't match state_key, reject."
    try:
        domain = server_name_of(event.sender)
    except BadIdentifier as cause:
        raise Rejected("aliases.domain", event.event_id) from cause
    if domain != event.state_key:
        raise Rejected("aliases.domain", event.event_id)
    # "Otherwise, allow."


def _same_server(first: str, second: str) -> bool:
    try:
        return server_name_of(first) == server_name_of(second)
    except BadIdentifier:
        return False
