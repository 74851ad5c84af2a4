"""Rooms in memory: one copy each, nothing in them that is not written, and a true count of their bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

import pytest

from federation.keys import SigningKey
from homeserver.commit_log.committer import Committer, CommitterMetrics
from homeserver.commit_log.live_tail import LiveTail
from homeserver.commit_log.log import CommitLog
from homeserver.commit_log.notifier import Notifier
from homeserver.commit_log.outbound import OutboundEdu
from homeserver.errors import Unavailable
from homeserver.rooms.changes import RoomEventChange
from homeserver.rooms.draft import Draft
from homeserver.rooms.room import ROOM_BYTES, Room
from homeserver.rooms.rooms import Rooms
from tests.engine.conftest import SERVER_NAME, Engine

PATIENCE_S = 10.0


def _topic(sender: str, topic: str) -> Draft:
    return Draft(sender=sender, type="m.room.topic", state_key="", content={"topic": topic})


def _counted(room: Room) -> int:
    return ROOM_BYTES + sum(event.size_bytes for event in room.state.values())


async def test_a_room_asked_for_by_id_and_by_number_at_once_is_loaded_once(engine: Engine) -> None:
    room = await engine.new_room(await engine.new_user())
    engine.room_cache.drop(room)
    by_id, by_nid = await asyncio.gather(
        engine.room_cache.get(room.room_id), engine.room_cache.get_nid(room.nid)
    )
    assert by_id is by_nid is engine.room_cache.loaded(room.room_id)


async def test_what_the_log_refuses_does_not_stay_in_the_room(engine: Engine) -> None:
    alice = await engine.new_user()
    room = await engine.new_room(alice)
    metrics = CommitterMetrics(lambda changes, seconds: None, lambda length: None, lambda: None)
    full = Committer(engine.database, 0, metrics, queue_max=-1)
    log = CommitLog(full, LiveTail(0, 1000), Notifier())
    rooms = Rooms(engine.database, log, engine.room_cache, SERVER_NAME, SigningKey.generate("1"))
    with pytest.raises(Unavailable):
        await rooms.send(room.room_id, _topic(alice.user_id, "never written"))
    assert (await engine.rooms.get(room.room_id)).state_event("m.room.topic") is None
    await engine.rooms.send(room.room_id, _topic(alice.user_id, "written"))


async def test_what_a_cancelled_caller_has_sent_is_finished(engine: Engine) -> None:
    alice = await engine.new_user()
    room = await engine.new_room(alice)
    target = await engine.say(room, alice, body="to be redacted")
    redaction = Draft(sender=alice.user_id, type="m.room.redaction", content={}, redacts=target)
    before = engine.log.position
    sending = asyncio.create_task(engine.rooms.send(room.room_id, redaction))
    async with asyncio.timeout(PATIENCE_S):
        while not room.pending:
            await asyncio.sleep(0)
        sending.cancel()
        while engine.log.position == before or room.pending:
            await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await sending
    changes = engine.log.tail.of_room(room.nid, 0)
    [shown] = [
        change.event
        for change in changes
        if isinstance(change, RoomEventChange) and change.event.event_id == target
    ]
    assert b"to be redacted" not in shown.client
    assert engine.rooms.loaded_nid(room.nid) is room


async def test_the_count_of_bytes_follows_redactions(engine: Engine) -> None:
    alice = await engine.new_user()
    room = await engine.new_room(alice)
    topic = await engine.rooms.send(room.room_id, _topic(alice.user_id, "long " * 1000))
    assert room.size_bytes == _counted(room)
    redaction = Draft(sender=alice.user_id, type="m.room.redaction", content={}, redacts=topic.event_id)
    await engine.rooms.send(room.room_id, redaction)
    await engine.rooms.send(room.room_id, _topic(alice.user_id, "short"))
    assert room.size_bytes == _counted(room)
    cached = engine.room_cache.size_bytes
    engine.room_cache.drop(room)
    assert engine.room_cache.size_bytes == cached - room.size_bytes


@dataclass(slots=True, eq=False)
class Shrinking:
    """A change that becomes smaller when it is in the tail, as a redacted event does."""

    position: int
    size_bytes: int = 1000
    room_nid: int = 1
    owner: str | None = None
    audience: Collection[str] = ()

    @classmethod
    async def write(cls, connection: object, changes: object) -> None:
        raise AssertionError("the tail takes what is written")


def test_the_tail_drops_as_many_bytes_as_it_has_taken_in() -> None:
    tail = LiveTail(0, 5000)
    for position in range(1, 101):
        change = Shrinking(position)
        tail.append([change])
        change.size_bytes = 10
    assert (len(tail), tail.size_bytes) == (5, 5000)


async def test_the_tail_keeps_nothing_that_no_client_is_told_of(engine: Engine) -> None:
    kept = len(engine.log.tail)
    position = await engine.log.commit(OutboundEdu(("elsewhere.test",), "m.test", {}))
    assert engine.log.position == position
    assert len(engine.log.tail) == kept
