"""Sending messages, setting state, redacting."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest

from homeserver.errors import (
    BadAlias,
    BadJson,
    DuplicateAnnotation,
    Forbidden,
    InvalidParam,
    MissingParam,
    NotFound,
    TooLarge,
    UserSuspended,
)
from homeserver.requester import Requester
from homeserver.rooms.room import Room
from tests.rooms.conftest import SERVER_NAME, Engine

MESSAGE = "m.room.message"
TEXT = {"msgtype": "m.text", "body": "tea"}


@pytest.fixture
async def room(engine: Engine, alice: Requester, bob: Requester) -> Room:
    """A public room of Alice's that Bob has joined."""
    room = await engine.create(alice, preset="public_chat")
    await engine.joining.join(bob, room.room_id)
    return room


async def stored(engine: Engine, event_id: str) -> dict[str, Any]:
    json = await engine.database.pool.fetchval("SELECT json FROM events WHERE event_id = $1", event_id)
    event: dict[str, Any] = orjson.loads(json)
    return event


async def test_a_transaction_is_sent_once(engine: Engine, room: Room, bob: Requester) -> None:
    send = engine.sending.send
    first, again = await asyncio.gather(
        send(bob, room.room_id, MESSAGE, "1", TEXT), send(bob, room.room_id, MESSAGE, "1", TEXT)
    )
    assert first == again == await send(bob, room.room_id, MESSAGE, "1", TEXT)
    other_device = replace(bob, device_nid=bob.device_nid + 1_000_000)
    assert first != await send(other_device, room.room_id, MESSAGE, "1", TEXT)
    assert first != await send(bob, room.room_id, "m.other", "1", TEXT)
    assert first != await send(bob, room.room_id, MESSAGE, "2", TEXT)
    assert (await stored(engine, first))["content"] == TEXT


async def test_refusals(engine: Engine, room: Room, bob: Requester) -> None:
    send = engine.sending.send
    stranger = await engine.user("stranger")
    for room_id in (room.room_id, "!none:veche.test"):
        with pytest.raises(Forbidden):
            await send(stranger, room_id, MESSAGE, "1", TEXT)
    for event_type, txn_id, content, error in (
        (MESSAGE, "1", {"number": 1.5}, BadJson),
        (MESSAGE, "1", {"number": 2**53}, BadJson),
        (MESSAGE, "1", {"body": "x" * 70_000}, TooLarge),
        ("", "1", TEXT, InvalidParam),
        (MESSAGE, "x" * 256, TEXT, InvalidParam),
        ("m.room.create", "1", {}, Forbidden),
        ("m.room.member", "1", {"membership": "join"}, Forbidden),
        ("m.room.redaction", "1", {}, MissingParam),
    ):
        with pytest.raises(error):
            await send(bob, room.room_id, event_type, txn_id, content)
    with pytest.raises(UserSuspended):
        await send(replace(bob, is_suspended=True), room.room_id, MESSAGE, "1", TEXT)


async def test_the_same_reaction_is_sent_once(
    engine: Engine, room: Room, alice: Requester, bob: Requester
) -> None:
    target = await engine.sending.send(alice, room.room_id, MESSAGE, "1", TEXT)

    def react(user: Requester, txn_id: str, key: str) -> Any:
        relation = {"rel_type": "m.annotation", "event_id": target, "key": key}
        return engine.sending.send(user, room.room_id, "m.reaction", txn_id, {"m.relates_to": relation})

    first = await react(bob, "1", "👍")
    assert await react(bob, "1", "👍") == first
    with pytest.raises(DuplicateAnnotation):
        await react(bob, "2", "👍")
    results = await asyncio.gather(react(bob, "3", "🍵"), react(bob, "4", "🍵"), return_exceptions=True)
    assert sorted(isinstance(result, DuplicateAnnotation) for result in results) == [False, True]
    await react(alice, "2", "👍")
    await engine.sending.redact(bob, room.room_id, first, "5", reason=None)
    assert await react(bob, "6", "👍") != first


@pytest.mark.parametrize("version", ["1", "3", "10", "11", "12"])
async def test_redacting(engine: Engine, alice: Requester, bob: Requester, version: str) -> None:
    room = await engine.create(alice, preset="public_chat", room_version=version)
    await engine.joining.join(bob, room.room_id)
    mine = await engine.sending.send(bob, room.room_id, MESSAGE, "1", TEXT)
    hers = await engine.sending.send(alice, room.room_id, MESSAGE, "1", TEXT)
    redact = engine.sending.redact
    redaction = await redact(bob, room.room_id, mine, "2", reason="tea")
    assert await redact(bob, room.room_id, mine, "2", reason="tea") == redaction
    assert (await stored(engine, mine))["content"] == {}
    written = await stored(engine, redaction)
    if room.version.redacts_in_content:
        assert written["content"] == {"reason": "tea", "redacts": mine} and "redacts" not in written
    else:
        assert written["content"] == {"reason": "tea"} and written["redacts"] == mine
    with pytest.raises(Forbidden):
        await redact(bob, room.room_id, hers, "2", reason=None)
    for event_id in ("$none", "", room.state[("m.room.create", "")].event_id):
        with pytest.raises(NotFound if event_id in ("$none", "") else Forbidden):
            await redact(alice, room.room_id, event_id, "3", reason=None)
    theirs = await engine.sending.send(bob, room.room_id, MESSAGE, "4", TEXT)
    by_send = await engine.sending.send(
        alice, room.room_id, "m.room.redaction", "5", {"redacts": theirs, "reason": "tea"}
    )
    assert by_send != await redact(alice, room.room_id, theirs, "5", reason=None)
    assert (await stored(engine, theirs))["content"] == {}


