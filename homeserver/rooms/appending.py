"""Events out of drafts: built on a room's newest events, authorised, signed, and applied to it in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from federation.auth_rules import check_event
from federation.building import build_event
from federation.errors import EventTooLarge, FederationError, MalformedEvent, NotCanonical, Rejected
from federation.event import PDU
from federation.hashing import reference_hash
from federation.keys import SigningKey
from homeserver.errors import BadJson, Forbidden, TooLarge
from homeserver.rooms.changes import Merge, RoomEventChange
from homeserver.rooms.draft import Draft
from homeserver.rooms.event import Event
from homeserver.rooms.redacting import redact_current, redaction_of
from homeserver.rooms.refusals import explain
from homeserver.rooms.relations_of import relation_of
from homeserver.rooms.room import MEMBER, PREV_EVENTS_MAX, Room
from homeserver.rooms.room_servers import servers_to_tell, with_target


@dataclass(frozen=True, slots=True)
class Appending:
    """Makes events in this server's name. Asks nobody and waits for nothing: no room changes meanwhile."""

    server_name: str
    key: SigningKey
    is_durable: Callable[[Event], bool]

    def append(
        self, room: Room, draft: Draft, target: Event | None, built: tuple[PDU, bytes] | None
    ) -> RoomEventChange | None:
        """Build an event and apply it to the room; None for state that would not change.

        `target` is what it redacts, `built` the event if it is there already. Raises as `propose`.
        """
        previous = None
        if draft.state_key is not None:
            previous = room.state.get((draft.type, draft.state_key))
            if previous is not None and self._repeats(room, draft, previous):
                return None
        pdu, json = built or self.propose(room, draft)
        membership_before = (
            room.membership(draft.state_key) if draft.type == MEMBER and draft.state_key else None
        )
        event = Event.of_pdu(
            pdu,
            json,
            room_nid=room.nid,
            snapshot=room.chain.number,
            device_nid=draft.device_nid,
            txn_id=draft.txn_id,
            replaces=previous,
            replaces_state=previous.event_id if previous is not None else None,
            prev_content=orjson.dumps(previous.content) if previous is not None else None,
        )
        if not room.room_id:
            room.room_id = pdu.room_id
        change = RoomEventChange(event, room.nid, room, room.generation, room.chain.number)
        servers_before = room.remote_servers
        room.apply(event)
        change.destinations = servers_to_tell(servers_before, room.remote_servers)
        if membership_before in ("invite", "knock") and draft.state_key is not None:
            change.destinations = with_target(change.destinations, draft.state_key, room.server_suffix)
        if len(room.extremities) > 1:
            change.merge = Merge(extremities=room.extremities)
        room.generation += 1
        if draft.state_key is not None:
            change.layer = room.chain.advance(event)
            change.snapshot_after = change.layer.number
            change.membership_before = membership_before
        else:
            change.relation = relation_of(draft.content)
        if target is not None:
            change.redaction = redaction_of(room, target, event)
            redact_current(room, change.redaction)
        return change

    def propose(self, room: Room, draft: Draft, *, with_origin: bool = False) -> tuple[PDU, bytes]:
        """An event as it could be appended now, signed by this server: neither applied nor stored.

        For events that another server has to sign. Raises Forbidden, BadJson, TooLarge.
        """
        pdu, json = self._build(room, draft, with_origin)
        try:
            check_event(pdu, room.auth_state)
        except Rejected as cause:
            raise Forbidden(explain(cause.rule)) from cause
        return pdu, json

    def _repeats(self, room: Room, draft: Draft, previous: Event) -> bool:
        """Whether a draft sets what its sender has set before, and may still see."""
        sender = draft.sender
        return (
            previous.sender == sender
            and previous.content == draft.content
            and draft.type != "m.room.create"
            and (room.membership(sender) == "join" or (draft.type == MEMBER and draft.state_key == sender))
            and self.is_durable(previous)
            # for Python, true equals 1, but not for those who read the event
            and orjson.dumps(previous.content, option=orjson.OPT_SORT_KEYS)
            == orjson.dumps(draft.content, option=orjson.OPT_SORT_KEYS)
        )

    def _build(self, room: Room, draft: Draft, with_origin: bool) -> tuple[PDU, bytes]:
        if "\x00" in draft.type or "\x00" in (draft.state_key or ""):
            raise BadJson("Event types and state keys cannot hold NUL characters")
        parents = room.extremities[:PREV_EVENTS_MAX]
        if draft.type == "m.room.create" and parents:
            raise Forbidden(explain("create.prev_events"))
        try:
            return build_event(
                version=room.version,
                room_id=room.room_id or None,
                type=draft.type,
                state_key=draft.state_key,
                sender=draft.sender,
                content=draft.content,
                prev_events=[parent.event_id for parent in parents],
                auth_events=room.auth_event_ids(draft.type, draft.state_key, draft.sender, draft.content),
                depth=min(room.depth + 1, 2**53 - 1),
                origin_server_ts=draft.origin_server_ts or time.time_ns() // 1_000_000,
                redacts=draft.redacts,
                server_name=self.server_name,
                key=self.key,
                with_origin=with_origin,
                reference_hashes=None if room.version.event_id_is_hash else _reference_hashes(room, draft),
            )
        except EventTooLarge as cause:
            raise TooLarge(f"{cause}: send a smaller one") from cause
        except (NotCanonical, MalformedEvent) as cause:
            raise BadJson(str(cause)) from cause
        except FederationError as cause:
            raise BadJson(str(cause)) from cause


def _reference_hashes(room: Room, draft: Draft) -> dict[str, str]:
    """Hashes of the events that a new one of room versions 1 and 2 refers to."""
    wanted = set(room.auth_event_ids(draft.type, draft.state_key, draft.sender, draft.content))
    events = {event.event_id: event for event in room.extremities}
    events |= {event.event_id: event for event in room.state.values() if event.event_id in wanted}
    return {
        event_id: reference_hash(orjson.loads(event.json), room.version) for event_id, event in events.items()
    }
