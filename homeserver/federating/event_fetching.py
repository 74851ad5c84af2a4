"""Asking another server for events: each answer is bounded, and what it holds is verified or left out.

Source: Server-Server API, "Backfilling and retrieving missing events", "Retrieving events", "Retrieving event
authorization information". All raise RequestFailed. Whether an event may stand is judged where it is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from federation.canonical import JsonObject
from federation.event import PDU
from federation.identifiers import is_event_id
from federation.room_versions import RoomVersion
from federation.transport.client import FederationClient, path_of
from federation.transport.errors import BadResponse, RequestFailed
from homeserver.federating.verifying import EventVerifier

V1 = "/_matrix/federation/v1"
TIMEOUT_S = 20.0
MIB = 1024 * 1024
EVENT_BYTES_MAX = 256 * 1024  # an event has 64 KiB at most, and may be written wastefully
EVENTS_BYTES_MAX = 16 * MIB  # of some hundred events
STATE_BYTES_MAX = 64 * MIB  # of a room's whole state, with what authorises it
STATE_EVENTS_MAX = 200_000  # as `auth_chains.EVENTS_OF_ROOM_MAX`
AT_ONCE = 8  # requests for single events


@dataclass(frozen=True, slots=True)
class RoomName:
    """What is to be known of a room to read its events."""

    room_id: str
    version: RoomVersion


@dataclass(frozen=True, slots=True)
class EventFetching:
    """The requests. ``count_refused`` is told of each event in an answer that is none, by reason."""

    client: FederationClient
    verifier: EventVerifier
    count_refused: Callable[[str], None]

    async def missing_events(
        self, server: str, room: RoomName, earliest: Sequence[str], latest: Sequence[str], limit: int
    ) -> list[PDU]:
        """`getMissingPreviousEvents`: what comes before ``latest`` and not before ``earliest``."""
        answer = await self._request(
            server,
            "POST",
            path_of(f"{V1}/get_missing_events/{{}}", room.room_id),
            body={"earliest_events": list(earliest), "latest_events": list(latest), "limit": limit},
            bytes_max=EVENTS_BYTES_MAX,
        )
        return await self._verified(server, room, _objects(server, answer, "events")[: 2 * limit])

    async def backfill(self, server: str, room: RoomName, event_ids: Sequence[str], limit: int) -> list[PDU]:
        """`backfillRoom`: these events and what comes before them."""
        answer = await self._request(
            server,
            "GET",
            path_of(f"{V1}/backfill/{{}}", room.room_id),
            {"v": list(event_ids), "limit": str(limit)},
            bytes_max=EVENTS_BYTES_MAX,
        )
        events = _objects(server, answer, "pdus")[: 2 * limit]
        return await self._verified(server, room, events, limit_references=False)

    async def event(self, server: str, room: RoomName, event_id: str) -> PDU | None:
        """`getEvent`: None if the answer holds no such event of the room."""
        answer = await self._request(
            server, "GET", path_of(f"{V1}/event/{{}}", event_id), bytes_max=EVENT_BYTES_MAX
        )
        found = await self._verified(server, room, _objects(server, answer, "pdus")[:1])
        return found[0] if found and found[0].event_id == event_id else None

    async def events(
        self, server: str, room: RoomName, event_ids: Sequence[str], *, patient: bool = False
    ) -> list[PDU]:
        """Those of the events that the server gives, asked for one by one.

        If ``patient``, raises RequestFailed where another one may be had later; else never.
        """
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(event_id: str) -> PDU | RequestFailed | None:
            async with slots:
                try:
                    return await self.event(server, room, event_id)
                except RequestFailed as failure:
                    return failure

        found = await asyncio.gather(*(one(event_id) for event_id in event_ids))
        for each in found:
            if patient and isinstance(each, RequestFailed) and each.may_retry:
                raise each
        return [each for each in found if isinstance(each, PDU)]

    async def state_ids(self, server: str, room: RoomName, event_id: str) -> tuple[list[str], list[str]]:
        """`getRoomStateIds`: the state before an event, and what authorises it."""
        answer = await self._request(
            server,
            "GET",
            path_of(f"{V1}/state_ids/{{}}", room.room_id),
            {"event_id": event_id},
            bytes_max=STATE_BYTES_MAX,
        )
        return _ids(server, answer, "pdu_ids"), _ids(server, answer, "auth_chain_ids")

    async def state(self, server: str, room: RoomName, event_id: str) -> tuple[list[PDU], list[PDU]]:
        """`getRoomState`: as `state_ids`, with the events."""
        answer = await self._request(
            server,
            "GET",
            path_of(f"{V1}/state/{{}}", room.room_id),
            {"event_id": event_id},
            unread_lists=("pdus", "auth_chain"),
            bytes_max=STATE_BYTES_MAX,
        )
        state, chain = _objects(server, answer, "pdus"), _objects(server, answer, "auth_chain")
        if len(state) + len(chain) > STATE_EVENTS_MAX:
            raise BadResponse(server, f"answered with more than {STATE_EVENTS_MAX} events of state")
        return await self._verified(server, room, state), await self._verified(server, room, chain)

    async def event_auth(self, server: str, room: RoomName, event_id: str) -> list[PDU]:
        """`getEventAuth`: all that authorises an event."""
        path = path_of(f"{V1}/event_auth/{{}}/{{}}", room.room_id, event_id)
        answer = await self._request(
            server, "GET", path, unread_lists=("auth_chain",), bytes_max=STATE_BYTES_MAX
        )
        return await self._verified(server, room, _objects(server, answer, "auth_chain")[:STATE_EVENTS_MAX])

    async def nearest(self, server: str, room_id: str, ts: int, *, forwards: bool) -> tuple[str, int]:
        """`getEventByTimestamp`: the id and time of the event nearest to a time."""
        answer = await self._request(
            server,
            "GET",
            path_of(f"{V1}/timestamp_to_event/{{}}", room_id),
            {"ts": str(ts), "dir": "f" if forwards else "b"},
            bytes_max=EVENT_BYTES_MAX,
        )
        event_id, found_ts = answer.get("event_id"), answer.get("origin_server_ts")
        if not isinstance(event_id, str) or not is_event_id(event_id) or type(found_ts) is not int:
            raise BadResponse(server, "answered without an event and its time")
        return event_id, found_ts

    async def _request(
        self,
        server: str,
        method: str,
        path: str,
        query: dict[str, str | Sequence[str]] | None = None,
        body: JsonObject | None = None,
        *,
        unread_lists: Sequence[str] = (),
        bytes_max: int,
    ) -> JsonObject:
        return await self.client.request(
            server,
            method,
            path,
            query,
            body,
            unread_lists=unread_lists,
            timeout_s=TIMEOUT_S,
            response_bytes_max=bytes_max,
        )

    async def _verified(
        self, server: str, room: RoomName, events: Sequence[object], *, limit_references: bool = True
    ) -> list[PDU]:
        verdicts = await self.verifier.verify(
            events, room.version, room.room_id, limit_references=limit_references
        )
        found: dict[str, PDU] = {}
        for verdict in verdicts:
            if isinstance(verdict, PDU):
                found.setdefault(verdict.event_id, verdict)
            else:
                self.count_refused(type(verdict).__name__)
        return list(found.values())


def _objects(server: str, answer: JsonObject, name: str) -> list[object]:
    value = answer.get(name)
    if not isinstance(value, list):
        raise BadResponse(server, f"answered without a list {name!r}")
    return value


def _ids(server: str, answer: JsonObject, name: str) -> list[str]:
    value = answer.get(name)
    if not isinstance(value, list) or len(value) > STATE_EVENTS_MAX:
        raise BadResponse(server, f"answered without a list {name!r} of a size that can be")
    if not all(isinstance(event_id, str) and is_event_id(event_id) for event_id in value):
        raise BadResponse(server, f"answered with a list {name!r} that holds other things than event ids")
    return list(dict.fromkeys(value))
