"""Typing and presence."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import orjson
import pytest

from homeserver.commit_log.ephemeral import Ephemeral
from homeserver.config.people import PresenceConfig
from homeserver.errors import Forbidden, InvalidParam, NotFound
from homeserver.rooms.draft import Draft
from homeserver.rooms.presence import Presence
from homeserver.rooms.typing_notifications import TypingNotifications
from tests.engine.conftest import Clock, Engine

IDLE_MS = 300_000
AWAY_MS = 30_000


class Woken:
    """Who was woken."""

    def __init__(self) -> None:
        self.users: list[str] = []

    def __call__(self, users: Collection[str]) -> None:
        self.users += users


async def test_typing_is_told_when_it_begins_and_ends_not_when_it_goes_on() -> None:
    woken = Woken()
    ephemeral = Ephemeral(woken)
    start = ephemeral.counter
    ephemeral.start_typing(1, "@alice:x", 10_000, {"@bob:x"})
    assert ephemeral.typing_since(1, start) == ["@alice:x"]
    assert ephemeral.rooms_typed_in_since(start) == [1]
    middle = ephemeral.counter
    ephemeral.start_typing(1, "@alice:x", 20_000, {"@bob:x"})
    assert (ephemeral.counter, woken.users) == (middle, ["@bob:x"])
    ephemeral.stop_typing(1, "@alice:x")
    assert ephemeral.typing_since(1, middle) == []
    assert woken.users == ["@bob:x"] * 2
    ephemeral.stop_typing(1, "@alice:x")
    assert ephemeral.typing_since(1, ephemeral.counter) is None


async def test_typing_ends_by_itself() -> None:
    ended = asyncio.Event()
    ephemeral = Ephemeral(lambda users: ended.set())
    ephemeral.start_typing(1, "@alice:x", 60_000, ())
    ephemeral.start_typing(1, "@bob:x", 20, ())
    ended.clear()
    before = ephemeral.counter
    await asyncio.wait_for(ended.wait(), 5)
    assert ephemeral.typing_since(1, before) == ["@alice:x"]


async def test_whoever_leaves_types_no_more(engine: Engine) -> None:
    alice, bob = await engine.new_user(), await engine.new_user("bob")
    room = await engine.new_room(alice, bob)
    ephemeral = engine.new_ephemeral()
    typing = TypingNotifications(engine.rooms, ephemeral, engine.log)
    await typing.set(room.room_id, bob.user_id, True, None)
    assert ephemeral.typing_since(room.nid, 0) == [bob.user_id]
    await engine.rooms.send(
        room.room_id,
        Draft(
            sender=bob.user_id,
            type="m.room.member",
            state_key=bob.user_id,
            content={"membership": "leave"},
        ),
    )
    assert ephemeral.typing_since(room.nid, 0) == []
    with pytest.raises(Forbidden):
        await typing.set(room.room_id, bob.user_id, True, None)


def new_presence(engine: Engine, *, enabled: bool = True) -> tuple[Presence, Ephemeral, Woken]:
    woken = Woken()
    ephemeral = engine.new_ephemeral()
    config = PresenceConfig(enabled=enabled, idle_after_ms=IDLE_MS, offline_after_ms=AWAY_MS)
    presence = Presence(
        config,
        ephemeral,
        woken,
        engine.log,
        engine.database.pool,
        engine.profiles,
        engine.user_rooms,
        engine.room_cache,
        clock=engine.clock,
    )
    return presence, ephemeral, woken


def advance(clock: Clock, ms: int) -> None:
    clock.now += ms


async def test_who_syncs_is_online_until_they_stop(engine: Engine) -> None:
    presence, _, _ = new_presence(engine)
    alice = await engine.new_user()
    presence.seen(alice.user_id, "online", device_id="A", timeout_ms=10_000)
    assert (await presence.get(alice, alice.user_id))["presence"] == "online"
    advance(engine.clock, 10_000 + AWAY_MS - 1)
    presence.sweep()
    assert (await presence.get(alice, alice.user_id))["presence"] == "online"
    advance(engine.clock, 1)
    presence.sweep()
    assert (await presence.get(alice, alice.user_id))["presence"] == "offline"


async def test_who_does_nothing_is_unavailable_until_they_do(engine: Engine) -> None:
    presence, _, _ = new_presence(engine)
    alice = await engine.new_user()
    room = await engine.new_room(alice)
    for _ in range(IDLE_MS // 20_000):
        presence.seen(alice.user_id, "online")
        advance(engine.clock, 20_000)
        presence.sweep()
    assert await presence.get(alice, alice.user_id) == {
        "presence": "unavailable",
        "last_active_ago": IDLE_MS,
    }
    await engine.say(room, alice)
    status = await presence.get(alice, alice.user_id)
    assert (status["presence"], status["last_active_ago"], status["currently_active"]) == ("online", 0, True)


async def test_one_device_online_is_enough(engine: Engine) -> None:
    presence, _, _ = new_presence(engine)
    alice = await engine.new_user()
    presence.seen(alice.user_id, "online", device_id="A")
    presence.seen(alice.user_id, "unavailable", device_id="B")
    assert (await presence.get(alice, alice.user_id))["presence"] == "online"
    advance(engine.clock, AWAY_MS - 1)
    presence.seen(alice.user_id, "unavailable", device_id="B")
    advance(engine.clock, 1)
    presence.sweep()
    assert (await presence.get(alice, alice.user_id))["presence"] == "unavailable"


async def test_a_sync_that_shows_nobody_online_takes_nothing_back(engine: Engine) -> None:
    presence, _, _ = new_presence(engine)
    alice = await engine.new_user()
    presence.seen(alice.user_id, "offline", device_id="A")
    assert (await presence.get(alice, alice.user_id))["presence"] == "offline"
    presence.set(alice, "online", "here")
    presence.seen(alice.user_id, "offline", device_id=alice.device_id)
    assert (await presence.get(alice, alice.user_id))["presence"] == "online"


async def test_who_did_something_is_online_for_a_while_and_told_of_anew_when_connecting(
    engine: Engine,
) -> None:
    presence, ephemeral, _ = new_presence(engine)
    alice = await engine.new_user()
    room = await engine.new_room(alice)
    assert (await presence.get(alice, alice.user_id))["presence"] == "online"
    advance(engine.clock, AWAY_MS)
    presence.sweep()
    assert (await presence.get(alice, alice.user_id))["presence"] == "offline"
    await engine.say(room, alice)
    counter = ephemeral.counter
    presence.seen(alice.user_id, "online", device_id="A")
    assert len(await presence.since(alice.user_id, counter)) == 1


async def test_whoever_is_met_is_told_of_unless_offline(engine: Engine) -> None:
    presence, ephemeral, _ = new_presence(engine)
    alice, bob, carol = [await engine.new_user(name) for name in ("alice", "bob", "carol")]
    presence.set(bob, "online", None)
    now = ephemeral.counter
    (event,) = await presence.since(alice.user_id, now, {alice.user_id, bob.user_id, carol.user_id})
    assert orjson.loads(event)["sender"] == bob.user_id
    presence.set(bob, "offline", None)
    assert await presence.since(alice.user_id, ephemeral.counter, {bob.user_id}) == []


async def test_a_status_set_by_hand_is_told_with_its_message(engine: Engine) -> None:
    presence, ephemeral, woken = new_presence(engine)
    alice, bob, stranger = [await engine.new_user(name) for name in ("alice", "bob", "carol")]
    await engine.new_room(alice, bob)
    start = ephemeral.counter
    presence.set(bob, "unavailable", "in a meeting")
    assert await presence.wake() > 0
    assert alice.user_id in woken.users
    assert stranger.user_id not in woken.users
    (event,) = await presence.since(alice.user_id, start)
    assert orjson.loads(event) == {
        "type": "m.presence",
        "sender": bob.user_id,
        "content": {"presence": "unavailable", "last_active_ago": 0, "status_msg": "in a meeting"},
    }
    assert await presence.since(alice.user_id, ephemeral.counter) == []
    assert await presence.since(stranger.user_id, start) == []
    start = ephemeral.counter
    presence.set(bob, "offline", None)
    told = [orjson.loads(event)["sender"] for event in await presence.since(alice.user_id, 0)]
    assert told == [alice.user_id]
    assert len(await presence.since(alice.user_id, start)) == 1


async def test_only_changes_are_told(engine: Engine) -> None:
    presence, ephemeral, _ = new_presence(engine)
    alice = await engine.new_user()
    presence.seen(alice.user_id, "online")
    counter = ephemeral.counter
    for _ in range(5):
        presence.seen(alice.user_id, "online")
        presence.active(alice.user_id)
        presence.sweep()
    assert ephemeral.counter == counter


async def test_presence_is_for_those_who_share_a_room(engine: Engine) -> None:
    alice, bob, stranger = [await engine.new_user(name) for name in ("alice", "bob", "carol")]
    room = await engine.new_room(alice, bob)
    presence, _, _ = new_presence(engine)
    assert await presence.get(alice, bob.user_id) == {"presence": "offline"}
    await engine.say(room, bob)
    assert (await presence.get(alice, bob.user_id))["presence"] == "online"
    with pytest.raises(Forbidden):
        await presence.get(stranger, bob.user_id)
    with pytest.raises(NotFound):
        await presence.get(stranger, "@nobody:veche.test")
    with pytest.raises(InvalidParam):
        presence.set(alice, "away", None)


async def test_a_new_name_is_told_with_presence(engine: Engine) -> None:
    presence, ephemeral, _ = new_presence(engine)
    alice = await engine.new_user()
    presence.seen(alice.user_id, "online")
    before = ephemeral.counter
    await engine.profiles.put_field(alice, "displayname", {"displayname": "Alice"})
    (event,) = await presence.since(alice.user_id, before)
    assert orjson.loads(event)["content"]["displayname"] == "Alice"


async def test_without_presence_everyone_is_offline(engine: Engine) -> None:
    presence, ephemeral, _ = new_presence(engine, enabled=False)
    alice = await engine.new_user()
    start = ephemeral.counter
    presence.seen(alice.user_id, "online")
    presence.set(alice, "online", None)
    assert ephemeral.counter == start
    assert await presence.get(alice, alice.user_id) == {"presence": "offline"}
    assert await presence.since(alice.user_id, 0) == []
