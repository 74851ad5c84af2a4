"""Who sees what of a room's past, held to a literal reading of the specification's rules."""

from __future__ import annotations

import random

import pytest

from homeserver.requester import Requester
from homeserver.rooms.event import Event
from homeserver.rooms.room import Room
from tests.rooms.conftest import Engine
from tests.rooms.past import Past, logged, watched

VISIBILITIES = ("world_readable", "shared", "invited", "joined")
STEPS = 40


class Rules:
    """ "Room History Visibility" by replaying a room whose events stand in one line."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id

    def allowed(self, events: list[Event]) -> list[str]:
        return [event.event_id for index, event in enumerate(events) if self._allows(events, index)]

    def memberships(self, events: list[Event]) -> list[str]:
        return [self._membership(events[: index + 1]) for index in range(len(events))]

    def _membership(self, events: list[Event]) -> str:
        own = [e for e in events if e.type == "m.room.member" and e.state_key == self.user_id]
        return str(own[-1].content["membership"]) if own else "leave"

    def _visibility(self, events: list[Event]) -> str:
        set_by = [e for e in events if e.type == "m.room.history_visibility"]
        value = set_by[-1].content.get("history_visibility") if set_by else None
        return value if value in VISIBILITIES else "shared"

    def _allows(self, events: list[Event], index: int) -> bool:
        event, past, future = events[index], events[:index], events[index + 1 :]
        if event.type == "m.room.member" and event.state_key == self.user_id:
            return True
        joins_later = any(
            e.type == "m.room.member" and e.state_key == self.user_id and e.content["membership"] == "join"
            for e in future
        )
        membership = self._membership(past)
        visibilities = {self._visibility(past)}
        if event.type == "m.room.history_visibility":
            visibilities.add(self._visibility(events[: index + 1]))
        return (
            "world_readable" in visibilities
            or membership == "join"
            or ("shared" in visibilities and joins_later)
            or ("invited" in visibilities and membership == "invite")
        )


async def do_something(
    past: Past, room: Room, alice: Requester, bob: Requester, chance: random.Random
) -> None:
    """One random step: mostly talk, sometimes a change of who may see it."""
    roll = chance.random()
    if roll < 0.5:
        await past.say(room, alice)
    elif roll < 0.65:
        value = chance.choice((*VISIBILITIES, "nonsense"))
        await past.put(room, alice, "m.room.history_visibility", {"history_visibility": value})
    else:
        membership = room.membership(bob.user_id)
        moves = {
            "leave": [("join", bob), ("invite", alice), ("ban", alice)],
            "invite": [("join", bob), ("leave", bob), ("leave", alice), ("ban", alice)],
            "join": [("join", bob), ("leave", bob), ("leave", alice), ("ban", alice)],
            "ban": [("leave", alice)],
        }
        move, by = chance.choice(moves[membership])
        name = {"displayname": str(chance.random())} if move == "join" else {}
        await past.member(room, bob, move, by=by, **name)


@pytest.mark.parametrize("seed", range(12))
async def test_every_event_of_random_rooms(
    engine: Engine, alice: Requester, bob: Requester, seed: int
) -> None:
    chance = random.Random(seed)
    past = Past.over(engine)
    stranger = await engine.user("stranger")
    room = await past.room(alice, visibility=chance.choice(VISIBILITIES))
    for step in range(STEPS):
        await do_something(past, room, alice, bob, chance)
        if step % 10 != 9:
            continue
        events = await past.events(room)
        for user in (alice, bob, stranger):
            rules = Rules(user.user_id)
            seen = await past.visibility.filter(room, user.user_id, events)
            assert [event.event_id for event in seen] == rules.allowed(events), user.user_id
            memberships = await past.visibility.memberships_at(room, user.user_id, events)
            assert memberships == rules.memberships(events), user.user_id
    reloaded = await engine.reload(room.room_id)
    anew = Past.over(engine).visibility  # nothing remembered
    events = await past.events(room)
    seen = await anew.filter(reloaded, bob.user_id, events)
    assert [event.event_id for event in seen] == Rules(bob.user_id).allowed(events)


async def test_members_of_a_shared_room_cost_no_query(
    engine: Engine, alice: Requester, bob: Requester
) -> None:
    past = Past.over(engine)
    room = await past.room(alice, bob)
    await past.say(room, alice)
    events = await past.events(room)
    async with watched(engine) as (watching, queries):
        assert len(await watching.visibility.filter(room, bob.user_id, events)) == len(events)
        await watching.visibility.memberships_at(room, bob.user_id, events)
        await logged()
        assert queries == []


async def test_a_page_of_a_narrow_room_costs_two_queries_once(
    engine: Engine, alice: Requester, bob: Requester
) -> None:
    past = Past.over(engine)
    room = await past.room(alice, visibility="joined")
    for number in range(20):  # a state before each message that no other has
        await past.put(room, alice, "m.room.topic", {"topic": str(number)})
        await past.say(room, alice)
    await past.member(room, bob, "join")
    await past.say(room, alice)
    events = await past.events(room)
    async with watched(engine) as (watching, queries):
        first = await watching.visibility.filter(room, bob.user_id, events)
        await logged()
        assert len(queries) == 2
        assert await watching.visibility.filter(room, bob.user_id, events) == first
        await logged()
        assert len(queries) == 2
    hidden = [event.event_id for event in events if event not in first]
    assert len(hidden) == 40
    assert [event.type for event in first[-2:]] == ["m.room.member", "m.room.message"]
