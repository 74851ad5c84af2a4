"""Reports are stored for administrators; who may report what."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.errors import NotFound
from homeserver.requester import Requester
from tests.rooms.conftest import Engine
from tests.rooms.past import NOW_MS, Past

STORED = "SELECT received_ms, room_nid, event_id, user_nid, reason FROM reports WHERE reporter_nid = $1"


async def stored(engine: Engine, reporter: Requester) -> list[dict[str, Any]]:
    rows = await engine.database.pool.fetch(STORED + " ORDER BY nid", reporter.user_nid)
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


async def test_rooms_and_users_may_be_reported_by_all(
    engine: Engine, alice: Requester, bob: Requester
) -> None:
    past = Past.over(engine)
    room = await past.room(alice)
    await past.reports.report_room(bob, room.room_id, "spam")
    await past.reports.report_user(bob, alice.user_id, "")
    assert await stored(engine, bob) == [
        {"received_ms": NOW_MS, "room_nid": room.nid, "reason": "spam"},
        {"received_ms": NOW_MS, "user_nid": alice.user_nid, "reason": ""},
    ]
    with pytest.raises(NotFound):
        await past.reports.report_room(bob, "!unknown", "spam")
    with pytest.raises(NotFound):
        await past.reports.report_user(bob, "@unknown:veche.test", "spam")
    assert len(await stored(engine, bob)) == 2


async def test_events_only_by_those_in_the_room_who_see_them(
    engine: Engine, alice: Requester, bob: Requester
) -> None:
    past = Past.over(engine)
    room = await past.room(alice, visibility="joined")
    hidden = await past.say(room, alice)
    await past.member(room, bob, "join")
    seen = await past.say(room, alice)
    report = past.reports.report_event
    await report(bob, room.room_id, seen.event_id, "rude")
    assert await stored(engine, bob) == [
        {"received_ms": NOW_MS, "room_nid": room.nid, "event_id": seen.event_id, "reason": "rude"}
    ]
    with pytest.raises(NotFound):
        await report(bob, room.room_id, hidden.event_id, "rude")
    with pytest.raises(NotFound):
        await report(bob, "!unknown", seen.event_id, "rude")
    await past.member(room, bob, "leave")
    with pytest.raises(NotFound):
        await report(bob, room.room_id, seen.event_id, "rude")
    assert len(await stored(engine, bob)) == 1
