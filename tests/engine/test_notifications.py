"""The list of notifications."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from homeserver.push_rules import put_rule
from homeserver.requester import Requester
from homeserver.rooms.room import Room
from homeserver.sync.notifications import Notifications
from tests.engine.conftest import Engine


def new_notifications(engine: Engine) -> Notifications:
    return Notifications(
        engine.database.pool,
        engine.log,
        engine.rooms,
        engine.user_rooms,
        engine.push_rules,
        engine.account_data,
        engine.clock,
    )


async def everything(
    engine: Engine, user: Requester, *, limit: int = 100, only_highlights: bool = False
) -> list[dict[str, Any]]:
    """All pages."""
    found: list[dict[str, Any]] = []
    before: int | None = None
    while True:
        page = await new_notifications(engine).page(user, before, limit, only_highlights=only_highlights)
        assert len(page.notifications) <= limit
        found += [orjson.loads(each) for each in page.notifications]
        if page.before is None:
            return found
        assert before is None or page.before < before
        before = page.before


async def say_many(engine: Engine, rooms: list[Room], sender: Requester, count: int) -> list[str]:
    """Messages in turn in each room; their ids, newest first."""
    return [await engine.say(rooms[n % len(rooms)], sender) for n in range(count)][::-1]


async def test_events_are_listed_newest_first_with_what_the_rules_say(engine: Engine) -> None:
    alice, bob = await engine.new_user(), await engine.new_user("bob")
    room = await engine.new_room(bob, alice)
    first, second = await engine.say(room, bob), await engine.say(room, bob)
    await engine.say(room, alice)
    await engine.receipts.post(alice, room.room_id, "m.read", first)
    listed = await everything(engine, alice)
    assert [(each["event"]["event_id"], each["read"]) for each in listed] == [(second, False), (first, True)]
    assert {each["room_id"] for each in listed} == {room.room_id}
    assert all("notify" in each["actions"] for each in listed)
    assert "room_id" not in listed[0]["event"]


@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_pages_over_several_rooms_miss_nothing(engine: Engine, limit: int) -> None:
    alice, bob = await engine.new_user(), await engine.new_user("bob")
    busy, quiet = [await engine.new_room(bob, alice) for _ in range(2)]
    said = await say_many(engine, [busy, busy, busy, quiet], bob, 60)
    listed = await everything(engine, alice, limit=limit)
    assert [each["event"]["event_id"] for each in listed] == said


async def test_only_highlights(engine: Engine) -> None:
    alice, bob = await engine.new_user(), await engine.new_user("bob")
    room = await engine.new_room(bob, alice)
    rule = {"pattern": "tea", "actions": ["notify", {"set_tweak": "highlight"}]}
    await engine.push_rules.edit(alice, lambda rules: put_rule(rules, "content", "tea", rule))
    await engine.say(room, bob)
    about_tea = await engine.say(room, bob, body="Time for tea!")
    listed = await everything(engine, alice, only_highlights=True)
    assert [each["event"]["event_id"] for each in listed] == [about_tea]


async def test_ignored_users_notify_nobody(engine: Engine) -> None:
    alice, bob = await engine.new_user(), await engine.new_user("bob")
    room = await engine.new_room(bob, alice)
    await engine.say(room, bob)
    content = {"ignored_users": {bob.user_id: {}}}
    await engine.account_data.put(alice, "m.ignored_user_list", content)
    assert await everything(engine, alice) == []
