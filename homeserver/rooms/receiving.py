"""Events from other servers into rooms of this node.

Source: Server-Server API, "Checks performed on receipt of a PDU" and "Soft failure". Format and signatures
(checks 1 and 2) are the caller's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from weakref import WeakValueDictionary

import asyncpg

from federation.auth_events import check_auth_events
from federation.auth_rules import AuthState, check_event, redaction_applies
from federation.canonical import encode_canonical, encode_legacy
from federation.errors import Rejected
from federation.event import PDU, StateKey, parse_pdu
from federation.hashing import check_content_hash
from federation.redaction import redact
from homeserver.commit_log.change import Change
from homeserver.commit_log.committer import ChainBroken
from homeserver.errors import Unavailable
from homeserver.rooms.accepting import INTEGER_MAX, Accepting, Decision, Surroundings, WaitingRedaction
from homeserver.rooms.branch_states import BranchState, BranchStates
from homeserver.rooms.changes import RoomWrittenElsewhere
from homeserver.rooms.event import FLAG_OUTLIER, FLAG_REJECTED, FLAG_SOFT_FAILED, Event
from homeserver.rooms.history_gaps import GapsChange
from homeserver.rooms.partial_state import WithCitedMembers
from homeserver.rooms.policy import PolicySigner, policy_of
from homeserver.rooms.room import Room
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.unseen_events import UnseenEvents
from homeserver.storage import received_events as sql
from homeserver.storage.connection import Pool

ATTEMPTS = 8  # to store what others' writes make stale
HOLD_AFTER = 3  # attempts that local sends overtook: then they wait
POLICY_SERVER = "policy_server"  # reasons of soft failures
REDACTION = "redaction.not_applied"
REFUSED = FLAG_REJECTED | FLAG_SOFT_FAILED
FOLLOWED_MAX = 500  # events that are looked through; if it is not enough, a newest event too many stays
NO_STATES: Mapping[str, Sequence[str]] = {}


class Outcome(Enum):
    """What became of an event."""

    ACCEPTED = "accepted"
    SOFT_FAILED = "soft_failed"
    REJECTED = "rejected"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one event: why it was refused, or what it needs that is not known here.

    `missing` are prev events without which the state before it cannot be told, `missing_auth` auth events.
    """

    event_id: str
    outcome: Outcome
    reason: str = ""
    missing: tuple[str, ...] = ()
    missing_auth: tuple[str, ...] = ()


@dataclass(slots=True)
class _Batch:
    """What one call works with: the events that it needs, by id, and what waits to be durable."""

    around: Surroundings
    states: Mapping[str, Sequence[str]]
    futures: list[asyncio.Future[None]]
    foreign: Collection[str]
    """The ids of events of other rooms that some of these name."""
    unwanted: Collection[str] = ()
    """The ids of events that the room's policy server does not recommend."""


