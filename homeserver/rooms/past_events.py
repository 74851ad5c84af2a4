"""Events that did not arrive live: a joined room's state and auth chain, other outliers, fetched history.

Format and signatures are the caller's to check. Source: Server-Server API, "Joining Rooms", "Backfilling and
retrieving missing events", "Retrieving event authorization information".
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence

from federation.auth_events import check_auth_events
from federation.auth_rules import AuthState, check_event
from federation.errors import Rejected
from federation.event import PDU, StateKey, parse_pdu
from federation.hashing import check_content_hash
from federation.redaction import redact
from federation.room_versions import RoomVersion
from homeserver.commit_log.change import Change
from homeserver.commit_log.committer import ChainBroken
from homeserver.errors import Unavailable
from homeserver.rooms.accepting import INTEGER_MAX, Accepting, Decision, Merged, Surroundings, new_event
from homeserver.rooms.branch_states import BranchState, BranchStates
from homeserver.rooms.event import FLAG_OUTLIER, FLAG_REJECTED, Event
from homeserver.rooms.history_gaps import GapsChange
from homeserver.rooms.outside_changes import RoomEntered
from homeserver.rooms.partial_state import RoomEnteredPartly, WithCitedMembers
from homeserver.rooms.past_consequences import Consequences
from homeserver.rooms.past_states import PastStates
from homeserver.rooms.receiving import NO_STATES, Outcome, Receiving, Result, encoded, in_order
from homeserver.rooms.room import MEMBER, Room, is_shared
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.unseen_events import UnseenEvents
from homeserver.storage import outside_rooms as outside_sql
from homeserver.storage import received_events as sql
from homeserver.storage.connection import Pool

CREATE: StateKey = ("m.room.create", "")
EVENTS_PER_QUERY = 2000  # between which others on the event loop get their turn
THREADED_FROM = 100  # events, each of which takes some 30 µs to judge
UNKNOWN_SNAPSHOT = -1  # of an event, the state before which is not known


class InvalidRoomState(Exception):
    """What a server answered to a join cannot be a room's state. The message says why, without content."""


