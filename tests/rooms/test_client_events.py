"""Events in the form that a client asked for."""

from __future__ import annotations

from typing import Any

import orjson

from homeserver.filters import compile_filter
from homeserver.requester import Requester
from homeserver.rooms.event import Event
from homeserver.rooms.room import Room
from tests.rooms.conftest import Engine
from tests.rooms.past import NOW_MS, Past


async def encoded(past: Past, room: Room, user: Requester, event: Event, **options: Any) -> Any:
    stored = [each for each in await past.events(room) if each.event_id == event.event_id]
    options = {"with_room_id": False, **options}
    [json] = await past.client_events.encode(room, user, stored, **options)
    return orjson.loads(json)


async def test_unsigned_tells_of_the_requester(engine: Engine, alice: Requester, bob: Requester) -> None:
    past = Past.over(engine)
    room = await past.room(alice)
    event = await past.send(
        room, alice, "m.room.message", {"body": "x"}, device_nid=alice.device_nid, txn_id="t1"
    )
    await past.member(room, bob, "join")
    assert await encoded(past, room, alice, event) == {
        "content": {"body": "x"},
        "event_id": event.event_id,
        "origin_server_ts": event.origin_server_ts,
        "sender": alice.user_id,
        "type": "m.room.message",
        "unsigned": {
            "age": NOW_MS - event.origin_server_ts,
            "membership": "join",
            "transaction_id": "t1",
        },
    }
    seen = await encoded(past, room, bob, event, with_room_id=True)
    assert seen["unsigned"] == {"age": NOW_MS - event.origin_server_ts, "membership": "leave"}
    assert seen["room_id"] == room.room_id


async def test_fields_and_format_of_a_filter(engine: Engine, alice: Requester) -> None:
    past = Past.over(engine)
    room = await past.room(alice)
    event = await past.say(room, alice, "words")
    fields = compile_filter({"event_fields": ["type", "content.body", "unsigned.age"]})
    assert await encoded(past, room, alice, event, sync_filter=fields) == {
        "type": "m.room.message",
        "content": {"body": "words"},
        "unsigned": {"age": NOW_MS - event.origin_server_ts},
    }
    federation = compile_filter({"event_format": "federation"})
    pdu = await encoded(past, room, alice, event, sync_filter=federation)
    assert pdu["event_id"] == event.event_id
    assert {"auth_events", "prev_events", "depth", "hashes", "signatures"} <= pdu.keys()
    assert pdu["signatures"] == orjson.loads(event.json)["signatures"]
    assert "membership" in pdu["unsigned"]


async def test_state_is_told_with_what_it_replaced(engine: Engine, alice: Requester) -> None:
    past = Past.over(engine)
    room = await past.room(alice)
    await past.put(room, alice, "m.room.topic", {"topic": "one"})
    event = await past.put(room, alice, "m.room.topic", {"topic": "two"})
    assert (await encoded(past, room, alice, event))["unsigned"]["prev_content"] == {"topic": "one"}
