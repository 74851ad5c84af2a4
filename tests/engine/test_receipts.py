"""Receipts over a real database."""

from __future__ import annotations

import orjson
import pytest

from homeserver.errors import Forbidden, InvalidParam, NotFound
from homeserver.storage.receipts import (
    Receipt,
    ReceiptChange,
    encode_receipts,
    fetch_read_marks,
    fetch_receipts_since,
)
from tests.engine.conftest import Engine


def in_thread(root: str) -> dict[str, object]:
    return {"m.relates_to": {"rel_type": "m.thread", "event_id": root}}


def reaction_to(event_id: str) -> dict[str, object]:
    return {"m.relates_to": {"rel_type": "m.annotation", "event_id": event_id, "key": "+"}}


async def test_a_receipt_moves_forward_and_not_back(engine: Engine) -> None:
    alice, bob = await engine.new_user(), await engine.new_user("bob")
    room = await engine.new_room(alice, bob)
    first, second = await engine.say(room, alice), await engine.say(room, alice)
    await engine.receipts.post(bob, room.room_id, "m.read", second)
    position = engine.log.position
    await engine.receipts.post(bob, room.room_id, "m.read", first)
    assert engine.log.position == position
    (event,) = (await engine.receipts.since([room.nid], 0, alice.user_id))[room.nid]
    assert orjson.loads(event) == {
        "type": "m.receipt",
        "content": {second: {"m.read": {bob.user_id: {"ts": engine.clock.now}}}},
    }


async def test_storage_keeps_the_receipt_that_is_further_ahead(engine: Engine) -> None:
    alice = await engine.new_user()
    room = await engine.new_room(alice)
    for order in ((5, 9, 7), (3, 2)):  # within one batch, and after it
        changes = [
            ReceiptChange(
                room.nid, alice.user_nid, Receipt(alice.user_id, "m.read", "", f"${nid}", nid, 0), ()
            )
            for nid in order
        ]
        await engine.log.commit(*changes)
    stored = await fetch_receipts_since(engine.database.pool, [room.nid], 0, alice.user_id)
    assert [receipt.event_nid for receipt in stored[room.nid]] == [9]


async def test_private_receipts_are_for_their_user_alone(engine: Engine) -> None:
    alice, bob = await engine.new_user(), await engine.new_user("bob")
    room = await engine.new_room(alice, bob)
    event_id = await engine.say(room, alice)
    position = engine.log.position
    await engine.receipts.post(bob, room.room_id, "m.read.private", event_id)
    assert await engine.receipts.since([room.nid], 0, alice.user_id) == {}
    assert room.nid in await engine.receipts.since([room.nid], 0, bob.user_id)
    assert engine.log.tail.of_room(room.nid, position) == []
    (change,) = engine.log.tail.of_user(bob.user_id, position)
    assert isinstance(change, ReceiptChange)
    assert list(change.audience) == [bob.user_id]


async def test_the_read_mark_is_the_further_of_public_and_private(engine: Engine) -> None:
    alice = await engine.new_user()
    room = await engine.new_room(alice)
    first, second = await engine.say(room, alice), await engine.say(room, alice)
    await engine.receipts.post(alice, room.room_id, "m.read", first)
    await engine.receipts.post(alice, room.room_id, "m.read.private", second)
    marks = await fetch_read_marks(engine.database.pool, alice.user_nid, [room.nid])
    assert marks == {room.nid: {"": engine.log.position - 2}}


async def test_threads_have_receipts_of_their_own(engine: Engine) -> None:
    alice = await engine.new_user()
    room = await engine.new_room(alice)
    root = await engine.say(room, alice)
    reply = await engine.say(room, alice, **in_thread(root))
    reaction = await engine.say(room, alice, **reaction_to(reply))
    on_root = await engine.say(room, alice, **reaction_to(root))
    last = await engine.say(room, alice)
    for event_id, thread_id in (
        (root, "main"),
        (on_root, "main"),
        (last, "main"),
        (root, root),
        (on_root, root),
        (reply, root),
        (reaction, root),
        (last, None),
    ):
        await engine.receipts.post(alice, room.room_id, "m.read", event_id, thread_id)
    for event_id, thread_id in (
        (reply, "main"),
        (reaction, "main"),
        (last, root),
        (reply, reply + "x"),
        (last, ""),
        (last, "nonsense"),
        (last, "$\x00"),
    ):
        with pytest.raises(InvalidParam):
            await engine.receipts.post(alice, room.room_id, "m.read", event_id, thread_id)
    marks = await fetch_read_marks(engine.database.pool, alice.user_nid, [room.nid])
    assert set(marks[room.nid]) == {"", "main", root}


def test_receipts_of_several_threads_at_one_event_need_several_events() -> None:
    receipts = [
        Receipt("@a:x", "m.read", "", "$1", 1, 10),
        Receipt("@a:x", "m.read", "main", "$1", 1, 20),
        Receipt("@b:x", "m.read", "", "$1", 1, 30),
    ]
    contents = [orjson.loads(event)["content"] for event in encode_receipts(receipts)]
    assert contents == [
        {"$1": {"m.read": {"@a:x": {"ts": 10}, "@b:x": {"ts": 30}}}},
        {"$1": {"m.read": {"@a:x": {"ts": 20, "thread_id": "main"}}}},
    ]


def test_of_a_user_s_receipts_the_last_is_told() -> None:
    receipts = [Receipt("@a:x", "m.read", "", f"${n}", n, n) for n in (1, 2)]
    (event,) = encode_receipts(receipts)
    assert orjson.loads(event)["content"] == {"$2": {"m.read": {"@a:x": {"ts": 2}}}}


async def test_receipts_are_for_members_and_events_of_the_room(engine: Engine) -> None:
    alice, bob = await engine.new_user(), await engine.new_user("bob")
    room, other = await engine.new_room(alice), await engine.new_room(alice)
    event_id, elsewhere = await engine.say(room, alice), await engine.say(other, alice)
    with pytest.raises(Forbidden):
        await engine.receipts.post(bob, room.room_id, "m.read", event_id)
    for receipt_type in ("m.read", "m.fully_read"):
        with pytest.raises(NotFound):
            await engine.receipts.post(alice, room.room_id, receipt_type, elsewhere)
        with pytest.raises(InvalidParam):
            await engine.receipts.post(alice, room.room_id, receipt_type, "nonsense")
    with pytest.raises(InvalidParam):
        await engine.receipts.post(alice, room.room_id, "m.seen", event_id)
    with pytest.raises(InvalidParam):
        await engine.receipts.post(alice, room.room_id, "m.fully_read", event_id, "main")


async def test_the_fully_read_marker_is_account_data_and_moves_forward(engine: Engine) -> None:
    alice = await engine.new_user()
    room = await engine.new_room(alice)
    first, second = await engine.say(room, alice), await engine.say(room, alice)
    for event_id in (first, second, first):
        await engine.receipts.mark(alice, room.room_id, {"m.fully_read": event_id, "m.read": event_id})
    content = await engine.account_data.get(alice, "m.fully_read", room_id=room.room_id)
    assert orjson.loads(content) == {"event_id": second}
