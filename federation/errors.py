"""What federation rules raise. Callers decide what a refusal means for a client or a partner."""

from __future__ import annotations


class FederationError(Exception):
    """Base of everything that `federation` raises on purpose."""


class UnknownRoomVersion(FederationError):
    """A room version that this server does not implement."""

    def __init__(self, room_version: str) -> None:
        super().__init__(f"Unknown room version {room_version[:32]!r}")
        self.room_version = room_version


class NotCanonical(FederationError):
    """A value has no Canonical JSON form. Source: Appendices, "Canonical JSON"."""


class MalformedEvent(FederationError):
    """An event breaks its room version's event format, so it must be dropped, not rejected.

    Source: Server-Server API, "Checks performed on receipt of a PDU", check 1.
    """


class EventTooLarge(MalformedEvent):
    """An event or one of its identifiers is over a limit. Source: Client-Server API, "Size limits"."""


class MissingHash(MalformedEvent):
    """An event without a hash of its content: nothing shows that this is what its server signed."""


class BadIdentifier(FederationError):
    """Text that is not an identifier of the expected kind. Source: Appendices, "Identifier Grammar"."""


class BadKey(FederationError):
    """A signing or verify key that cannot be read."""


class BadSignature(FederationError):
    """A required signature is absent or does not verify."""


class Rejected(FederationError):
    """An event fails an authorisation rule.

    ``rule`` is a stable dotted name such as ``member.join.banned``; ``detail`` may add what was
    compared, and never holds event content.
    """

    def __init__(self, rule: str, event_id: str, detail: str = "") -> None:
        super().__init__(f"{event_id} rejected by {rule}" + (f": {detail}" if detail else ""))
        self.rule = rule
        self.event_id = event_id
        self.detail = detail
