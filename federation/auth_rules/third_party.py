"""Authorisation of invites that stem from an ``m.room.third_party_invite``: rule 4.4.1."""

from __future__ import annotations

from federation.auth_events import THIRD_PARTY_INVITE
from federation.auth_rules.state import AuthState
from federation.errors import Rejected
from federation.event import PDU
from federation.third_party_invites import public_keys_of, verify_token_signature


def check_third_party_invite(event: PDU, target: str, state: AuthState) -> None:
    """Authorise an invite by the signature of the identity server it was stored at. Raises Rejected."""
    # "If target user is banned, reject."
    if state.membership(target) == "ban":
        raise Rejected("member.invite.third_party.banned", event.event_id)
    # "If content.third_party_invite does not have a signed property, reject."
    invite = event.content["third_party_invite"]
    signed = invite.get("signed") if isinstance(invite, dict) else None
    if not isinstance(signed, dict):
        raise Rejected("member.invite.third_party.no_signed", event.event_id)
    # "If signed does not have mxid and token properties, reject."
    mxid, token = signed.get("mxid"), signed.get("token")
    if not isinstance(mxid, str) or not isinstance(token, str):
        raise Rejected("member.invite.third_party.no_mxid_or_token", event.event_id)
    # "If mxid does not match state_key, reject."
    if mxid != target:
        raise Rejected("member.invite.third_party.mxid_mismatch", event.event_id)
    # "If there is no m.room.third_party_invite event in the current room state with state_key matching
    # token, reject."
    stored = state.events.get((THIRD_PARTY_INVITE, token))
    if stored is None:
        raise Rejected("member.invite.third_party.unknown_token", event.event_id)
    # "If sender does not match sender of the m.room.third_party_invite, reject."
    if event.sender != stored.sender:
        raise Rejected("member.invite.third_party.sender_mismatch", event.event_id)
    # "If any signature in signed matches any public key in the m.room.third_party_invite event, allow.
    # Otherwise, reject."
    if not verify_token_signature(signed, public_keys_of(stored.content)):
        raise Rejected("member.invite.third_party.signature", event.event_id)
