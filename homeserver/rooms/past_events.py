"""Events that did not arrive live: a joined room's state and auth chain, other outliers, fetched history.

Format and signatures are the caller's to check. Source: Server-Server API, "Joining Rooms", "Backfilling and
retrieving missing events", "Retrieving event authorization information".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from federation.auth_events import check_auth_events
from federation.auth_rules import AuthState, check_event
from federation.errors import Rejected
from federation.event import PDU, StateKey, parse_pdu
from federation.hashing import check_content_hash
from federation.redaction import redact
from federation.room_versions import RoomVersion
from homeserver.commit_log.change import Change
from homeserver.errors import Unavailable
from homeserver.rooms.accepting import INTEGER_MAX, Accepting, Decision, Merged, Surroundings, new_event
from homeserver.rooms.branch_states import BranchState, BranchStates
from homeserver.rooms.event import FLAG_OUTLIER, FLAG_REJECTED, Event
from homeserver.rooms.outside_changes import RoomEntered
from homeserver.rooms.receiving import NO_STATES, Outcome, Receiving, Result, encoded, in_order
from homeserver.rooms.room import Room, is_shared
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.snapshots import Layer
from homeserver.rooms.unseen_events import UnseenEvents
from homeserver.storage import outside_rooms as outside_sql
from homeserver.storage import received_events as sql
from homeserver.storage.connection import Pool

CREATE: StateKey = ("m.room.create", "")
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

    async def install(
        self, version: RoomVersion, state: Sequence[PDU], auth_chain: Sequence[PDU], join: PDU
    ) -> Room:
        """Make a room of the answer to a join: `state` is that before `join`. All or nothing is stored.

        Where the room is known already, from an earlier stay, it goes on from there. State that its own auth
        events refuse is left out. Raises InvalidRoomState, Unavailable.
        """
        async with self._receiving.lock(join.room_id):
            judged = _Judged.of((*auth_chain, *state), version, {})
            before = judged.state(state, join)
            room = await self._rooms.find(join.room_id)
            if room is None:
                # users may be invited to it: then it has a number, and these invites are stored
                nid = await outside_sql.number(self._pool, join.room_id) or await self._rooms.next_nid()
                room = self._rooms.unknown(nid, join.room_id, version)
            else:
                await self._rooms.settle_whole(room)
            known = await self._stored(room, judged.pdus)
            outliers = await self._outliers(room, judged, known)
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
            first: list[Change] = [RoomEntered(room.nid), UnseenEvents(outliers, room)]
            _, future = self._accepting.branch(room, merged, around, first=first)
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
        the state before them, which must be known; for others it is told from what follows them, where that
        is possible. Raises NotFound, Unavailable.
        """
        return await self._store(room_id, pdus, 0, states)

    async def _store(
        self, room_id: str, pdus: Sequence[PDU], flags: int, states: Mapping[str, Sequence[str]]
    ) -> list[Result]:
        async with self._receiving.lock(room_id):
            room = await self._rooms.get(room_id)
            await self._rooms.settle_whole(room)
            ids = {pdu.event_id for pdu in pdus}
            cited = {event_id for pdu in pdus for event_id in pdu.auth_events}
            named = {event_id for state in states.values() for event_id in state}
            known = await self._stored(room, ids | cited | named)
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
            judged = _Judged.of(new, room.version, context, rejected)
            missing = {
                pdu.event_id: tuple(id for id in pdu.auth_events if id not in known and id not in judged.pdus)
                for pdu in new
            }
            snapshots, changes = ({}, []) if flags else await self._snapshots(room, new, states, known)
            storing = [pdu for pdu in judged.pdus.values() if not missing.get(pdu.event_id)]
            nids = iter(await sql.next_past_nids(self._pool, len(storing)))
            events: list[Event] = []
            for pdu in sorted(storing, key=lambda pdu: -pdu.depth):  # numbers descend into the past
                event = new_event(room, pdu, encoded(pdu), {})
                earlier = known.get(pdu.event_id)
                event.nid = earlier.nid if earlier is not None else next(nids)
                event.snapshot = snapshots.get(pdu.event_id, UNKNOWN_SNAPSHOT)
                event.flags = flags | (FLAG_REJECTED if pdu.event_id in judged.rejected else 0)
                events.append(event)
                if event.type == "m.room.history_visibility" and not is_shared(event) and not flags:
                    room.always_shared = False
            await self._rooms.commit(room, [UnseenEvents(events, room, changes)])
        return [_result(pdu, judged, missing) for pdu in pdus]

    async def _stored(self, room: Room, event_ids: Iterable[str]) -> dict[str, Event]:
        rows = await sql.known(self._pool, room.nid, list(event_ids))
        return {row["event_id"]: Event.of_row(row) for row in rows}

    async def _outliers(self, room: Room, judged: _Judged, known: dict[str, Event]) -> list[Event]:
        """The events that are not stored yet; `known` is completed with them."""
        new = [pdu for pdu in judged.pdus.values() if pdu.event_id not in known]
        nids = await sql.next_past_nids(self._pool, len(new))
        events: list[Event] = []
        for pdu, nid in zip(new, nids, strict=True):
            event = new_event(room, pdu, encoded(pdu), {})
            event.nid = nid
            event.snapshot = UNKNOWN_SNAPSHOT
            event.flags = FLAG_OUTLIER | (FLAG_REJECTED if pdu.event_id in judged.rejected else 0)
            known[pdu.event_id] = event
            events.append(event)
        return events

    async def _snapshots(
        self,
        room: Room,
        pdus: Sequence[PDU],
        states: Mapping[str, Sequence[str]],
        known: Mapping[str, Event],
    ) -> tuple[dict[str, int], list[Layer]]:
        """The numbers of the states before events, and the layers of those that are new."""
        layers: list[Layer] = []
        numbers: dict[str, int] = {}
        for event_id, ids in states.items():
            found = [known[id] for id in ids if id in known]
            state = {e.key: e for e in found if e.state_key is not None and not e.flags & FLAG_REJECTED}
            branch = room.chain.branch(state)
            layers.append(branch.layer)
            numbers[event_id] = branch.layer.number
        following = {
            event_id: row["snapshot"]
            for row in await sql.following(self._pool, room.nid, *_depths_above(pdus))
            for event_id in row["prev_events"]
        }
        for pdu in reversed(in_order(pdus)):
            number = numbers.get(pdu.event_id)
            if number is None and pdu.state_key is None:
                number = following.get(pdu.event_id)  # a message leaves the state as it was
            if number is None:
                continue
            numbers[pdu.event_id] = number
            if len(pdu.prev_events) == 1:
                following.setdefault(pdu.prev_events[0], number)
        return numbers, layers


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

    def state(self, state: Sequence[PDU], join: PDU) -> dict[StateKey, PDU]:
        """The state before a join that it is allowed by. Raises InvalidRoomState."""
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
            check_event(join, AuthState(join.version, found))
        except Rejected as cause:
            raise InvalidRoomState(f"the state does not allow the join: {cause.rule}") from cause
        return found


def _depths_above(pdus: Sequence[PDU]) -> tuple[int, int]:
    depths = [min(pdu.depth, INTEGER_MAX - 1) for pdu in pdus] or [0]
    return min(depths) + 1, max(depths) + 1


def _check(pdu: PDU, by_id: Mapping[str, PDU], rejected: set[str], create: PDU | None) -> None:
    """Judge an event by its auth events. Raises Rejected."""
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
