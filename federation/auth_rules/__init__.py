"""The authorisation rules of every room version: who may send what into a room in a given state.

`check_event` is every rule but those on an event's own ``auth_events``, which are
`federation.auth_events.check_auth_events`. An incoming event passes both against its auth events,
then `check_event` against the state before it and the current state.
Source: Server-Server API, "Checks performed on receipt of a PDU"; rooms/, "Authorisation rules".
"""

from __future__ import annotations

from federation.auth_rules.check import check_event
from federation.auth_rules.redaction import redaction_applies
from federation.auth_rules.state import AuthState, StateLookup

__all__ = ["AuthState", "StateLookup", "check_event", "redaction_applies"]
