"""Bundled aggregations: what the events that relate to an event say together.

Source: Client-Server API, "Aggregations of child events", and the modules on event replacements, threads
and references. Annotations are not among what servers bundle.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import orjson

from homeserver.clock import Clock, now_ms
from homeserver.requester import Requester
from homeserver.rooms.event import Event
from homeserver.rooms.membership_history import MembershipHistory
from homeserver.rooms.relations_of import relation_of
from homeserver.rooms.room import PENDING, Room
from homeserver.rooms.visibility import Visibility
from homeserver.storage import relations as sql
from homeserver.storage.connection import Pool, Row

Summaries = dict[str, dict[str, Row]]  # by event id and rel_type


@dataclass(frozen=True, slots=True)
class _View:
    """Who asks, and what they may know of."""

    room: Room
    requester: Requester
    ignored: list[str]
    upto: int  # the number of the newest event that counts


class Relations:
    """Makes bundled aggregations with one query where nothing relates to the events, else two or three."""

    def __init__(
        self, pool: Pool, visibility: Visibility, memberships: MembershipHistory, clock: Clock = now_ms
    ) -> None:
        self._pool = pool
        self._visibility = visibility
        self._memberships = memberships
        self._clock = clock

    async def bundles(
        self, room: Room, requester: Requester, events: Sequence[Event], ignored: Collection[str] = ()
    ) -> dict[str, bytes]:
        """For each event that others relate to, its id and the JSON of `unsigned["m.relations"]`.

        Redacted events relate to nothing any more; what ignored users sent does not count, nor what the
        requester may not see. "State events do not currently receive bundled aggregations."
        """
        targets = {event.event_id: event for event in events if event.state_key is None}
        if not targets:
            return {}
        view = _View(room, requester, list(ignored), await self.upto(room, requester.user_id))
        summaries = await self._summaries(view, targets)
        if not summaries:
            return {}
        latest = await self._thread_latest(view, targets, summaries)
        edited = {
            event_id: targets[event_id] for event_id, kinds in summaries.items() if "m.replace" in kinds
        }
        edited.update((event.event_id, event) for event in latest.values())
        edits = await self._edits(view, edited)
        references = await self._references(view, summaries)
        bundled: dict[str, bytes] = {}
        for event_id, kinds in summaries.items():
            parts: list[bytes] = []
            if event_id in edits:
                parts.append(b'"m.replace":' + self._encode(view, edits[event_id]))
            if event_id in latest:
                event = latest[event_id]
                participated = kinds["m.thread"]["participated"] or targets[event_id].sender == (
                    requester.user_id
                )
                nested = edits.get(event.event_id)
                parts.append(
                    b'"m.thread":{"latest_event":%b,"count":%d,"current_user_participated":%b}'
                    % (
                        self._encode(view, event, nested),
                        kinds["m.thread"]["count"],
                        b"true" if participated else b"false",
                    )
                )
            if event_id in references:
                chunk = [{"event_id": each} for each in references[event_id]]
                parts.append(b'"m.reference":' + orjson.dumps({"chunk": chunk}))
            if parts:
                bundled[event_id] = b"{" + b",".join(parts) + b"}"
        return bundled

    async def upto(self, room: Room, user_id: str) -> int:
        """The number of the newest event that may count for the user: who left sees nothing later."""
        if room.membership(user_id) == "join" or room.history_visibility == "world_readable":
            return PENDING - 1
        leaving = (await self._memberships.of(room, user_id)).leaving()
        return leaving.nid if leaving is not None else PENDING - 1

    async def _summaries(self, view: _View, event_ids: Collection[str]) -> Summaries:
        found: Summaries = {}
        rows = await sql.summaries(
            self._pool, view.room.nid, list(event_ids), view.upto, view.requester.user_id, view.ignored
        )
        for row in rows:
            found.setdefault(row["relates_to"], {})[row["rel_type"]] = row
        return found

    async def _thread_latest(
        self, view: _View, targets: dict[str, Event], summaries: Summaries
    ) -> dict[str, Event]:
        """The newest event of each thread, by its root; left out where the user may not see it."""
        wanted = {
            kinds["m.thread"]["latest"]: event_id
            for event_id, kinds in summaries.items()
            # "It is not possible to create a thread from an event which itself is the child of an event
            # relationship"
            if "m.thread" in kinds and relation_of(targets[event_id].content) is None
        }
        if not wanted:
            return {}
        rows = await sql.by_nids(self._pool, list(wanted))
        events = [Event.of_timeline_row(row) for row in rows]
        visible = await self._visibility.filter(view.room, view.requester.user_id, events)
        return {wanted[event.nid]: event for event in visible}

    async def _edits(self, view: _View, originals: dict[str, Event]) -> dict[str, Event]:
        """The newest valid edit by event. Source: "Validity of replacement events"."""
        candidates = [
            (event.event_id, event.type, event.sender)
            for event in originals.values()
            # "If the original event is redacted, any m.replace relationship should not be bundled with it";
            # "The original event must not, itself, have a rel_type of m.replace"
            if event.redacted_by is None and not _is_edit(event)
        ]
        if not candidates:
            return {}
        found: dict[str, list[Event]] = {}
        for row in await sql.edits(self._pool, view.room.nid, candidates, view.upto):
            event = Event.of_timeline_row(row)
            # "The replacement event (once decrypted, if appropriate) must have an m.new_content property"
            if event.type == "m.room.encrypted" or "m.new_content" in event.content:
                found.setdefault(row["original_id"], []).append(event)
        # What comes back in another form is the edit of somebody whose content is erased: it is not shown.
        visible = {
            id(event)
            for event in await self._visibility.filter(
                view.room, view.requester.user_id, [event for events in found.values() for event in events]
            )
        }
        newest: dict[str, Event] = {}
        for original_id, events in found.items():
            shown = [event for event in events if id(event) in visible]
            if shown:
                newest[original_id] = shown[0]
        return newest

    async def _references(self, view: _View, summaries: Summaries) -> dict[str, list[str]]:
        """The ids of those that reference each event, oldest first."""
        nids = {
            event_id: kinds["m.reference"]["event_nids"][::-1]
            for event_id, kinds in summaries.items()
            if "m.reference" in kinds
        }
        if not nids:
            return {}
        rows = await sql.by_nids(self._pool, [nid for each in nids.values() for nid in each])
        events = [Event.of_row(row) for row in rows]
        visible = await self._visibility.filter(view.room, view.requester.user_id, events)
        ids = {event.nid: event.event_id for event in visible}
        named = {event_id: [ids[nid] for nid in each if nid in ids] for event_id, each in nids.items()}
        return {event_id: each for event_id, each in named.items() if each}

    def _encode(self, view: _View, event: Event, edit: Event | None = None) -> bytes:
        relations = b'{"m.replace":%b}' % self._encode(view, edit) if edit is not None else None
        return event.encode(
            self._clock(),
            room_id=view.room.room_id,
            device_nid=view.requester.device_nid,
            relations=relations,
        )


def _is_edit(event: Event) -> bool:
    relation = relation_of(event.content)
    return relation is not None and relation.rel_type == "m.replace"
