"""Events from the network, before anything is done with them: format, size, room and signatures.

Source: Server-Server API, "Checks performed on receipt of a PDU", checks 1 and 2. Hashes and authorisation
are judged where events enter a room: `homeserver.rooms.receiving`, `homeserver.rooms.past_events`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import orjson

from federation.errors import FederationError, MalformedEvent
from federation.event import PDU, parse_pdu
from federation.event_format import check_format, without_foreign_unsigned
from federation.hashing import event_id_of
from federation.room_versions import RoomVersion
from federation.transactions import PDUS_MAX
from homeserver.federating.key_ring import KeyRing

THREADED_FROM = PDUS_MAX + 1  # events: those of one transaction are read on the loop, at about 60 µs each


@dataclass(frozen=True, slots=True)
class EventVerifier:
    """Tells real events of a room from everything else."""

    key_ring: KeyRing

    async def verify(
        self,
        events: Sequence[object],
        version: RoomVersion,
        room_id: str | None,
        *,
        limit_references: bool = True,
    ) -> list[PDU | FederationError]:
        """What each of ``events`` is: a PDU that its servers signed, or what is wrong with it. In order.

        Each is a JSON value, or the text of one (`msgspec.Raw`). ``room_id`` is the room that they must
        belong to; None where any will do. What their ``unsigned`` holds of a stranger's is gone.
        ``limit_references`` is False for what /backfill answers alone.
        """
        if len(events) < THREADED_FROM:
            verdicts = _read_all(events, version, room_id, limit_references)
        else:
            verdicts = await asyncio.to_thread(_read_all, events, version, room_id, limit_references)
        read = [(index, verdict) for index, verdict in enumerate(verdicts) if isinstance(verdict, PDU)]
        failures = await self.key_ring.verify_events([pdu.json for _, pdu in read], version)
        for (index, _), failure in zip(read, failures, strict=True):
            if failure is not None:
                verdicts[index] = failure
        return verdicts


def event_id_or_none(event: object, version: RoomVersion) -> str | None:
    """The ID of what may be no valid event: that by which its sender knows it, if it has one."""
    if not isinstance(event, dict):
        return None
    try:
        event_id = event_id_of(event, version)
    except FederationError:
        return None
    return event_id if event_id.startswith("$") else None


def parsed(text: msgspec.Raw) -> object:
    """The JSON value that an answer holds as text. Raises MalformedEvent."""
    try:
        return orjson.loads(memoryview(text))
    except orjson.JSONDecodeError as cause:
        raise MalformedEvent("This is not JSON") from cause


def _read_all(
    events: Sequence[object], version: RoomVersion, room_id: str | None, limit_references: bool
) -> list[PDU | FederationError]:
    return [_read(event, version, room_id, limit_references) for event in events]


def _read(
    event: object, version: RoomVersion, room_id: str | None, limit_references: bool
) -> PDU | FederationError:
    try:
        if isinstance(event, msgspec.Raw):
            event = parsed(event)
        if not isinstance(event, dict):
            raise MalformedEvent("An event is a JSON object")
        json = without_foreign_unsigned(event)
        check_format(json, version, limit_references=limit_references)
        pdu = parse_pdu(json, version)
        if room_id is not None and pdu.room_id != room_id:
            raise MalformedEvent("The event is of another room")
    except FederationError as error:
        return error
    return pdu
