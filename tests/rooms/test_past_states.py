"""History that is fetched later has the states that it had where it was made, forks included."""

from __future__ import annotations

import pytest

from federation.event import PDU
from homeserver.rooms.event import FLAG_OUTLIER
from homeserver.rooms.past_events import UNKNOWN_SNAPSHOT
from homeserver.rooms.receiving import Outcome
from tests.rooms.servers import Server

MEMBER, MESSAGE, TOPIC, NAME = "m.room.member", "m.room.message", "m.room.topic", "m.room.name"
GAPS = "SELECT event_id FROM history_gaps WHERE room_nid = $1"
RELATIONS = "SELECT relates_to FROM event_relations WHERE room_nid = $1"


async def event_of(server: Server, room_id: str, pdu: PDU, *prev: PDU) -> PDU:
    """Take an event of the server's own in, on top of others than the newest."""
    [result] = await server.receiving.receive(room_id, [pdu])
    assert result.outcome is Outcome.ACCEPTED
    return pdu


async def state_at(server: Server, room_id: str, event_id: str) -> dict[tuple[str, str], str] | None:
    """The state before an event; None where the server cannot tell."""
    room = await server.rooms.get(room_id)
    event = await server.stored_event(event_id)
    if event.snapshot == UNKNOWN_SNAPSHOT:
        return None
    state = await server.snapshots.at_snapshot(room, event.snapshot)
    return {key: each.event_id for key, each in state.items()}


async def all_events(server: Server, room_id: str) -> list[PDU]:
    """The room's events, the newest first."""
    pdus = [await server.pdu(event_id, room_id) for event_id in await server.events(room_id)]
    return sorted(pdus, key=lambda pdu: -pdu.depth)


async def gaps(server: Server, room_id: str) -> set[str]:
    room = await server.rooms.get(room_id)
    return {row["event_id"] for row in await server.database.pool.fetch(GAPS, room.nid)}


async def forked(there: Server, version: str) -> tuple[str, str]:
    """A room whose history has a fork with different state on both sides."""
    alice = there.user("alice")
    room = await there.create_room(alice, version)
    base = await there.say(room.room_id, alice, "before the fork")
    sides = []
    for type, key in ((TOPIC, "topic"), (NAME, "name"), (TOPIC, "topic")):
        auth = await there.auth_for(room.room_id, alice, type, {}, "")
        content = {key: f"{len(sides)}"}
        pdu = there.build(
            room.version, room.room_id, alice, type, content, prev=[base], auth=auth, state_key="",
            ts=1_800_000_000_000 + len(sides),
        )  # fmt: skip
        sides.append(await event_of(there, room.room_id, pdu, base))
    await there.say(room.room_id, alice, "after the fork")
    await there.send(room.room_id, alice, NAME, {"name": "last"}, "")
    await there.say(room.room_id, alice, "the end")
    return room.room_id, alice


@pytest.mark.parametrize("version", ["1", "2", "10", "12"])
async def test_states_are_carried_on_from_the_oldest(here: Server, there: Server, version: str) -> None:
    room_id, _ = await forked(there, version)
    join = await here.join_from(there, room_id, here.user("bob"))
    assert await gaps(here, room_id) == set(join.prev_events)
    earlier = [pdu for pdu in await all_events(there, room_id) if pdu.event_id != join.event_id]
    results = await here.past.backfill(room_id, earlier)
    assert {result.outcome for result in results} == {Outcome.ACCEPTED}
    for pdu in earlier:
        expected = await state_at(there, room_id, pdu.event_id)
        assert await state_at(here, room_id, pdu.event_id) == expected, pdu
    assert await gaps(here, room_id) == set()
    # and it is stored like that
    await here.reload(room_id)
    for pdu in earlier:
        assert await state_at(here, room_id, pdu.event_id) == await state_at(there, room_id, pdu.event_id)


