"""What a server answers to a join, checked before any of it is believed.

Source: Server-Server API, "Joining Rooms"; joins-v2.yaml.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from federation.canonical import JsonObject
from federation.errors import FederationError
from federation.event import PDU
from federation.identifiers import is_valid_server_name
from homeserver.federating.handshakes import BadHandshake, Template
from homeserver.federating.verifying import EventVerifier

log = structlog.get_logger()

SERVERS_MAX = 20_000  # in a room
EVENTS_MAX = 200_000  # of an answer, state and auth chain together


@dataclass(frozen=True, slots=True)
class CheckedJoin:
    """The state before the join and its auth chain, each event signed as it must be, and the join itself."""

    join: PDU
    state: Sequence[PDU]
    auth_chain: Sequence[PDU]
    lacks_members_of: Sequence[str] | None = None
    """The servers in the room, where the state came without most of its members."""


async def check_join(
    verifier: EventVerifier, template: Template, join: PDU, answer: JsonObject
) -> CheckedJoin:
    """Check the answer to a `sendJoinV2`. Raises BadHandshake.

    Events that are not signed as they must be are left out: a server that is gone for good, and its keys with
    it, does not close a room. What hangs on them is refused with them, when the state is judged.
    """
    state, chain = answer.get("state"), answer.get("auth_chain")
    if not isinstance(state, list) or not isinstance(chain, list):
        raise BadHandshake("The answer to the join lacks state or auth_chain")
    if len(state) + len(chain) > EVENTS_MAX:
        raise BadHandshake(f"The answer to the join has more than {EVENTS_MAX} events")
    verdicts = await verifier.verify([*state, *chain], template.version, join.room_id)
    found = [verdict if isinstance(verdict, PDU) else None for verdict in verdicts]
    bad = [verdict for verdict in verdicts if isinstance(verdict, FederationError)]
    if bad:
        log.warning(
            "events of a join left out",
            server=template.server,
            room_id=join.room_id,
            count=len(bad),
            first=str(bad[0]),
        )
    before = [pdu for pdu in found[: len(state)] if pdu is not None]
    servers = _servers_named(template.server, answer) if answer.get("members_omitted") is True else None
    if servers is None:
        _check_resident(template.server, before)
    return CheckedJoin(
        await _signed_join(verifier, template, join, answer.get("event")),
        before,
        [pdu for pdu in found[len(state) :] if pdu is not None],
        servers,
    )


def _servers_named(resident: str, answer: JsonObject) -> Sequence[str]:
    """The servers in the room, the one that answers first. Raises BadHandshake."""
    names = answer.get("servers_in_room")
    if not isinstance(names, list) or len(names) > SERVERS_MAX:
        raise BadHandshake("The answer leaves members out without telling the servers in the room")
    servers = [name for name in names if isinstance(name, str) and is_valid_server_name(name)]
    if resident not in servers:
        raise BadHandshake("The server is not in the room whose state it gives")
    return list(dict.fromkeys((resident, *servers)))


def _check_resident(server: str, state: Sequence[PDU]) -> None:
    """Raise BadHandshake if, by its own answer, a server is in no position to answer."""
    suffix = f":{server}"
    if not any(
        pdu.type == "m.room.member"
        and pdu.sender.endswith(suffix)
        and pdu.sender == pdu.state_key
        and pdu.content.get("membership") == "join"
        for pdu in state
    ):
        raise BadHandshake("The server is not in the room whose state it gives")


async def _signed_join(verifier: EventVerifier, template: Template, join: PDU, returned: object) -> PDU:
    """The join as the resident server signed it, which a restricted room demands; ours where it has not."""
    if returned is None:
        [verdict] = await verifier.verify([join.json], template.version, join.room_id)
    else:
        [verdict] = await verifier.verify([returned], template.version, join.room_id)
    if not isinstance(verdict, PDU):
        raise BadHandshake(f"The join is not signed as it must be: {verdict}")
    if verdict.event_id != join.event_id or verdict.content != join.content:
        raise BadHandshake("Another event came back than the join that was sent")
    return verdict
