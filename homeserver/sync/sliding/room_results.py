"""Rooms of an answer, read together and encoded one by one. Source: MSC4186, "RoomResult"."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from federation.event import JsonObject
from homeserver.filters.event_filter import ALL_ROOM_EVENTS
from homeserver.rooms.event import Event
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.snapshot_reader import durable_event
from homeserver.rooms.stripped_state import stripped_state
from homeserver.rooms.user_rooms import UserRoom, UserRooms
from homeserver.rooms.visibility import Visibility
from homeserver.storage.connection import Pool
from homeserver.storage.outside_rooms import of_user as outside_memberships
from homeserver.storage.sliding_sync import fetch_newest_of_types
from homeserver.sync.room_state import StateKey
from homeserver.sync.rooms_section import RoomsSection
from homeserver.sync.sliding.connection_state import SentRoom, Told
from homeserver.sync.sliding.look import LEFT, STRIPPED, Candidate, Look
from homeserver.sync.sliding.room_state import (
    NOTHING,
    Changed,
    RequiredStates,
    encode_state,
    newest_bump,
)
from homeserver.sync.summaries import heroes
from homeserver.sync.timelines import Timeline, Timelines, Wanted
from homeserver.sync.token import SyncToken
from homeserver.sync.unread import UnreadCounts

# "'Proper' activity is defined as an event being received is one of the following types"
BUMP_TYPES = frozenset(
    {
        "m.room.create", "m.room.message", "m.room.encrypted", "m.sticker", "m.call.invite", "m.poll.start",
        "m.beacon_info",
    }
)  # fmt: skip
BUMP_DEPTH_MAX = 1000  # events of a room looked through for one of them
ROOMS_PER_PAUSE = 20
NAME = ("m.room.name", "")
AVATAR = ("m.room.avatar", "")


@dataclass(slots=True)
class Reading:
    """A candidate with what was read of it."""

    candidate: Candidate
    room: Room
    entry: UserRoom
    timeline: Timeline
    known: Sequence[Event] = ()  # the newest that the client has, where it may lack their senders
    expanded: bool = False
    bump: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomResults:
    """Reads and encodes rooms."""

    pool: Pool
    rooms: Rooms
    user_rooms: UserRooms
    timelines: Timelines
    section: RoomsSection
    states: RequiredStates
    unread: UnreadCounts
    visibility: Visibility

    async def encode(self, look: Look, candidates: Sequence[Candidate]) -> tuple[list[bytes], list[Reading]]:
        """The rooms that have news, each as `"!id":{…}`, and what was read of all joined ones. Notes in the
        look what the client will have been told."""
        encoded: list[bytes] = []
        readings: list[Reading] = []
        full: list[Reading] = []
        rooms = await self.rooms.get_by_nids([each.nid for each in candidates if not each.room.outside])
        outside = await self._outside(look, candidates)
        user_id = look.requester.user_id
        memberships = await self.user_rooms.get(user_id)
        for candidate in candidates:
            if candidate.room.outside or candidate.room.membership in STRIPPED:
                if candidate.initial or not candidate.was_told(Told.STRIPPED | Told.DEPARTED):
                    stripped = outside.get(candidate.nid) or stripped_state(rooms[candidate.nid], user_id)
                    encoded.append(self._stripped(look, candidate, stripped))
                self._note(look, candidate, 0)
                continue
            room = rooms[candidate.nid]
            if candidate.is_joined and not candidate.initial:
                candidate.initial = self.states.is_resolved(candidate, room)
            full.append(Reading(candidate, room, memberships[candidate.nid], Timeline([], False)))
        await self._read_timelines(look, full)
        await self._read_bumps(look, full)
        joined = [reading for reading in full if reading.candidate.is_joined]
        await self.unread.load(
            look.requester.user_id,
            look.requester.user_nid,
            [(reading.room, reading.candidate.room.since) for reading in joined],
            look.upto,
            look.ignored,
        )
        for count, reading in enumerate(full, 1):
            if count % ROOMS_PER_PAUSE == 0:
                await asyncio.sleep(0)  # others on the event loop get their turn
            if reading.candidate.is_joined:
                result = await self._joined(look, reading)
                readings.append(reading)
            else:
                result = await self._departed(look, reading)
            if result is not None:
                encoded.append(result)
        return encoded, readings

    # -- reading --

    async def _outside(self, look: Look, candidates: Sequence[Candidate]) -> dict[int, list[JsonObject]]:
        """What other servers showed of rooms that this node is not in."""
        nids = [candidate.nid for candidate in candidates if candidate.room.outside]
        if not nids:
            return {}
        rows = await outside_memberships(self.pool, look.requester.user_nid, nids)
        return {row["outside_nid"]: orjson.loads(row["stripped"]) for row in rows}

    async def _read_timelines(self, look: Look, readings: Sequence[Reading]) -> None:
        from_storage: dict[int, list[tuple[Reading, Wanted]]] = {}
        for reading in readings:
            candidate = reading.candidate
            limit = candidate.selection.timeline_limit
            reading.expanded = self._expands(look, candidate)
            whole = candidate.initial or reading.expanded
            upto = look.upto
            if not candidate.is_joined:
                upto = min(upto, reading.entry.last_change)
            wanted = Wanted(reading.room, 0 if whole else candidate.since, upto)
            timeline = self.timelines.from_tail(wanted, limit, ALL_ROOM_EVENTS, look.ignored)
            if timeline is not None:
                reading.timeline = timeline
            else:
                from_storage.setdefault(limit, []).append((reading, wanted))
        for limit, several in from_storage.items():
            found = await self.timelines.from_storage(
                [wanted for _, wanted in several], limit, ALL_ROOM_EVENTS, look.ignored
            )
            for reading, _ in several:
                reading.timeline = found[reading.room.nid]
        for reading in readings:
            if reading.expanded:
                self._cut_known(reading)

    def _expands(self, look: Look, candidate: Candidate) -> bool:
        """Whether the client may want older events than it has, or their senders: it asks for more events, or
        for members to be loaded lazily. Source: "Changes to timeline_limit"."""
        sent = candidate.sent
        if sent is None or candidate.initial:
            return False
        before, wanted = look.connection.selections[sent.selection], candidate.selection
        if wanted.lazy_members and not before.lazy_members:
            return True
        return sent.start > 0 and wanted.timeline_limit > before.timeline_limit

    def _cut_known(self, reading: Reading) -> None:
        """Where the client has all of the newest events already, only those that are new are told."""
        sent, events, since = reading.candidate.sent, reading.timeline.events, reading.candidate.since
        if sent is None or not events or events[0].nid < sent.start:
            return
        reading.expanded = False
        if events[0].nid <= since:
            reading.known = [event for event in events if event.nid <= since]
            reading.timeline = Timeline(events[len(reading.known) :], False)

    async def _read_bumps(self, look: Look, readings: Sequence[Reading]) -> None:
        missing: list[int] = []
        for reading in readings:
            if reading.candidate.is_joined:
                reading.bump = newest_bump(reading.timeline.events, BUMP_TYPES)
                if not reading.bump and (reading.candidate.initial or reading.timeline.limited):
                    missing.append(reading.room.nid)
        if not missing:
            return
        found = await fetch_newest_of_types(self.pool, missing, look.upto, tuple(BUMP_TYPES), BUMP_DEPTH_MAX)
        for reading in readings:
            if not reading.bump and reading.candidate.initial:
                create = reading.room.state_event("m.room.create")
                reading.bump = found.get(reading.room.nid) or (
                    max(create.nid, 1) if create is not None else 1
                )
            elif not reading.bump:
                reading.bump = found.get(reading.room.nid, 0)

    # -- encoding --

    def _stripped(self, look: Look, candidate: Candidate, stripped: Sequence[JsonObject]) -> bytes:
        """A room to which the user is invited, or on whose door they knocked; or what became of that."""
        if candidate.room.membership in LEFT:
            stripped = stripped[-1:]  # their own member event
        parts = self._beginning(look, candidate, b'"initial":true')
        parts.append(b'"%b":%b' % (look.dialect.stripped_state, orjson.dumps(stripped)))
        parts.append(b'"bump_stamp":%d' % max(candidate.room.event_nid, candidate.room.since))
        return _named(candidate, parts)

    async def _joined(self, look: Look, reading: Reading) -> bytes | None:
        candidate, room, timeline = reading.candidate, reading.room, reading.timeline
        initial = candidate.initial
        if initial or reading.expanded or candidate.since < candidate.room.since:
            timeline.events = await self.visibility.filter(room, look.requester.user_id, timeline.events)
        changed = NOTHING if initial else await self.states.changed(look, candidate, room, timeline)
        senders = {event.sender for event in reading.known}
        state, gone = self.states.current(look, candidate, room, timeline, changed, senders)
        required = encode_state(state, gone if look.dialect.state_stubs else ())
        fields = self._described(look, candidate, room, changed)
        self._note(look, candidate, self._start(look, reading))
        counts_moved = candidate.nid in look.changes.own_receipts
        if not (initial or timeline.events or timeline.limited or required or fields or counts_moved):
            return None
        parts = self._beginning(look, candidate, b'"initial":true' if initial else None) + fields
        if required:
            parts.append(b'"required_state":[%b]' % b",".join(required))
        parts += await self._timeline(look, reading)
        if reading.bump:
            parts.append(b'"bump_stamp":%d' % reading.bump)
        parts += self._unread(look, room)
        return _named(candidate, parts)

    async def _departed(self, look: Look, reading: Reading) -> bytes | None:
        """A room that the user has left or was removed from, up to then."""
        candidate, room, timeline = reading.candidate, reading.room, reading.timeline
        if not candidate.initial and candidate.was_told(Told.DEPARTED):
            self._note(look, candidate, candidate.sent.start if candidate.sent else 0)
            return None
        self._note(look, candidate, self._start(look, reading))
        if not candidate.room.was_joined and candidate.initial:
            # Who never was inside sees what became of their invite, or of their knock, and nothing else.
            return self._stripped(look, candidate, stripped_state(room, look.requester.user_id))
        parts = self._beginning(look, candidate, b'"initial":true' if candidate.initial else None)
        parts.append(b'"bump_stamp":%d' % max(reading.entry.last_change, 1))
        timeline.events = await self.visibility.filter(room, look.requester.user_id, timeline.events)
        state = await self.states.states.of_departed(
            look.context(candidate.since), room, reading.entry, timeline, everything=candidate.initial
        )
        wanted = self.states.of_departed(look, candidate, timeline, state)
        if wanted:
            parts.append(b'"required_state":[%b]' % b",".join(encode_state(wanted, ())))
        parts += await self._timeline(look, reading)
        return _named(candidate, parts)

    def _beginning(self, look: Look, candidate: Candidate, initial: bytes | None) -> list[bytes]:
        parts = [initial] if initial is not None else []
        parts.append(b'"membership":"%b"' % candidate.room.membership.encode())
        if candidate.lists:
            parts.append(b'"lists":' + orjson.dumps(candidate.lists))
        return parts

    def _described(self, look: Look, candidate: Candidate, room: Room, changed: Changed) -> list[bytes]:
        """The room's name, picture, members, and whether it is a direct chat, as far as that changed."""
        initial, parts = candidate.initial, list[bytes]()
        members_changed = initial or any(type == MEMBER for type, _ in changed)
        name = self._text(room, NAME, "name")
        if (initial and name is not None) or NAME in changed:
            parts.append(b'"name":' + orjson.dumps(name))
        avatar = self._text(room, AVATAR, "url")
        if (initial and avatar is not None) or AVATAR in changed:
            parts.append(b'"avatar":' + orjson.dumps(avatar))
        if name is None and (members_changed or NAME in changed):
            named_by = heroes(room, look.requester.user_id)
            parts.append(b'"heroes":' + orjson.dumps([_hero(*each) for each in named_by]))
        is_dm = bool(candidate.told & Told.DM)
        if is_dm != (candidate.was_told(Told.DM) if not initial else False):
            parts.append(b'"is_dm":' + (b"true" if is_dm else b"false"))
        if members_changed:
            parts.append(b'"joined_count":%d,"invited_count":%d' % (room.joined_count, room.invited_count))
        return parts

    def _text(self, room: Room, key: StateKey, field: str) -> str | None:
        """A text in the content of durable state; None where there is none, or it is empty."""
        event = durable_event(room, key, self.rooms.position)
        value = event.content.get(field) if event is not None else None
        return value if isinstance(value, str) and value else None

    async def _timeline(self, look: Look, reading: Reading) -> list[bytes]:
        candidate, timeline = reading.candidate, reading.timeline
        events = timeline.events
        if not events and not candidate.initial and not timeline.limited:
            return []
        context = look.context(0 if candidate.initial or reading.expanded else candidate.since)
        encoded = await self.section.encode_timeline(context, reading.room, reading.entry, events)
        start = SyncToken(events[0].nid - 1 if events else look.upto, look.now.ephemeral)
        live = look.since.position if look.since is not None else look.upto
        parts = [
            b'"timeline":[%b],"prev_batch":"%b"' % (b",".join(encoded), str(start).encode()),
            b'"num_live":%d' % sum(event.nid > live for event in events),
        ]
        if timeline.limited:
            parts.append(b'"limited":true')
        if reading.expanded:
            parts.append(b'"%b":true' % look.dialect.expanded_timeline)
        return parts

    def _unread(self, look: Look, room: Room) -> list[bytes]:
        counter = self.unread.cached(look.requester.user_id, room, look.upto, look.ignored)
        threads = counter.threads.values() if counter is not None else ()
        notifications = sum(counts.notifications for counts in threads)
        highlights = sum(counts.highlights for counts in threads)
        return [b'"notification_count":%d,"highlight_count":%d' % (notifications, highlights)]

    # -- what the client will have been told --

    def _start(self, look: Look, reading: Reading) -> int:
        """The number of the oldest event of the unbroken timeline that the client has; 0: of the room's."""
        candidate, timeline = reading.candidate, reading.timeline
        anew = candidate.initial or reading.expanded
        if timeline.limited:
            return timeline.events[0].nid if timeline.events else look.upto + 1
        if anew or candidate.sent is None:
            return 0
        return candidate.sent.start

    def _note(self, look: Look, candidate: Candidate, start: int) -> None:
        number = look.connection.number_of(candidate.selection, look.delta)
        sent = SentRoom(number, start, 0, int(candidate.told))
        if sent != candidate.sent:
            look.delta.rooms[candidate.nid] = sent


def needs_reading(candidate: Candidate, look: Look, changed: set[int]) -> bool:
    """Whether a room may have anything to tell, but for what extensions tell."""
    if candidate.initial or candidate.fell_behind or candidate.nid in changed or candidate.sent is None:
        return True
    if candidate.room.membership in LEFT and not candidate.was_told(Told.DEPARTED):
        return True
    before = look.connection.selections[candidate.sent.selection]
    return candidate.sent.told != candidate.told or (
        before is not candidate.selection and before != candidate.selection
    )


def _named(candidate: Candidate, parts: Sequence[bytes]) -> bytes:
    return orjson.dumps(candidate.room.room_id) + b":{" + b",".join(parts) + b"}"


def _hero(user_id: str, member: Event) -> dict[str, str]:
    hero = {"user_id": user_id}
    for field in ("displayname", "avatar_url"):
        value = member.content.get(field)
        if isinstance(value, str):
            hero[field] = value
    return hero
