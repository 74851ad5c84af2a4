"""Transactions from other servers. Source: Server-Server API, "Transactions".

A transaction is answered when each of its events is durable: in its room, or among those that wait for what
they refer to (`waiting_events`). Its rooms are dealt with side by side; what is wrong with one event harms
no other.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import orjson
import structlog

from federation.canonical import JsonObject
from federation.event import PDU
from federation.identifiers import is_room_id
from federation.room_versions import room_version
from homeserver.errors import BadJson, LimitExceeded, NotFound, Unavailable
from homeserver.federating.edus import EduHandlers
from homeserver.federating.invited import InvitedHere
from homeserver.federating.joining import FederatedJoining
from homeserver.federating.room_access import RoomAccess, is_followed
from homeserver.federating.verifying import EventVerifier, event_id_or_none
from homeserver.federating.waiting_events import WaitingEvents
from homeserver.keyed_locks import KeyedLocks
from homeserver.rooms.receiving import Outcome, Receiving, Result
from homeserver.rooms.room import Room
from homeserver.rooms.rooms import Rooms

log = structlog.get_logger()

PDUS_MAX = 50
EDUS_MAX = 100
ANSWERS_MAX = 1_000  # remembered, so that a transaction that is sent again does nothing
PER_ORIGIN_MAX = 10  # transactions of one server at a time: a server that keeps to the rules sends one
RETRY_AFTER_MS = 1_000
UNKNOWN_ROOM_VERSION = room_version("11")
"""Of events in rooms that are not known here: the best guess at the ids by which their server knows them."""

Errors = dict[str, str]
"""By event id, what went wrong; empty where nothing did."""


class Inbox:
    """Takes transactions in: each once, and of one server one after another.

    ``count_event`` is told the outcome of each event, ``count_refusal`` the reason of each that was refused.
    """

    def __init__(
        self,
        rooms: Rooms,
        access: RoomAccess,
        verifier: EventVerifier,
        receiving: Receiving,
        waiting: WaitingEvents,
        joining: FederatedJoining,
        invited: InvitedHere,
        edus: EduHandlers,
        *,
        count_event: Callable[[str], None],
        count_refusal: Callable[[str], None],
    ) -> None:
        self._rooms = rooms
        self._access = access
        self._verifier = verifier
        self._receiving = receiving
        self._waiting = waiting
        self._joining = joining
        self._invited = invited
        self._edus = edus
        self._count_event = count_event
        self._count_refusal = count_refusal
        self._answers: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._in_turn: KeyedLocks[str] = KeyedLocks()
        self._in_hand: dict[str, int] = {}  # transactions by origin

    async def receive(self, origin: str, txn_id: str, body: JsonObject) -> bytes:
        """`sendTransaction`: the answer, an entry for each event whose id can be told.

        Raises BadJson for what is no transaction, LimitExceeded, Unavailable.
        """
        pdus, edus = _list(body, "pdus", PDUS_MAX), _list(body, "edus", EDUS_MAX)
        in_hand = self._in_hand.get(origin, 0)
        if in_hand >= PER_ORIGIN_MAX:
            raise LimitExceeded(RETRY_AFTER_MS)
        self._in_hand[origin] = in_hand + 1
        try:
            async with self._in_turn.hold(origin):
                known = self._answers.get((origin, txn_id))
                if known is not None:
                    return known
                errors, are_edus_kept = await asyncio.gather(
                    self._events(origin, pdus), self._edus.handle_all(origin, edus)
                )
                if not are_edus_kept:
                    raise Unavailable("Not everything could be stored: send the transaction again")
                answer = orjson.dumps(
                    {"pdus": {id: {"error": error} if error else {} for id, error in errors.items()}}
                )
                self._answers[(origin, txn_id)] = answer
                if len(self._answers) > ANSWERS_MAX:
                    self._answers.popitem(last=False)
                return answer
        finally:
            self._in_hand[origin] -= 1
            if not self._in_hand[origin]:
                del self._in_hand[origin]

    async def _events(self, origin: str, events: Sequence[object]) -> Errors:
        by_room: dict[str, list[object]] = {}
        errors: Errors = {}
        for event in events:
            room_id = event.get("room_id") if isinstance(event, dict) else None
            if isinstance(room_id, str) and is_room_id(room_id):
                by_room.setdefault(room_id, []).append(event)
            else:
                errors |= self._refused([event], "malformed", "The event names no room")
        if len(by_room) == 1:  # as in most transactions
            [(room_id, of_room)] = by_room.items()
            return errors | await self._of_room(origin, room_id, of_room)
        for found in await asyncio.gather(*(self._of_room(origin, *each) for each in by_room.items())):
            errors |= found
        return errors

    async def _of_room(self, origin: str, room_id: str, events: Sequence[object]) -> Errors:
        room = await self._rooms.find(room_id)
        if room is None or not is_followed(room):
            await self._joining.settled(room_id)
            room = await self._rooms.find(room_id)
        if room is None or not is_followed(room):
            return await self._from_outside(origin, room_id, events, room)
        if not self._access.allows(room, origin):
            return self._refused(events, "acl", "Your server is not allowed to take part in this room", room)
        errors: Errors = {}
        pdus: dict[str, PDU] = {}
        for event, verdict in zip(
            events, await self._verifier.verify(events, room.version, room_id), strict=True
        ):
            if isinstance(verdict, PDU):
                pdus[verdict.event_id] = verdict
            else:
                errors |= self._refused([event], type(verdict).__name__, str(verdict), room)
        if not pdus:
            return errors
        try:
            results = await self._receiving.receive(room_id, list(pdus.values()))
        except NotFound:
            return errors | self._refused(events, "unknown_room", "The room is gone", room)
        waiting = [pdus[each.event_id] for each in results if each.outcome is Outcome.MISSING]
        if waiting:
            kept = await self._waiting.add(room, origin, waiting)
            if not kept:
                errors |= self._refused(
                    [pdu.json for pdu in waiting],
                    "queue_full",
                    "Too many events of this room wait here",
                    room,
                )
        came = [each.event_id for each in results if each.outcome is not Outcome.MISSING]
        self._waiting.something_came(room.nid, came)
        return errors | self._outcomes(origin, results, errors)

    async def _from_outside(
        self, origin: str, room_id: str, events: Sequence[object], room: Room | None
    ) -> Errors:
        """Events of a room that this node is not in: they can only end an invite to it, or a knock."""
        errors: Errors = {}
        for event in events:
            if await self._invited.taken_back(origin, room_id, event):
                self._count_event(Outcome.ACCEPTED.value)
                event_id = event_id_or_none(event, UNKNOWN_ROOM_VERSION)
                errors |= {event_id: ""} if event_id is not None else {}
            else:
                errors |= self._refused(
                    [event], "unknown_room", "This server does not take part in the room", room
                )
        return errors

    def _outcomes(self, origin: str, results: Sequence[Result], errors: Mapping[str, str]) -> Errors:
        """Count what became of events. Who has sent one that is rejected is not told: other servers, which it
        passes as it is, are to judge it themselves ("Rejection")."""
        outcomes: Errors = {}
        for result in results:
            if result.event_id in errors:
                continue
            self._count_event(result.outcome.value)
            outcomes[result.event_id] = ""
            if result.reason:
                log.info(
                    "event refused",
                    server=origin,
                    event_id=result.event_id,
                    outcome=result.outcome.value,
                    reason=result.reason,
                )
        return outcomes

    def _refused(
        self, events: Sequence[object], reason: str, message: str, room: Room | None = None
    ) -> Errors:
        """Events that go no further."""
        version = room.version if room is not None else UNKNOWN_ROOM_VERSION
        errors: Errors = {}
        for event in events:
            self._count_event("refused")
            self._count_refusal(reason)
            event_id = event_id_or_none(event, version)
            if event_id is not None:
                errors[event_id] = message
        log.info("events refused", reason=reason, count=len(events), cause=message)
        return errors


def _list(body: JsonObject, name: str, most: int) -> list[object]:
    value = body.get(name, [])
    if not isinstance(value, list):
        raise BadJson(f"{name!r} must be a list")
    if len(value) > most:
        raise BadJson(f"A transaction has at most {most} {name}")
    return value
