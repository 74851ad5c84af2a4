"""States at any point of a room's past, against replaying its events."""

from __future__ import annotations

import random

import pytest

from homeserver.requester import Requester
from homeserver.rooms.event import Event
from tests.rooms.conftest import Engine
from tests.rooms.past import Past


@pytest.mark.parametrize("seed", range(4))
async def test_the_state_before_and_after_every_event(engine: Engine, alice: Requester, seed: int) -> None:
    chance = random.Random(seed)
    past = Past.over(engine)
    room = await past.room(alice)
    for step in range(60):
        if chance.random() < 0.3:
            await past.say(room, alice)
        else:
            await past.put(room, alice, "org.example.piece", {"step": step}, chance.choice("abcde"))
    events = await past.events(room)
    for reader in (past.snapshots, Past.over(engine).snapshots):
        state: dict[tuple[str, str], str] = {}
        for event in events:
            assert ids(await reader.state_before(room, event.nid)) == state
            if event.state_key is not None:
                state[event.key] = event.event_id
            assert ids(await reader.state_after(room, event.nid)) == state
        room = await engine.reload(room.room_id)
    assert await past.snapshots.state_before(room, 10**15) == {}


async def test_a_remembered_state_shows_what_was_redacted_since(engine: Engine, alice: Requester) -> None:
    past = Past.over(engine)
    room = await past.room(alice)
    topic = await past.put(room, alice, "m.room.topic", {"topic": "secret"})
    await past.put(room, alice, "m.room.topic", {"topic": "open"})
    later = await past.put(room, alice, "m.room.name", {"name": "Room"})
    await past.put(room, alice, "m.room.name", {"name": "The room"})
    key = ("m.room.topic", "")
    assert (await past.snapshots.state_before(room, later.nid))[key].content == {"topic": "open"}
    before_open = (await past.events(room))[-3]
    assert (await past.snapshots.state_before(room, before_open.nid))[key].event_id == topic.event_id
    await past.redact(room, alice, topic)
    redacted = (await past.snapshots.state_before(room, before_open.nid))[key]
    assert redacted.content == {}
    assert redacted.redaction_fields is not None


def ids(state: dict[tuple[str, str], Event]) -> dict[tuple[str, str], str]:
    return {key: event.event_id for key, event in state.items()}
