"""Redactions: authorisation rule 11 of v1 and v2, and when a redaction takes effect since."""

from __future__ import annotations

from federation.errors import Rejected
from federation.event import PDU
from federation.power_levels import PowerLevels


def check_redaction(event: PDU, power_levels: PowerLevels) -> None:
    """Authorise ``m.room.redaction`` in v1 and v2. Raises Rejected. Source: rooms/v1 rule 11."""
    # "If the sender's power level is greater than or equal to the redact level, allow."
    if power_levels.for_user(event.sender) >= power_levels.redact:
        return
    # "If the domain of the event_id of the event being redacted is the same as the domain of the
    # event_id of the m.room.redaction, allow."
    if event.redacts is not None and _same_domain(event.redacts, event.event_id):
        return
    # "Otherwise, reject."
    raise Rejected("redaction.power", event.event_id)


def redaction_applies(redaction: PDU, target: PDU, power_levels: PowerLevels) -> bool:
    """Whether an accepted redaction takes effect on ``target``, the event that it names.

    ``power_levels`` are those at the redaction. In v1 and v2 acceptance by rule 11 is enough.
    Source: rooms/v3, "Handling redactions".
    """
    if redaction.redacts != target.event_id or redaction.room_id != target.room_id:
        return False
    if redaction.version.redaction_auth_rule:
        return True
    # "The power level of the redaction event's sender is greater than or equal to the redact level."
    if power_levels.for_user(redaction.sender) >= power_levels.redact:
        return True
    # "The domain of the redaction event's sender matches that of the original event's sender."
    return _same_domain(redaction.sender, target.sender)


def _same_domain(first: str, second: str) -> bool:
    # An identifier's server name follows its first colon and may hold more of them (a port, IPv6).
    _, colon, domain = first.partition(":")
    return colon != "" and domain == second.partition(":")[2]