class Receiving:
    """Takes events in, one room's one after another, several rooms' side by side."""

    def __init__(
        self, pool: Pool, rooms: Rooms, branches: BranchStates, policy_signer: PolicySigner | None = None
    ) -> None:
        self._policy_signer = policy_signer
        self._pool = pool
        self._rooms = rooms
        self._branches = branches
        self._accepting = Accepting(rooms, branches)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def lock(self, room_id: str) -> asyncio.Lock:
        """Held while events are taken into a room."""
        lock = self._locks.get(room_id)
        if lock is None:
            lock = self._locks[room_id] = asyncio.Lock()
        return lock

    async def receive(
        self,
        room_id: str,
        pdus: Sequence[PDU],
        states: Mapping[str, Sequence[str]] = NO_STATES,
        *,
        relay_for: str | None = None,
    ) -> list[Result]:
        """Take in events whose format and signatures were checked; those that are accepted are durable.

        In any order: what they build on comes first. `states` names, for prev events that cannot be had,
        the events of the state after them, which must be known here. `relay_for` is set where this node is
        the resident server that another one joins, leaves or knocks through: what is accepted goes into the
        outbox for the other servers in the room, but for that one. Raises NotFound, Unavailable.
        """
        pdus, unwanted = await self._shown_to_policy(await self._rooms.get(room_id), pdus)
        async with self.lock(room_id):
            results: dict[str, Result] = {}
            for _ in range(ATTEMPTS):
                room = await self._rooms.get(room_id)
                try:
                    await self._receive_all(room, pdus, states, relay_for, unwanted, results)
                    break
                except (ChainBroken, RoomWrittenElsewhere, asyncpg.UniqueViolationError):
                    room.stale = True
                    self._branches.forget(room.nid)
                except BaseException:
                    self._branches.forget(room.nid)
                    raise
            else:
                raise Unavailable("The room is too busy: try again")
        return [results[pdu.event_id] for pdu in pdus]

    async def _shown_to_policy(
        self, room: Room, pdus: Sequence[PDU]
    ) -> tuple[Sequence[PDU], Collection[str]]:
        """The events, as signed by the room's policy server if it has one; and the ids of those that are not.

        "7. Is validated by the Policy Server, if the room is using a Policy Server": here, since asking it
        takes a while, in which the room goes on.
        """
        policy = policy_of(room)
        if policy is None or self._policy_signer is None:
            return pdus, ()
        shown = await self._policy_signer.recommended(policy, pdus)
        signed = [after or before for before, after in zip(pdus, shown, strict=True)]
        return signed, {pdu.event_id for pdu, after in zip(pdus, shown, strict=True) if after is None}

    async def _receive_all(
        self,
        room: Room,
        pdus: Sequence[PDU],
        states: Mapping[str, Sequence[str]],
        relay_for: str | None,
        unwanted: Collection[str],
        results: dict[str, Result],
    ) -> None:
        batch = await self._batch(room, pdus, states)
        batch.unwanted = unwanted
        batch.around.relay_for = relay_for
        try:
            for pdu in in_order(pdus):
                results[pdu.event_id] = await self._receive(room, pdu, batch)
        finally:
            if batch.futures:
                await asyncio.wait(batch.futures)
        for future in batch.futures:
            future.result()

    async def _batch(self, room: Room, pdus: Sequence[PDU], states: Mapping[str, Sequence[str]]) -> _Batch:
        wanted = {event_id for state in states.values() for event_id in state}
        for pdu in pdus:
            wanted.update((pdu.event_id, *pdu.prev_events, *pdu.auth_events))
            if pdu.redacts is not None:
                wanted.add(pdu.redacts)
        known = {
            row["event_id"]: Event.of_row(row) for row in await sql.known(self._pool, room.nid, list(wanted))
        }
        foreign: Collection[str] = ()
        ids = [pdu.event_id for pdu in pdus]
        cited = {id for pdu in pdus for id in (*pdu.auth_events, pdu.redacts or "")}
        if lacking := cited - known.keys() - set(ids) - {""}:
            foreign = await sql.in_other_rooms(self._pool, room.nid, list(lacking))
        redactions: dict[str, list[WaitingRedaction]] = {}
        for row in await sql.pending_redactions(self._pool, room.nid, ids):
            event = Event.of_row(row)
            at_it = self._branches.auth_state(room, await self._branches.at(room, event.snapshot))
            waiting = WaitingRedaction(event.pdu(room.version), event, at_it.power_levels)
            redactions.setdefault(row["redacts"], []).append(waiting)
        return _Batch(Surroundings(known, redactions), states, [], foreign)

    async def _receive(self, room: Room, pdu: PDU, batch: _Batch) -> Result:
        stored = batch.around.known.get(pdu.event_id)
        if stored is not None and not stored.flags & FLAG_OUTLIER:
            return _result_of(stored)
        if pdu.room_id != room.room_id:
            return Result(pdu.event_id, Outcome.REJECTED, "other_room")
        if stored is not None and stored.flags & FLAG_REJECTED:
            return _result_of(stored)
        # "3. Passes hash checks, otherwise it is redacted before being processed further."
        if not check_content_hash(pdu.json):
            pdu = parse_pdu(redact(pdu.json, pdu.version), pdu.version, event_id=pdu.event_id)
        missing = tuple(event_id for event_id in pdu.prev_events if not _has_state(event_id, batch))
        missing_auth = tuple(
            id for id in pdu.auth_events if id not in batch.around.known and id not in batch.foreign
        )
        if missing or missing_auth:
            return Result(pdu.event_id, Outcome.MISSING, "", missing, missing_auth)
        target = batch.around.known.get(pdu.redacts) if pdu.redacts is not None else None
        if target is not None and target.nid == 0:
            # The redacted form takes its target's number over, which comes with being durable.
            await self._rooms.settle_whole(room)
        if stored is None and _follows(room, pdu):
            return await self._receive_next(room, pdu, batch)
        return await self._receive_branch(room, pdu, batch, stored)

    async def _receive_next(self, room: Room, pdu: PDU, batch: _Batch) -> Result:
        """An event after all newest ones: the state before it is the current state."""
        reason = self._refusal(room, pdu, room.auth_state, batch)
        number = room.chain.number
        decision = Decision(pdu, encoded(pdu), number)
        if reason:
            return await self._store_refused(room, decision, batch, FLAG_REJECTED, reason)
        reason = self._ignored(room, pdu, room.auth_state, batch)
        if reason:
            return await self._store_refused(room, decision, batch, FLAG_SOFT_FAILED, reason)
        _, future = self._accepting.next(room, decision, batch.around)
        batch.futures.append(future)
        return Result(pdu.event_id, Outcome.ACCEPTED)

    async def _receive_branch(self, room: Room, pdu: PDU, batch: _Batch, stored: Event | None) -> Result:
        """An event elsewhere in the graph."""
        try:
            for attempt in range(ATTEMPTS):
                if attempt == HOLD_AFTER:
                    room.held = asyncio.Event()
                await self._rooms.settle_whole(room)
                generation = room.generation
                before = await self._before(room, pdu, batch)
                state = self._branches.auth_state(room, before.state)
                decision = Decision(pdu, encoded(pdu), before.number, before, stored)
                # "4. Passes authorization rules based on the event's auth events, otherwise it is rejected."
                # "5. Passes authorization rules based on the state before the event, otherwise it is
                # rejected."
                reason = self._refusal(room, pdu, state, batch)
                if reason:
                    return await self._store_refused(room, decision, batch, FLAG_REJECTED, reason)
                # What came between is not durable, so the state after it cannot be read yet.
                if _has_moved(room, generation):
                    continue
                # "6. Passes authorization rules based on the current state of the room, otherwise it is
                # “soft failed”."
                reason = await self._soft_failure(room, pdu, before)
                reason = reason or self._ignored(room, pdu, state, batch)
                if reason:
                    return await self._store_refused(room, decision, batch, FLAG_SOFT_FAILED, reason)
                if _has_moved(room, generation):
                    continue
                merged = await self._accepting.merged(room, decision, await self._followed(room, pdu, batch))
                if _has_moved(room, generation):
                    continue
                _, future = self._accepting.branch(room, merged, batch.around, _gaps(room, pdu, batch))
                batch.futures.append(future)
                return Result(pdu.event_id, Outcome.ACCEPTED)
        finally:
            if room.held is not None:
                room.held.set()
                room.held = None
        raise Unavailable("The room is too busy: try again")

    # -- the checks --

    def _refusal(self, room: Room, pdu: PDU, before: AuthState, batch: _Batch) -> str:
        """The rule that an event breaks by its auth events or the state before it; empty if none."""
        if any(event_id in batch.foreign for event_id in pdu.auth_events):
            # "If any event in auth_events has a room_id which does not match that of the event being
            # authorised, reject."
            return "auth_events.other_room"
        auth_events = [batch.around.known[event_id] for event_id in pdu.auth_events]
        pdus = [self._pdu(room, event) for event in auth_events]
        rejected = {event.event_id for event in auth_events if event.flags & FLAG_REJECTED}
        create = room.auth_state.create
        if any("\x00" in text for text in (pdu.type, pdu.state_key or "", pdu.sender)):
            return "nul"  # cannot be stored, nor looked up
        try:
            check_auth_events(pdu, pdus, rejected, create)
            cited: dict[StateKey, PDU] = {event.key: event for event in pdus if event.key is not None}
            if pdu.version.room_id_is_create_hash and create is not None and pdu.type != "m.room.create":
                cited[("m.room.create", "")] = create
            check_event(pdu, AuthState(room.version, cited))
            if room.partial_servers is not None:
                before = AuthState(room.version, WithCitedMembers(before, cited))
            check_event(pdu, before)
        except Rejected as cause:
            return cause.rule
        return ""

    def _ignored(self, room: Room, pdu: PDU, before: AuthState, batch: _Batch) -> str:
        """Why clients are not shown an event that may stand; empty if they are."""
        if pdu.event_id in batch.unwanted:
            return POLICY_SERVER
        if pdu.redacts is None:
            return ""
        # "If the server would apply a redaction, the redaction event is also sent to clients": rooms/v3,
        # "Handling redactions". One of what is not known yet is shown, and waits for it.
        target = batch.around.known.get(pdu.redacts)
        if target is None:
            return REDACTION if pdu.redacts in batch.foreign else ""
        applies = redaction_applies(pdu, target.pdu(room.version), before.power_levels)
        return "" if applies else REDACTION

    def _pdu(self, room: Room, event: Event) -> PDU:
        current = room.state.get(event.key) if event.state_key is not None else None
        if current is not None and current.event_id == event.event_id:
            known = room.auth_state.events.get(event.key)  # kept there, so it is not parsed anew
            if known is not None:
                return known
        return event.pdu(room.version)

    async def _soft_failure(self, room: Room, pdu: PDU, before: BranchState) -> str:
        """The rule that an event breaks by the current state, in which the state before it has its say:
        what led to it may not have been known here.
        """
        branches = [await self._branches.after(room, event) for event in room.extremities]
        current = await self._branches.resolve(room, [*branches, before], {})
        if current.origin == before.origin or room.partial_servers is not None:
            return ""  # of a room that lacks members, the current state cannot say more
        try:
            check_event(pdu, self._branches.auth_state(room, current.state))
        except Rejected as cause:
            return cause.rule
        return ""

    async def _before(self, room: Room, pdu: PDU, batch: _Batch) -> BranchState:
        """The state before an event: after its prev events, resolved."""
        found: list[BranchState] = []
        for event_id in pdu.prev_events:
            if event_id in batch.states:
                ids = batch.states[event_id]
                events = [batch.around.known[id] for id in ids if id in batch.around.known]
                state = {
                    event.key: event
                    for event in events
                    if event.state_key is not None and not event.flags & FLAG_REJECTED
                }
                found.append(BranchState(object(), state, None))
            else:
                found.append(await self._branches.after(room, batch.around.known[event_id]))
        return await self._branches.resolve(room, found, {})

    async def _followed(self, room: Room, pdu: PDU, batch: _Batch) -> set[str]:
        """The events that are newest ones no more after this one: those before it, and what refused ones
        among them come after.

        A refused event follows others without taking their place ("Soft failure": it is no forward
        extremity). What is built on it does.
        """
        followed = set(pdu.prev_events)
        pending = [batch.around.known[id] for id in pdu.prev_events if id in batch.around.known]
        while refused := [event for event in pending if event.flags & REFUSED]:
            before = {id for event in refused for id in event.pdu(room.version).prev_events} - followed
            followed |= before
            if len(followed) > FOLLOWED_MAX or all(each.event_id in followed for each in room.extremities):
                break
            pending = [Event.of_row(row) for row in await sql.known(self._pool, room.nid, list(before))]
        return followed

    # -- storing --

    async def _store_refused(
        self, room: Room, decision: Decision, batch: _Batch, flag: int, reason: str
    ) -> Result:
        """Keep an event that takes no part in the room, so that others may refer to it."""
        nid = decision.stored.nid if decision.stored is not None else None
        if nid is None:
            [nid] = await sql.next_past_nids(self._pool, 1)
        if room.stale:
            raise ChainBroken
        event, layers = self._accepting.refused(room, decision)
        event.nid, event.flags = nid, flag
        change = UnseenEvents([event], room, layers)
        batch.futures.append(self._rooms.submit(room, [change]))
        batch.around.known[event.event_id] = event
        outcome = Outcome.REJECTED if flag == FLAG_REJECTED else Outcome.SOFT_FAILED
        return Result(event.event_id, outcome, reason)