class PastEvents:
    """Stores them: nobody's sync shows them as new."""

    def __init__(self, pool: Pool, rooms: Rooms, branches: BranchStates, receiving: Receiving) -> None:
        self._pool = pool
        self._rooms = rooms
        self._branches = branches
        self._accepting = Accepting(rooms, branches)
        self._receiving = receiving
        self._consequences = Consequences(pool, branches)

    async def install(
        self,
        version: RoomVersion,
        state: Sequence[PDU],
        auth_chain: Sequence[PDU],
        join: PDU,
        *,
        lacks_members_of: Sequence[str] | None = None,
    ) -> Room:
        """Make a room of the answer to a join: `state` is that before `join`. All or nothing is stored.

        Where the room is known already, from an earlier stay, it goes on from there. State that its own auth
        events refuse is left out. `lacks_members_of` are the servers in the room where the state has not all
        members; only for rooms that are not known. Raises InvalidRoomState, Unavailable.
        """
        partly = lacks_members_of is not None
        async with self._receiving.lock(join.room_id):
            # a large room's state takes a second: others on the event loop get their turn meanwhile
            judged, before = await asyncio.to_thread(_judge, version, state, auth_chain, join, partly)
            room = await self._rooms.find(join.room_id)
            if room is None:
                # users may be invited to it: then it has a number, and these invites are stored
                nid = await outside_sql.number(self._pool, join.room_id) or await self._rooms.next_nid()
                room = self._rooms.unknown(nid, join.room_id, version)
            elif partly:
                raise InvalidRoomState("the room is known, and its members were left out")
            else:
                await self._rooms.settle_whole(room)
            known = await self._stored(room, judged.pdus)
            outliers = await self._outliers(room, judged, known)
            outside = await outside_sql.memberships(self._pool, room.nid)
            if partly:  # of whom the state says nothing, it is not known yet
                outside = {user_id: was for user_id, was in outside.items() if (MEMBER, user_id) in before}
            if room.stale:
                raise Unavailable("The room was written meanwhile: try again")
            if room.is_new:
                self._rooms.adopt(room)
            events = {key: known[pdu.event_id] for key, pdu in before.items()}
            branch = BranchState(object(), events, None)
            decision = Decision(join, encoded(join), None, branch)
            event = new_event(room, decision.pdu, decision.json, events)
            after = self._branches.after_new(branch, event)
            merged = Merged(decision, event, (event,), after)
            around = Surroundings(known, {})
            first: list[Change] = [
                RoomEntered(room.nid),
                UnseenEvents(outliers, room),
                GapsChange(room.nid, [(event.depth, event_id) for event_id in join.prev_events]),
            ]
            if lacks_members_of is not None:
                first.append(RoomEnteredPartly(room.nid, event, lacks_members_of))
            room.lacks_members_of(lacks_members_of)
            _, future = self._accepting.branch(room, merged, around, first, outside)
            await future
            room.is_new = False
            return room

    async def store_outliers(self, room_id: str, pdus: Sequence[PDU]) -> list[Result]:
        """Keep events that others refer to, such as auth events: judged by their auth events alone.

        Raises NotFound, Unavailable.
        """
        return await self._store(room_id, pdus, FLAG_OUTLIER, NO_STATES)

    async def backfill(
        self, room_id: str, pdus: Sequence[PDU], states: Mapping[str, Sequence[str]] = NO_STATES
    ) -> list[Result]:
        """Keep history from before what is known. `states` names, for events of which it was asked, those of
        the state before them, which must be known; for others it is told from what comes before or follows
        them, where that is possible. Raises NotFound, Unavailable.
        """
        return await self._store(room_id, pdus, 0, states)

    async def _store(
        self, room_id: str, pdus: Sequence[PDU], flags: int, states: Mapping[str, Sequence[str]]
    ) -> list[Result]:
        async with self._receiving.lock(room_id):
            room = await self._rooms.get(room_id)
            await self._rooms.settle_whole(room)
            cited = {event_id for pdu in pdus for event_id in pdu.auth_events}
            wanted = cited.union(*states.values()) | {pdu.event_id for pdu in pdus}
            if not flags:
                wanted.update(event_id for pdu in pdus for event_id in pdu.prev_events)
                wanted.update(pdu.redacts for pdu in pdus if pdu.redacts is not None)
            known = await self._stored(room, wanted)
            placed = {id for id, event in known.items() if not event.flags & FLAG_OUTLIER}
            context = {
                id: event.pdu(room.version)
                for id, event in known.items()
                if id in cited and not event.flags & FLAG_REJECTED
            }
            create = room.state.get(CREATE)
            if create is not None:
                context[create.event_id] = create.pdu(room.version)
            new = [pdu for pdu in pdus if pdu.event_id not in (known if flags else placed)]
            rejected = {id for id, event in known.items() if event.flags & FLAG_REJECTED}
            judged = await _judged(new, room.version, context, rejected)
            missing = {
                pdu.event_id: tuple(id for id in pdu.auth_events if id not in known and id not in judged.pdus)
                for pdu in new
            }
            lacking = {id for ids in missing.values() for id in ids}
            if lacking and (foreign := await sql.in_other_rooms(self._pool, room.nid, list(lacking))):
                # "If any event in auth_events has a room_id which does not match …, reject": it is judged so
                missing = {
                    event_id: tuple(id for id in ids if id not in foreign)
                    for event_id, ids in missing.items()
                }
            storing = [pdu for pdu in judged.pdus.values() if not missing.get(pdu.event_id)]
            nids = iter(await sql.next_past_nids(self._pool, len(storing)))
            events: dict[str, Event] = {}
            for pdu in sorted(storing, key=lambda pdu: -pdu.depth):  # numbers descend into the past
                event = events[pdu.event_id] = new_event(room, pdu, encoded(pdu), {})
                earlier = known.get(pdu.event_id)
                event.nid = earlier.nid if earlier is not None else next(nids)
                event.snapshot = UNKNOWN_SNAPSHOT
                event.flags = flags | (FLAG_REJECTED if pdu.event_id in judged.rejected else 0)
            if flags:
                await self._rooms.commit(room, [UnseenEvents(list(events.values()), room)])
            elif events:
                await self._place(room, storing, events, known, placed, judged.rejected, states)
        return [_result(pdu, judged, missing) for pdu in pdus]

    async def _place(
        self,
        room: Room,
        pdus: Sequence[PDU],
        events: Mapping[str, Event],
        known: Mapping[str, Event],
        placed: Collection[str],
        rejected: Collection[str],
        given: Mapping[str, Sequence[str]],
    ) -> None:
        """Give events from the past their place in the graph."""
        pasts = PastStates(self._branches, room, events, known, rejected, given)
        try:
            await pasts.follow(pdus)
            following = await sql.following(self._pool, room.nid, *_depths_above(pdus))
            states = {event_id: before.state for event_id, before in pasts.before.items()}
            by_id = {pdu.event_id: pdu for pdu in pdus}
            consequences = await self._consequences.of(room, by_id, events, known, states)
            if room.stale:
                raise ChainBroken
            numbers, layers = pasts.number()
            _carry_back(pdus, numbers, following)
            for event_id, number in numbers.items():
                events[event_id].snapshot = number
            if not all(_is_shared(event) for event in (*events.values(), *pasts.visibilities())):
                room.always_shared = False
            opened = [
                (event.depth, event_id)
                for event in events.values()
                for event_id in by_id[event.event_id].prev_events
                if event_id not in events and event_id not in placed
            ]
            await self._rooms.commit(
                room,
                [
                    UnseenEvents(list(events.values()), room, layers),
                    consequences,
                    GapsChange(room.nid, opened, list(events)),
                ],
            )
        except BaseException:
            self._branches.forget(room.nid)
            raise

    async def _stored(self, room: Room, event_ids: Iterable[str]) -> dict[str, Event]:
        ids, found = list(event_ids), dict[str, Event]()
        for start in range(0, len(ids), EVENTS_PER_QUERY):
            for row in await sql.known(self._pool, room.nid, ids[start : start + EVENTS_PER_QUERY]):
                found[row["event_id"]] = Event.of_row(row)
        return found

    async def _outliers(self, room: Room, judged: _Judged, known: dict[str, Event]) -> list[Event]:
        """The events that are not stored yet; `known` is completed with them."""
        new = [pdu for pdu in judged.pdus.values() if pdu.event_id not in known]
        nids = await sql.next_past_nids(self._pool, len(new))

        def build() -> list[Event]:
            events: list[Event] = []
            for pdu, nid in zip(new, nids, strict=True):
                event = new_event(room, pdu, encoded(pdu), {})
                event.nid = nid
                event.snapshot = UNKNOWN_SNAPSHOT
                event.flags = FLAG_OUTLIER | (FLAG_REJECTED if pdu.event_id in judged.rejected else 0)
                events.append(event)
            return events

        events = await asyncio.to_thread(build)
        known.update((event.event_id, event) for event in events)
        return events


