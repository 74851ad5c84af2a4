"""Asking policy servers for their signature, and judging events of others by it.

Source: Server-Server API, "Validating Policy Server signatures", "Asking for a Policy Server signature on an
event"; room_policy.yaml.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from federation.canonical import JsonObject
from federation.errors import BadSignature
from federation.event import PDU
from federation.policy_server import PolicyServer, is_recommended, needs_recommendation, with_recommendation
from federation.room_versions import RoomVersion
from federation.transport.client import FederationClient
from federation.transport.errors import NotPermitted, Refused, RequestFailed
from homeserver.errors import Forbidden, LimitExceeded, MatrixError, PeerFailed, Relayed
from homeserver.federating.own_policy import NotRecommended, OwnPolicy

log = structlog.get_logger()

PATH = "/_matrix/policy/v1/sign"
TIMEOUT_S = 10.0  # for an event of ours, whose sender waits
RECEIPT_TIMEOUT_S = 5.0  # for events of others, of which a whole transaction waits
ANSWER_BYTES_MAX = 64 * 1024
AT_ONCE_MAX = 50  # events of all rooms for which policy servers are asked
SAID_MAX = 5_000
RETRY_AFTER_MS = 1000  # where a policy server limits us without saying for how long
RETRY_AFTER_MAX_MS = 3_600_000
PASSED_ON = (400, 403, 404)  # what a policy server may answer by room_policy.yaml


@dataclass(frozen=True, slots=True)
class PolicyServers:
    """A client of policy servers. ``count`` is told what became of each question."""

    server_name: str
    client: FederationClient
    own: OwnPolicy | None
    """The rules by which this server is one itself, if it is."""
    count: Callable[[str], None]
    said: OrderedDict[tuple[bytes, str], JsonObject] = field(default_factory=OrderedDict)
    """Signatures of events of others, by the policy server's key and the event's id."""
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE_MAX))

    async def sign(
        self, policy: PolicyServer, event: JsonObject, version: RoomVersion, *, timeout_s: float = TIMEOUT_S
    ) -> JsonObject:
        """A copy of an event with the policy server's signature.

        Raises what the client that wants to send it is told: the policy server's refusal as it was given
        (Relayed, LimitExceeded), Forbidden and PeerFailed where it cannot be asked.
        """
        try:
            answer = await self._answer(policy, event, version, timeout_s)
        except NotRecommended:
            self.count("refused")
            raise
        except RequestFailed as failure:
            self.count("refused" if isinstance(failure, Refused) else "failed")
            log.info("event not recommended", server=policy.server_name, cause=str(failure))
            raise _told(failure) from failure
        try:
            signed = with_recommendation(event, answer, policy)
        except BadSignature as cause:
            self.count("bad_signature")
            raise PeerFailed("The room's policy server did not sign the event") from cause
        if not is_recommended(signed, version, policy):
            self.count("bad_signature")
            raise PeerFailed("The room's policy server signed with another key than the room names")
        self.count("signed")
        return signed

    async def _answer(
        self, policy: PolicyServer, event: JsonObject, version: RoomVersion, timeout_s: float
    ) -> JsonObject:
        if policy.server_name == self.server_name:
            if self.own is None:
                raise Forbidden("The room names this server as its policy server, which it is not")
            return self.own.sign(event, version)
        async with self.slots:
            return await self.client.request(
                policy.server_name,
                "POST",
                PATH,
                body=event,
                timeout_s=timeout_s,
                response_bytes_max=ANSWER_BYTES_MAX,
            )

    async def recommended(self, policy: PolicyServer, pdus: Sequence[PDU]) -> list[PDU | None]:
        """Events of other servers as they are to be stored, in order; None for each to be soft-failed.

        They passed the format's and the signatures' checks. What has no valid signature of the room's
        policy server is shown to it, once: what it said is remembered. Never raises for bad input.
        """
        return await asyncio.gather(*(self._recommended(policy, pdu) for pdu in pdus))

    async def _recommended(self, policy: PolicyServer, pdu: PDU) -> PDU | None:
        if not needs_recommendation(pdu.type, pdu.state_key):
            return pdu
        if is_recommended(pdu.json, pdu.version, policy):
            return pdu
        key = policy.key.public_bytes, pdu.event_id
        said = self.said.get(key)
        if said is not None:  # it comes again, for example after what it builds on was fetched
            signed = with_recommendation(pdu.json, said, policy)
            return replace(pdu, json=signed) if is_recommended(signed, pdu.version, policy) else None
        # "If the Policy Server's signature is invalid or missing, the homeserver SHOULD ask for a new
        # signature."
        try:
            signed = await self.sign(policy, pdu.json, pdu.version, timeout_s=RECEIPT_TIMEOUT_S)
        except MatrixError:
            return None
        self.said[key] = {policy.server_name: signed["signatures"][policy.server_name]}
        while len(self.said) > SAID_MAX:
            self.said.popitem(last=False)
        return replace(pdu, json=signed)


def _told(failure: RequestFailed) -> MatrixError:
    """'If the Policy Server returned an error, that error SHOULD be provided to the client verbatim.'"""
    match failure:
        case Refused(status=429):
            return LimitExceeded(min(failure.retry_after_ms or RETRY_AFTER_MS, RETRY_AFTER_MAX_MS))
        case Refused(errcode="M_UNRECOGNIZED"):  # of our client's request, this would not be true
            return PeerFailed("The server that the room names as its policy server is none")
        case Refused() if failure.status in PASSED_ON and failure.errcode:
            message = failure.message or "The room's policy server does not let this through"
            return Relayed(failure.status, failure.errcode, message)
        case NotPermitted():
            return Forbidden("The room's policy server is one that this server does not talk to")
        case _:
            return PeerFailed("The room's policy server cannot be asked: try again later")