def _gaps(room: Room, pdu: PDU, batch: _Batch) -> list[Change]:
    """Of an event on top of a state that was asked for: what lies behind it is missing."""
    opened = [(min(pdu.depth, INTEGER_MAX), id) for id in pdu.prev_events if not _is_placed(id, batch)]
    return [GapsChange(room.nid, opened)] if opened else []


def encoded(pdu: PDU) -> bytes:
    """An event as it is stored."""
    if pdu.version.strict_canonical_json:
        return encode_canonical(pdu.json)
    return encode_legacy(pdu.json)


def in_order(pdus: Sequence[PDU]) -> list[PDU]:
    """Events so that each comes after those of them that it refers to."""
    by_id = {pdu.event_id: pdu for pdu in pdus}
    ordered: dict[str, PDU] = {}
    for start in sorted(by_id.values(), key=lambda pdu: pdu.depth):
        stack = [start]
        opened: set[str] = set()
        while stack:
            pdu = stack[-1]
            opened.add(pdu.event_id)
            before = [
                by_id[event_id]
                for event_id in (*pdu.prev_events, *pdu.auth_events)
                if event_id in by_id and event_id not in ordered and event_id not in opened
            ]
            if before:
                stack.extend(before)
                continue
            stack.pop()
            ordered.setdefault(pdu.event_id, pdu)
    return list(ordered.values())


def _has_moved(room: Room, generation: int) -> bool:
    """Whether something was written since. Raises ChainBroken if that is lost."""
    if room.stale:
        raise ChainBroken
    return room.generation != generation


def _follows(room: Room, pdu: PDU) -> bool:
    extremities = room.extremities
    if len(extremities) == 1:
        return len(pdu.prev_events) == 1 and pdu.prev_events[0] == extremities[0].event_id
    return set(pdu.prev_events) == {event.event_id for event in extremities}


def _is_placed(event_id: str, batch: _Batch) -> bool:
    event = batch.around.known.get(event_id)
    return event is not None and not event.flags & FLAG_OUTLIER and event.snapshot >= 0


def _has_state(event_id: str, batch: _Batch) -> bool:
    return _is_placed(event_id, batch) or event_id in batch.states


def _result_of(event: Event) -> Result:
    if event.flags & FLAG_REJECTED:
        return Result(event.event_id, Outcome.REJECTED, "known")
    if event.flags & FLAG_SOFT_FAILED:
        return Result(event.event_id, Outcome.SOFT_FAILED, "known")
    return Result(event.event_id, Outcome.ACCEPTED)