async def _judged(
    pdus: Sequence[PDU], version: RoomVersion, context: Mapping[str, PDU], rejected: Iterable[str]
) -> _Judged:
    """As `_Judged.of`, off the loop where there are many."""
    if len(pdus) < THREADED_FROM:
        return _Judged.of(pdus, version, context, rejected)
    return await asyncio.to_thread(_Judged.of, pdus, version, context, rejected)


class _Judged:
    """Events by id, redacted where their hash differs, and those that their auth events refuse."""

    def __init__(self) -> None:
        self.pdus: dict[str, PDU] = {}
        self.rejected: set[str] = set()

    @classmethod
    def of(
        cls,
        pdus: Sequence[PDU],
        version: RoomVersion,
        context: Mapping[str, PDU],
        rejected: Iterable[str] = (),
    ) -> _Judged:
        judged = cls()
        judged.rejected.update(rejected)
        for pdu in in_order(pdus):
            if not check_content_hash(pdu.json):
                pdu = parse_pdu(redact(pdu.json, version), version, event_id=pdu.event_id)
            judged.pdus[pdu.event_id] = pdu
        by_id = {**context, **judged.pdus}
        create = next((pdu for pdu in by_id.values() if pdu.key == CREATE), None)
        for pdu in judged.pdus.values():
            try:
                _check(pdu, by_id, judged.rejected, create)
            except Rejected:
                judged.rejected.add(pdu.event_id)
        return judged

    def state(self, state: Sequence[PDU], join: PDU, partly: bool) -> dict[StateKey, PDU]:
        """The state before a join that it is allowed by; `partly` if members are lacking, of whom those count
        that the join cites. Raises InvalidRoomState."""
        found: dict[StateKey, PDU] = {}
        for pdu in state:
            key = pdu.key
            if pdu.room_id != join.room_id:
                raise InvalidRoomState("an event of the state is of another room")
            if key is None or (key in found and found[key].event_id != pdu.event_id):
                raise InvalidRoomState("the state is no map of state events")
            if pdu.event_id not in self.rejected:
                found[key] = self.pdus[pdu.event_id]
        create = found.get(CREATE)
        if create is None:
            raise InvalidRoomState("the state has no create event that may stand")
        if create.content.get("room_version", "1") != join.version.id:
            raise InvalidRoomState("the room has another version")
        try:
            _check(join, self.pdus, self.rejected, create)
            before = AuthState(join.version, found)
            if partly:
                cited = {p.key: p for id in join.auth_events if (p := self.pdus[id]).key is not None}
                before = AuthState(join.version, WithCitedMembers(before, cited))
            check_event(join, before)
        except Rejected as cause:
            raise InvalidRoomState(f"the state does not allow the join: {cause.rule}") from cause
        # What a state holds is replaced, never taken away. Without the power levels that the join cites, for
        # one, everyone might do everything in a room that we would be in alone.
        for pdu in (self.pdus[event_id] for event_id in join.auth_events):
            if pdu.key not in found and not (partly and pdu.type == MEMBER):
                raise InvalidRoomState(f"the state lacks the {pdu.type} that the join cites")
        return found