async def test_events_of_other_rooms_are_not_redacted(
    engine: Engine, room: Room, alice: Requester, bob: Requester
) -> None:
    other = await engine.create(alice)
    secret = await engine.sending.send(alice, other.room_id, MESSAGE, "1", TEXT)
    with pytest.raises(InvalidParam):
        await engine.sending.redact(alice, room.room_id, secret, "1", reason=None)
    with pytest.raises(Forbidden):
        await engine.sending.redact(bob, other.room_id, secret, "1", reason=None)


async def test_who_may_redact_what(engine: Engine, room: Room, alice: Requester, bob: Requester) -> None:
    redact = engine.sending.redact
    his = [await engine.sending.send(bob, room.room_id, MESSAGE, f"{n}", TEXT) for n in range(3)]
    hers = await engine.sending.send(alice, room.room_id, MESSAGE, "1", TEXT)
    with pytest.raises(UserSuspended):
        await redact(replace(alice, is_suspended=True), room.room_id, his[0], "1", reason=None)
    await redact(replace(bob, is_suspended=True), room.room_id, his[0], "2", reason=None)
    await redact(replace(bob, is_admin=True), room.room_id, hers, "3", reason=None)


async def test_setting_state(engine: Engine, room: Room, alice: Requester, bob: Requester) -> None:
    put = engine.state.put
    first = await put(alice, room.room_id, "m.room.name", "", {"name": "Tea"})
    assert await put(alice, room.room_id, "m.room.name", "", {"name": "Tea"}) == first
    assert await put(alice, room.room_id, "m.room.name", "", {"name": "Green tea"}) != first
    await put(alice, room.room_id, "com.example", "key", {})
    room = await engine.reload(room.room_id)
    assert room.content_of("m.room.name") == {"name": "Green tea"}
    assert room.state_event("com.example", "key") is not None
    stranger = await engine.user("stranger")
    for user, event_type, key, content, error in (
        (bob, "m.room.name", "", {"name": "Coffee"}, Forbidden),
        (bob, "com.example", alice.user_id, {}, Forbidden),
        (stranger, "m.room.name", "", {"name": "Coffee"}, Forbidden),
        (alice, "m.room.create", "", {}, Forbidden),
        (alice, "m.room.member", alice.user_id, {"membership": "away"}, BadJson),
        (alice, "m.room.member", "alice", {"membership": "ban"}, InvalidParam),
        (alice, "m.room.power_levels", "", {"users": {alice.user_id: 100}}, Forbidden),
        (alice, "", "", {}, InvalidParam),
        (replace(alice, is_suspended=True), "m.room.name", "", {}, UserSuspended),
    ):
        with pytest.raises(error):
            await put(user, room.room_id, event_type, key, content)
    with pytest.raises(Forbidden):
        await put(alice, "!none:veche.test", "m.room.name", "", {})


async def test_who_was_kicked_gets_no_answer_by_repeating(
    engine: Engine, room: Room, alice: Requester, bob: Requester
) -> None:
    levels = room.content_of("m.room.power_levels")
    await engine.state.put(alice, room.room_id, "m.room.power_levels", "", {**levels, "state_default": 0})
    await engine.state.put(bob, room.room_id, "com.example", "", {"tea": "green"})
    await engine.moderation.kick(alice, room.room_id, bob.user_id)
    with pytest.raises(Forbidden):
        await engine.state.put(bob, room.room_id, "com.example", "", {"tea": "green"})


async def test_canonical_aliases_point_here(engine: Engine, room: Room, alice: Requester) -> None:
    here, elsewhere = f"#here:{SERVER_NAME}", f"#elsewhere:{SERVER_NAME}"
    await engine.aliases.reserve(here, room.nid, alice.user_id)
    await engine.create(alice, room_alias_name="elsewhere")

    async def put(content: dict[str, Any]) -> None:
        await engine.state.put(alice, room.room_id, "m.room.canonical_alias", "", content)

    for content, error in (
        ({"alias": elsewhere}, BadAlias),
        ({"alias": here, "alt_aliases": ["#none:veche.test"]}, BadAlias),
        ({"alias": "here"}, InvalidParam),
        ({"alt_aliases": [1]}, InvalidParam),
        ({"alt_aliases": "#here:veche.test"}, InvalidParam),
    ):
        with pytest.raises(error):
            await put(content)
    await put({"alias": here, "alt_aliases": [here]})
    await engine.aliases.release(here, room.nid)
    await put({"alt_aliases": [here]})  # what is listed already is not looked at again
    await put({"alias": None})


async def test_redacted_state_is_no_longer_in_effect(engine: Engine, room: Room, alice: Requester) -> None:
    levels = {**room.content_of("m.room.power_levels"), "notifications": {"room": 20}}
    named = await engine.state.put(alice, room.room_id, "m.room.name", "", {"name": "Coffee"})
    leveled = await engine.state.put(alice, room.room_id, "m.room.power_levels", "", levels)
    assert room.summary()["name"] == "Coffee" and room.power_levels.for_notification("room") == 20
    for number, event_id in enumerate((named, leveled)):
        await engine.sending.redact(alice, room.room_id, event_id, f"{number}", reason=None)
    for now in (await engine.rooms.get(room.room_id), await engine.reload(room.room_id)):
        assert now.content_of("m.room.name") == {}
        assert "name" not in now.summary()
        assert now.power_levels.for_notification("room") == 50
        assert now.power_levels.for_user(alice.user_id) > 100
    summary = await engine.database.pool.fetchval("SELECT summary FROM rooms WHERE nid = $1", room.nid)
    assert "name" not in orjson.loads(summary)