async def test_states_are_carried_on_from_what_was_asked_for(here: Server, there: Server) -> None:
    room_id, _ = await forked(there, "12")
    join = await here.join_from(there, room_id, here.user("bob"))
    earlier = [pdu for pdu in await all_events(there, room_id) if pdu.event_id != join.event_id]
    page, rest = earlier[:5], earlier[5:]  # the fork's lower end is not in the page
    in_page = {pdu.event_id for pdu in page}
    first = [pdu for pdu in page if not set(pdu.prev_events) <= in_page]
    assert len(first) > 1
    states = {}
    for pdu in first:
        before = await state_at(there, room_id, pdu.event_id)
        assert before is not None
        states[pdu.event_id] = list(before.values())
        pdus = [await there.pdu(event_id, room_id) for event_id in before.values()]
        await here.past.store_outliers(room_id, pdus)
    await here.past.backfill(room_id, page, states)
    for pdu in page:
        assert await state_at(here, room_id, pdu.event_id) == await state_at(there, room_id, pdu.event_id)
    assert await gaps(here, room_id) == {id for pdu in first for id in pdu.prev_events} - in_page
    await here.past.backfill(room_id, rest)
    assert await gaps(here, room_id) == set()


async def test_where_nobody_tells_the_state_it_is_not_made_up(here: Server, there: Server) -> None:
    room_id, _ = await forked(there, "12")
    join = await here.join_from(there, room_id, here.user("bob"))
    earlier = [pdu for pdu in await all_events(there, room_id) if pdu.event_id != join.event_id]
    await here.past.backfill(room_id, earlier[:3])  # a message, a name, a message
    told = [await state_at(here, room_id, pdu.event_id) for pdu in earlier[:3]]
    assert told[0] == await state_at(there, room_id, earlier[0].event_id)  # as after it: it is a message
    assert told[1:] == [None, None]


async def test_a_redaction_that_came_before_its_target_was_fetched_takes_effect(
    here: Server, there: Server
) -> None:
    alice = there.user("alice")
    room = await there.create_room(alice, "12")
    target = await there.say(room.room_id, alice, "a secret")
    join = await here.join_from(there, room.room_id, here.user("bob"))
    redaction = await there.send(room.room_id, alice, "m.room.redaction", {}, redacts=target.event_id)
    await here.receiving.receive(room.room_id, [redaction])
    await here.past.backfill(room.room_id, [target])  # as from a server that has not heard of the redaction
    stored = await here.stored_event(target.event_id)
    assert stored.content == {}
    assert stored.redacted_by is not None
    assert join.event_id in await here.accepted(room.room_id)


async def test_a_redaction_that_is_fetched_takes_effect(here: Server, there: Server) -> None:
    alice = there.user("alice")
    room = await there.create_room(alice, "12")
    target = await there.say(room.room_id, alice, "a secret")
    redaction = await there.send(room.room_id, alice, "m.room.redaction", {}, redacts=target.event_id)
    join = await here.join_from(there, room.room_id, here.user("bob"))
    earlier = [pdu for pdu in await all_events(there, room.room_id) if pdu.event_id != join.event_id]
    pdus = [target if pdu.event_id == target.event_id else pdu for pdu in earlier]
    await here.past.backfill(room.room_id, pdus)
    stored = await here.stored_event(target.event_id)
    assert (stored.content, stored.flags) == ({}, 0)
    assert stored.redacted_by == (await here.stored_event(redaction.event_id)).nid


async def test_relations_in_history_count(here: Server, there: Server) -> None:
    alice = there.user("alice")
    room = await there.create_room(alice, "12")
    target = await there.say(room.room_id, alice, "lunch?")
    relates_to = {"rel_type": "m.annotation", "event_id": target.event_id, "key": "+1"}
    reaction = await there.send(room.room_id, alice, "m.reaction", {"m.relates_to": relates_to})
    await here.join_from(there, room.room_id, here.user("bob"))
    await here.past.backfill(room.room_id, [target, reaction])
    nid = (await here.rooms.get(room.room_id)).nid
    rows = await here.database.pool.fetch(RELATIONS, nid)
    assert [row["relates_to"] for row in rows] == [target.event_id]


async def test_what_was_known_beside_the_graph_takes_its_place(here: Server, there: Server) -> None:
    room_id, _ = await forked(there, "12")
    join = await here.join_from(there, room_id, here.user("bob"))
    earlier = [pdu for pdu in await all_events(there, room_id) if pdu.event_id != join.event_id]
    members = [pdu for pdu in earlier if pdu.type == MEMBER]
    assert (await here.stored_event(members[0].event_id)).flags == FLAG_OUTLIER
    await here.past.backfill(room_id, earlier)
    assert (await here.stored_event(members[0].event_id)).flags == 0
    again = await here.past.backfill(room_id, earlier)
    assert {result.outcome for result in again} == {Outcome.ACCEPTED}