def _carry_back(pdus: Sequence[PDU], numbers: dict[str, int], following: Sequence[sql.Record]) -> None:
    """Number the states before messages, which leave the state as it was, by what follows them."""
    after = {event_id: row["snapshot"] for row in following for event_id in row["prev_events"]}
    for pdu in reversed(pdus):
        number = numbers.get(pdu.event_id)
        if number is None and pdu.state_key is None and pdu.event_id in after:
            number = numbers[pdu.event_id] = after[pdu.event_id]
        if number is not None and len(pdu.prev_events) == 1:
            after.setdefault(pdu.prev_events[0], number)


def _is_shared(event: Event) -> bool:
    """Whether an event leaves it at that: members see what was sent before they joined."""
    return event.type != "m.room.history_visibility" or is_shared(event)


def _depths_above(pdus: Sequence[PDU]) -> tuple[int, int]:
    depths = [min(pdu.depth, INTEGER_MAX - 1) for pdu in pdus] or [0]
    return min(depths) + 1, max(depths) + 1


def _judge(
    version: RoomVersion, state: Sequence[PDU], auth_chain: Sequence[PDU], join: PDU, partly: bool
) -> tuple[_Judged, dict[StateKey, PDU]]:
    """The events of an answer to a join, and the state before it. Raises InvalidRoomState."""
    judged = _Judged.of((*auth_chain, *state), version, {})
    return judged, judged.state(state, join, partly)


def _check(pdu: PDU, by_id: Mapping[str, PDU], rejected: set[str], create: PDU | None) -> None:
    """Judge an event by its auth events. Raises Rejected."""
    if any("\x00" in text for text in (pdu.type, pdu.state_key or "", pdu.sender)):
        raise Rejected("nul", pdu.event_id)  # cannot be stored, nor looked up
    cited = [by_id[id] for id in pdu.auth_events if id in by_id]
    if len(cited) != len(pdu.auth_events):
        raise Rejected("auth_events.unknown", pdu.event_id)
    check_auth_events(pdu, cited, rejected, create)
    state: dict[StateKey, PDU] = {each.key: each for each in cited if each.key is not None}
    if pdu.version.room_id_is_create_hash and create is not None and pdu.key != CREATE:
        state[CREATE] = create
    check_event(pdu, AuthState(pdu.version, state))


def _result(pdu: PDU, judged: _Judged, missing: Mapping[str, tuple[str, ...]]) -> Result:
    if lacking := missing.get(pdu.event_id):
        return Result(pdu.event_id, Outcome.MISSING, "", (), lacking)
    if pdu.event_id in judged.rejected:
        return Result(pdu.event_id, Outcome.REJECTED, "auth_events")
    return Result(pdu.event_id, Outcome.ACCEPTED)
