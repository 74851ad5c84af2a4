"""Events as a particular client gets them. Source: Client-Server API, "Room event format", "Filtering"."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence

import orjson

from federation.event import JsonObject
from homeserver.clock import Clock, now_ms
from homeserver.filters.sync_filter import SyncFilter
from homeserver.requester import Requester
from homeserver.rooms.event import Event
from homeserver.rooms.relations import Relations
from homeserver.rooms.room import Room
from homeserver.rooms.visibility import Visibility
from homeserver.storage.connection import Pool
from homeserver.storage.events import by_nids

EVENTS_PER_PAUSE = 500  # encoded before others on the event loop get their turn


class ClientEvents:
    """Encodes events that the requester may see, with all that `unsigned` tells of them."""

    def __init__(
        self, pool: Pool, visibility: Visibility, relations: Relations, clock: Clock = now_ms
    ) -> None:
        self._pool = pool
        self._visibility = visibility
        self._relations = relations
        self._clock = clock

    async def encode(
        self,
        room: Room,
        requester: Requester,
        events: Sequence[Event],
        *,
        with_room_id: bool,
        sync_filter: SyncFilter | None = None,
        ignored: Collection[str] = (),
    ) -> list[bytes]:
        """The events as JSON, in their order, with what others relate to them.

        What `ignored` users relate does not count. `sync_filter` picks the fields and the format.
        """
        if not events:
            return []
        memberships = await self._visibility.memberships_at(room, requester.user_id, events)
        bundles = await self._relations.bundles(room, requester, events, ignored)
        hidden = await self._hidden_before(room, requester.user_id, events)
        now = self._clock()
        room_id = room.room_id if with_room_id else None
        device_nid = requester.device_nid
        encoded: list[bytes] = []
        for event, membership in zip(events, memberships, strict=True):
            json = event.encode(
                now,
                room_id=room_id,
                device_nid=device_nid,
                membership=membership,
                relations=bundles.get(event.event_id) if bundles else None,
                with_previous=event.replaces not in hidden,
            )
            if sync_filter is not None and not sync_filter.sends_encoded_events:
                json = _filtered(event, json, sync_filter)
            encoded.append(json)
            if len(encoded) % EVENTS_PER_PAUSE == 0:
                await asyncio.sleep(0)
        return encoded

    async def _hidden_before(self, room: Room, user_id: str, events: Iterable[Event]) -> set[int]:
        """Of the state events that these replaced, the numbers of those that the user may not see.

        `prev_content` is for whoever "has permission to see the previous event".
        """
        if room.always_shared and room.membership(user_id) == "join":
            return set()
        replaced = {event.replaces for event in events if isinstance(event.replaces, int)}
        if not replaced:
            return set()
        rows = await by_nids(self._pool, list(replaced))
        seen = await self._visibility.filter(room, user_id, [Event.of_row(row) for row in rows])
        return replaced - {event.nid for event in seen}

    async def encode_state(self, room: Room, events: Iterable[Event]) -> list[bytes]:
        """State events as JSON with their room id. Lets others on the event loop have their turn."""
        room_id = b',"room_id":' + orjson.dumps(room.room_id)
        encoded: list[bytes] = []
        for event in events:
            fields = event.redaction_fields
            unsigned = b',"unsigned":{%b}}' % fields if fields is not None else b"}"
            encoded.append(event.client + room_id + unsigned)
            if len(encoded) % EVENTS_PER_PAUSE == 0:
                await asyncio.sleep(0)
        return encoded


def in_old_form(events: Iterable[Event], encoded: Iterable[bytes]) -> list[bytes]:
    """Encoded events as they were before /sync: clients of that age look for the sender in ``user_id``."""
    return [
        b'%b,"user_id":%b}' % (json[:-1], orjson.dumps(event.sender))
        for event, json in zip(events, encoded, strict=True)
    ]


def _filtered(event: Event, encoded: bytes, sync_filter: SyncFilter) -> bytes:
    """The event in the filter's format, with the filter's fields. Source: sync_filter.yaml."""
    client: JsonObject = orjson.loads(encoded)
    if sync_filter.event_format == "federation":
        # "'federation' will return the raw event as received over federation"; without its id, which the
        # newer room versions leave out, and `unsigned`, a client could do nothing with it.
        client = {
            **orjson.loads(event.json),
            "event_id": event.event_id,
            "unsigned": client["unsigned"],
        }
    if sync_filter.event_fields is not None:
        # an event without content is none
        client = {"content": {}} | sync_filter.event_fields.project(client)
    return orjson.dumps(client)
