"""Fetching what events refer to and is not known here, so that they can be taken in.

Bob's server was away for an hour. It is sent an event whose prev events it does not know:

1. It asks for what lies between (`getMissingPreviousEvents`), again and again from the older end, until all
   refers to what is known. Then everything is taken in, the oldest first, as if it had arrived in time.
2. Where that leads nowhere, or is too much, the state after each missing event is asked for (`state_ids`,
   and the events in it that are not known), and the rest is taken in on top of it. What the event itself
   names has to be had, though: an event whose server does not give that is dropped. A gap stays in the
   history, and is noted, so that it can be filled when somebody pages back (`backfilling`). For a while all
   of the state is insisted on: what is left out of it once is missing here for good.
3. Auth events that are not known are asked for as well, and kept beside the graph.
4. What was written before this server came into the room is history, and nobody's news: where a branch leads
   back there, the walk ends, and its end gets its place among what is paged back to.

The server that sent the event is asked first, then others in the room. All of them may lie: what they answer
is bounded, verified, and has to be connected with what it was asked for.

Source: Server-Server API, "Backfilling and retrieving missing events".
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from federation.event import PDU, StateKey
from federation.transport.errors import BadResponse, RequestFailed
from homeserver.federating.event_fetching import EventFetching, RoomName
from homeserver.federating.room_access import RoomAccess
from homeserver.rooms.accepting import INTEGER_MAX
from homeserver.rooms.event import FLAG_REJECTED
from homeserver.rooms.past_events import CREATE, PastEvents
from homeserver.rooms.receiving import NO_STATES, Outcome, Receiving, Result, encoded, in_order
from homeserver.rooms.room import Room
from homeserver.storage import event_graph, history_gaps
from homeserver.storage import received_events as sql
from homeserver.storage.connection import Pool

log = structlog.get_logger()

HELD_MAX = 2_000  # events that wait in memory for what lies before them
HELD_BYTES_MAX = 16 * 1024 * 1024
HISTORY_MAX = 100  # ends of branches that lead back to before this server was in the room
ROUNDS_MAX = 120  # of asking for what lies before
PER_ROUND = 100
ENDS_MAX = 20  # events named in one question
EDGES_MAX = 10  # missing events after which the state is asked for
SERVERS_MAX = 4
SINGLY_MAX = 60  # events that are fetched one by one; for more, the whole state is asked for
AUTH_ROUNDS_MAX = 4
LACKING_MAX = 5  # events for which auth events are asked in a round
STATES_MAX = 5  # asked for of one page of history: of events before which nothing of it stands
TAKEN_AT_ONCE = 50  # events, before others on the event loop get their turn


@dataclass(slots=True)
class _Held:
    """Events in hand, by id, and those cited by them that are known to stand in the room here."""

    pdus: dict[str, PDU] = field(default_factory=dict)
    placed: set[str] = field(default_factory=set)
    history: dict[str, PDU] = field(default_factory=dict)
    """Those of before this server was in the room, where the walk back has ended."""
    size_bytes: int = 0

    def add(self, pdus: Iterable[PDU]) -> None:
        """Hold more; events that are in hand already are not held twice."""
        for pdu in pdus:
            if pdu.event_id not in self.pdus:
                self.pdus[pdu.event_id] = pdu
                self.size_bytes += len(encoded(pdu))

    def cited(self) -> set[str]:
        """What is cited and neither in hand nor known to be here."""
        cited = {event_id for pdu in self.pdus.values() for event_id in pdu.prev_events}
        return cited - self.pdus.keys() - self.placed - self.history.keys()

    @property
    def is_full(self) -> bool:
        return (
            len(self.pdus) >= HELD_MAX
            or self.size_bytes >= HELD_BYTES_MAX
            or len(self.history) >= HISTORY_MAX
        )


@dataclass(frozen=True, slots=True)
class Filled:
    """What became of events, by id, and which of those that are MISSING there is no use in trying again."""

    results: Mapping[str, Result]
    hopeless: Collection[str]


class StateLacking(RequestFailed):
    """Some of a state is not to be had now, or its signatures cannot be checked."""


@dataclass(frozen=True, slots=True)
class GapFilling:
    """Fetches, and hands over what it fetched."""

    server_name: str
    pool: Pool
    fetching: EventFetching
    receiving: Receiving
    past: PastEvents
    access: RoomAccess

    async def fill(self, room: Room, origins: Iterable[str], pdus: Sequence[PDU], *, patient: bool) -> Filled:
        """Take in events that ``origins`` sent, with what they need.

        MISSING are those for which nobody had it; if ``patient``, also those after a state of which some is
        lacking. Raises NotFound, Unavailable, ChainBroken.
        """
        servers = self.servers(room, origins)
        held = _Held()
        held.add(pdus)
        all_answered = await self._fetch_previous(room, servers, held)
        if held.history:
            await self._take_history(room, servers, held, patient)
        results = await self._take(room, servers, held, NO_STATES)
        undivulged = await self._undivulged(room, held, pdus)
        missing = {
            event_id
            for result in results.values()
            if result.event_id not in undivulged
            for event_id in result.missing
            if event_id not in results or results[event_id].outcome is not Outcome.MISSING
        }  # of those that have come, what is in the past without the state after it
        if missing:
            states = await self._states_after(room, servers, missing, patient)
            if states:
                results = await self._take(room, servers, held, states)
        of_pdus = {pdu.event_id: results[pdu.event_id] for pdu in pdus}
        return Filled(of_pdus, undivulged if all_answered else ())

    async def _undivulged(self, room: Room, held: _Held, pdus: Sequence[PDU]) -> set[str]:
        """Those whose own prev events are not to be had, and that nothing else in hand builds on.

        Their server must have these, and does not tell: it is not taken at its word for the state after them.
        """
        missing = await self._missing(room, held)
        cited = {event_id for pdu in held.pdus.values() for event_id in pdu.prev_events}
        return {
            pdu.event_id
            for pdu in pdus
            if pdu.event_id not in cited and not missing.isdisjoint(pdu.prev_events)
        }

    def servers(self, room: Room, first: Iterable[str] = ()) -> list[str]:
        """Whom to ask about a room, in order."""
        chosen = dict.fromkeys((*first, *self.access.servers(room)))
        return [server for server in chosen if server != self.server_name][:SERVERS_MAX]

    # -- what lies between --

    async def _fetch_previous(self, room: Room, servers: Sequence[str], held: _Held) -> bool:
        """Get what lies before the events in hand; whether all who were asked have answered."""
        name = RoomName(room.room_id, room.version)
        began: int | None = None
        rounds, all_answered = 0, True
        for server in servers:
            while rounds < ROUNDS_MAX and not held.is_full:
                missing = await self._missing(room, held)
                if not missing:
                    return True
                rounds += 1
                if began is None:
                    began = await self._began(room)
                ends = [pdu for pdu in held.pdus.values() if not missing.isdisjoint(pdu.prev_events)]
                ends.sort(key=lambda pdu: pdu.depth)
                latest = [pdu.event_id for pdu in ends[:ENDS_MAX]]
                earliest = [event.event_id for event in room.extremities[:ENDS_MAX]]
                try:
                    found = await self.fetching.missing_events(server, name, earliest, latest, PER_ROUND)
                except RequestFailed as failure:
                    log.info("missing events not had", server=server, cause=str(failure))
                    all_answered = all_answered and not failure.may_retry
                    break
                new = connected(missing, found, until=began)
                if not new:
                    break
                held.add(pdu for pdu in new.values() if pdu.depth >= began)
                held.history.update((id, pdu) for id, pdu in new.items() if pdu.depth < began)
        return all_answered

    async def _began(self, room: Room) -> int:
        """The depth before which all is from before this server was in the room; 0 if nothing is missing.

        Depths are what others claim: that of a gap counts as far as some user of this server was there.
        """
        gaps = await history_gaps.highest(self.pool, room.nid, INTEGER_MAX, -INTEGER_MAX, 1)
        members = [event.depth for user in room.local_members if (event := room.member(user)) is not None]
        return min(int(gaps[0]["depth"]), *members) if gaps and members else 0

    async def _missing(self, room: Room, held: _Held) -> set[str]:
        cited = held.cited()
        if cited:
            rows = await event_graph.placed(self.pool, room.nid, list(cited))
            held.placed.update(row["event_id"] for row in rows)
        return cited - held.placed

    # -- history --

    async def _take_history(self, room: Room, servers: Sequence[str], held: _Held, patient: bool) -> None:
        """Give the ends of the walk their place in the past; what gets none is taken in with the rest."""
        for server in servers if room.partial_servers is None else ():  # of a part, no state is a whole one
            await self.place_history(room, server, held.history, patient=patient)
            for row in await event_graph.placed(self.pool, room.nid, list(held.history)):
                held.placed.add(row["event_id"])
                del held.history[row["event_id"]]
            if not held.history:
                return
        held.add(held.history.values())
        held.history.clear()

    async def place_history(
        self, room: Room, server: str, found: Mapping[str, PDU], *, patient: bool = False
    ) -> bool:
        """Keep events of the past with the states before them; whether any could be kept. The room must not
        lack members. Raises ChainBroken, NotFound, Unavailable.
        """
        states = await self._states_before(room, server, found, patient)
        pdus = list(found.values())
        results = await self.past.backfill(room.room_id, pdus, states)
        lacking = [result for result in results if result.outcome is Outcome.MISSING]
        if lacking:
            for result in lacking[:LACKING_MAX]:
                await self.fetch_auth(room, [server], found[result.event_id])
            results = await self.past.backfill(room.room_id, pdus, states)
        return any(result.outcome is not Outcome.MISSING for result in results)

    async def _states_before(
        self, room: Room, server: str, found: Mapping[str, PDU], patient: bool
    ) -> dict[str, list[str]]:
        """The states before those events that follow nothing else of these, nor what is here."""
        cited = {id for pdu in found.values() for id in pdu.prev_events if id not in found}
        rows = await event_graph.placed(self.pool, room.nid, list(cited))
        lacking = cited - {row["event_id"] for row in rows if row["snapshot"] >= 0}
        first = [pdu for pdu in found.values() if not lacking.isdisjoint(pdu.prev_events)]
        states: dict[str, list[str]] = {}
        for pdu in sorted(first, key=lambda pdu: pdu.depth)[:STATES_MAX]:
            try:
                before, _ = await self.state_before(room, server, pdu.event_id, patient=patient)
            except RequestFailed as failure:
                log.info("state not had", server=server, event_id=pdu.event_id, cause=str(failure))
                continue
            states[pdu.event_id] = list(before.values())
        return states

    # -- taking in --

    async def _take(
        self,
        room: Room,
        servers: Sequence[str],
        held: _Held,
        states: Mapping[str, Sequence[str]],
    ) -> dict[str, Result]:
        results = await self._receive(room, list(held.pdus.values()), states)
        for _ in range(AUTH_ROUNDS_MAX):
            lacking = [
                held.pdus[result.event_id]
                for result in results.values()
                if result.missing_auth and not set(result.missing_auth) <= held.pdus.keys()
            ]
            # each by itself: what one lies about does not hold up the others
            if not any([await self.fetch_auth(room, servers, pdu) for pdu in lacking[:LACKING_MAX]]):
                break
            waiting = [pdu for id, pdu in held.pdus.items() if results[id].outcome is Outcome.MISSING]
            results |= await self._receive(room, waiting, states)
        return results

    async def _receive(
        self, room: Room, pdus: Sequence[PDU], states: Mapping[str, Sequence[str]]
    ) -> dict[str, Result]:
        results: dict[str, Result] = {}
        ordered = await asyncio.to_thread(in_order, pdus)
        for start in range(0, len(ordered), TAKEN_AT_ONCE):
            part = ordered[start : start + TAKEN_AT_ONCE]
            cited = {event_id for pdu in part for event_id in pdu.prev_events}
            needed = {event_id: state for event_id, state in states.items() if event_id in cited}
            for result in await self.receiving.receive(room.room_id, part, needed):
                results[result.event_id] = result
        return results

    # -- what authorises --

    async def fetch_auth(self, room: Room, servers: Sequence[str], pdu: PDU) -> bool:
        """Get what authorises an event; whether all of it is here now."""
        name = RoomName(room.room_id, room.version)
        for server in servers:
            missing = await self._unknown(room, pdu.auth_events)
            if not missing:
                return True
            try:
                chain = await self.fetching.event_auth(server, name, pdu.event_id)
            except RequestFailed as failure:
                log.info("auth events not had", server=server, cause=str(failure))
                chain = []
            await self.keep(room, connected(missing, chain, by_auth=True).values())
            missing = await self._unknown(room, pdu.auth_events)
            if missing:
                await self.keep(room, await self.fetching.events(server, name, sorted(missing)))
            if not await self._unknown(room, pdu.auth_events):
                return True
        return False

    async def keep(self, room: Room, pdus: Collection[PDU]) -> None:
        """Store events beside the graph, what authorises others before them."""
        ordered = await asyncio.to_thread(in_order, list(pdus))
        for start in range(0, len(ordered), TAKEN_AT_ONCE):
            await self.past.store_outliers(room.room_id, ordered[start : start + TAKEN_AT_ONCE])
            await asyncio.sleep(0)

    async def _unknown(self, room: Room, event_ids: Collection[str]) -> set[str]:
        rows = await sql.known_ids(self.pool, room.nid, list(event_ids))
        return set(event_ids) - {row["event_id"] for row in rows}

    # -- the state after what is missing --

    async def _states_after(
        self, room: Room, servers: Sequence[str], missing: Collection[str], patient: bool
    ) -> dict[str, list[str]]:
        states: dict[str, list[str]] = {}
        for event_id in sorted(missing)[:EDGES_MAX]:
            for server in servers:
                try:
                    before, of_itself = await self.state_before(room, server, event_id, patient=patient)
                except RequestFailed as failure:
                    log.info("state not had", server=server, event_id=event_id, cause=str(failure))
                    continue
                if of_itself is not None:
                    before[of_itself] = event_id
                states[event_id] = list(before.values())
                break
        return states

    async def state_before(
        self, room: Room, server: str, event_id: str, *, patient: bool = False
    ) -> tuple[dict[StateKey, str], StateKey | None]:
        """The state before an event as a server has it, all of which is known here then; and what the event
        itself sets, if it is a state event that may stand. Raises RequestFailed; if ``patient``, also where
        some is lacking, which is left out otherwise.
        """
        name = RoomName(room.room_id, room.version)
        state_ids, chain_ids = await self.fetching.state_ids(server, name, event_id)
        unknown = await self._unknown(room, {*state_ids, *chain_ids, event_id})
        if len(unknown) > SINGLY_MAX:
            state, chain = await self.fetching.state(server, name, event_id)
            await self.keep(room, {pdu.event_id: pdu for pdu in (*chain, *state)}.values())
            unknown = await self._unknown(room, [event_id])
        if unknown:
            fetched = await self.fetching.events(server, name, sorted(unknown), patient=patient)
            await self.keep(room, fetched)
        if patient and (lacking := await self._unknown(room, state_ids)):
            raise StateLacking(server, f"{len(lacking)} events of the state are not to be had now")
        found: dict[StateKey, str] = {}
        of_itself: StateKey | None = None
        for row in await sql.known_ids(self.pool, room.nid, [*state_ids, event_id]):
            if row["state_key"] is None or row["flags"] & FLAG_REJECTED:
                continue
            if row["event_id"] == event_id:
                of_itself = (row["type"], row["state_key"])
            else:
                found[(row["type"], row["state_key"])] = row["event_id"]
        create = room.state.get(CREATE)
        if create is not None and found.get(CREATE) != create.event_id and of_itself != CREATE:
            raise BadResponse(server, "answered with a state that is not this room's")
        return found, of_itself


def connected(
    wanted: Collection[str], found: Sequence[PDU], *, by_auth: bool = False, until: int = -INTEGER_MAX
) -> dict[str, PDU]:
    """Those events that were asked for, and that those refer to: all else a server may have made up.

    Not those that events of a depth less than ``until`` refer to.
    """
    by_id = {pdu.event_id: pdu for pdu in found}
    reached: dict[str, PDU] = {}
    pending = [event_id for event_id in wanted if event_id in by_id]
    while pending:
        event_id = pending.pop()
        if event_id in reached:
            continue
        pdu = reached[event_id] = by_id[event_id]
        if pdu.depth < until:
            continue
        references = pdu.auth_events if by_auth else pdu.prev_events
        pending += (each for each in references if each in by_id and each not in reached)
    return reached
