"""The checks on receipt of an event, forks and merges, and what sync learns of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
import pytest_asyncio

from federation.canonical import JsonObject
from federation.event import PDU, parse_pdu
from homeserver.filters.compile import compile_filter
from homeserver.filters.event_filter import ALL_ROOM_EVENTS
from homeserver.requester import Requester
from homeserver.rooms.draft import Draft
from homeserver.rooms.event import FLAG_OUTLIER, FLAG_REJECTED, FLAG_SOFT_FAILED
from homeserver.rooms.membership_history import MembershipHistory
from homeserver.rooms.past_events import InvalidRoomState
from homeserver.rooms.receiving import Outcome, Result
from homeserver.rooms.room import Room
from homeserver.rooms.snapshot_reader import State
from homeserver.storage import events as event_sql
from homeserver.storage import rooms as room_sql
from homeserver.sync.context import SyncContext, SyncRequest
from homeserver.sync.lazy_members import LazyMembers
from homeserver.sync.room_state import RoomStates
from homeserver.sync.timelines import Timeline, Timelines, Wanted
from homeserver.sync.token import SyncToken
from tests.rooms.servers import Server

MEMBER = "m.room.member"
MESSAGE = "m.room.message"
TOPIC = "m.room.topic"


@dataclass(kw_only=True)
class Shared:
    """A room of both servers: Alice made it here, Bob joined from there."""

    here: Server
    there: Server
    room_id: str
    alice: str
    bob: str

    async def room(self) -> Room:
        return await self.here.rooms.get(self.room_id)

    async def newest(self) -> list[PDU]:
        room = await self.room()
        return [await self.here.pdu(event.event_id, self.room_id) for event in room.extremities]

    async def event(
        self,
        type: str = MESSAGE,
        content: JsonObject | None = None,
        state_key: str | None = None,
        **more: Any,
    ) -> PDU:
        """An event of Bob's, after the newest ones here unless `prev` says otherwise."""
        content = {"msgtype": "m.text", "body": "hello"} if content is None else content
        sender = more.pop("sender", self.bob)
        prev = more.pop("prev", None) or await self.newest()
        auth = more.pop("auth", None)
        if auth is None:
            auth = await self.here.auth_for(self.room_id, sender, type, content, state_key)
        version = (await self.room()).version
        return self.there.build(
            version, self.room_id, sender, type, content, prev=prev, auth=auth, state_key=state_key, **more
        )

    async def receive(self, *pdus: PDU, **more: Any) -> list[Result]:
        return await self.here.receiving.receive(self.room_id, pdus, **more)

    async def flags(self, pdu: PDU) -> int:
        return (await self.here.stored_event(pdu.event_id)).flags

    async def shown(self, after: int) -> list[str]:
        """What sync shows of the room after a position."""
        timelines = Timelines(self.here.database.pool, self.here.log)
        wanted = Wanted(await self.room(), after, self.here.log.position)
        timeline = timelines.from_tail(wanted, 100, ALL_ROOM_EVENTS, frozenset())
        assert timeline is not None
        stored = await timelines.from_storage([wanted], 100, ALL_ROOM_EVENTS, frozenset())
        ids = [event.event_id for event in timeline.events]
        assert [event.event_id for event in stored[wanted.room.nid].events] == ids
        return ids


@pytest_asyncio.fixture(params=["10", "12"])
async def shared(here: Server, there: Server, request: pytest.FixtureRequest) -> Shared:
    alice, bob = here.user("alice"), there.user("bob")
    room = await here.create_room(alice, request.param, users={bob: 50})
    await there.join_from(here, room.room_id, bob)
    return Shared(here=here, there=there, room_id=room.room_id, alice=alice, bob=bob)


def altered(pdu: PDU, **fields: Any) -> PDU:
    """The same event with other fields, as a server that lies would send it."""
    return parse_pdu({**pdu.json, **fields}, pdu.version, event_id=pdu.event_id)


async def test_an_event_after_the_newest_is_accepted_and_shown(shared: Shared) -> None:
    start = shared.here.log.position
    first = await shared.event()
    second = await shared.event(TOPIC, {"topic": "lunch"}, "", prev=[first])
    results = await shared.receive(second, first)  # in any order
    assert [result.outcome for result in results] == [Outcome.ACCEPTED] * 2
    assert await shared.shown(start) == [first.event_id, second.event_id]
    room = await shared.room()
    assert [event.event_id for event in room.extremities] == [second.event_id]
    assert room.text_of(TOPIC, "topic") == "lunch"
    again = await shared.receive(first)
    assert again[0].outcome is Outcome.ACCEPTED
    assert await shared.shown(start) == [first.event_id, second.event_id]
    assert (await shared.here.reload(shared.room_id)).text_of(TOPIC, "topic") == "lunch"


async def test_an_event_whose_hash_differs_is_redacted(shared: Shared) -> None:
    event = await shared.event(content={"msgtype": "m.text", "body": "lunch"})
    forged = altered(event, content={"msgtype": "m.text", "body": "no lunch"})
    [result] = await shared.receive(forged)
    assert result.outcome is Outcome.ACCEPTED
    stored = await shared.here.stored_event(event.event_id)
    assert stored.content == {}


async def test_an_event_that_its_auth_events_refuse_is_rejected(shared: Shared) -> None:
    start = shared.here.log.position
    state = await shared.here.state_pdus(shared.room_id)
    no_membership = [pdu for pdu in state if pdu.type in ("m.room.create", "m.room.power_levels")]
    if (await shared.room()).version.room_id_is_create_hash:
        no_membership = no_membership[1:]
    event = await shared.event(auth=no_membership)
    [result] = await shared.receive(event)
    assert result.outcome is Outcome.REJECTED
    assert result.reason == "sender.not_joined"
    assert await shared.flags(event) == FLAG_REJECTED
    assert await shared.shown(start) == []
    assert (await shared.receive(event))[0].outcome is Outcome.REJECTED


async def test_an_event_that_the_state_before_it_refuses_is_rejected(shared: Shared) -> None:
    auth = await shared.here.auth_for(shared.room_id, shared.bob, MESSAGE, {})
    ban = await shared.here.send(shared.room_id, shared.alice, MEMBER, {"membership": "ban"}, shared.bob)
    event = await shared.event(prev=[ban], auth=auth)
    [result] = await shared.receive(event)
    assert (result.outcome, result.reason) == (Outcome.REJECTED, "sender.not_joined")
    # what cites a rejected event as authority is rejected as well
    state = await shared.event(TOPIC, {"topic": "x"}, "", prev=[ban], auth=auth)
    assert (await shared.receive(state))[0].outcome is Outcome.REJECTED
    assert (await shared.room()).state_event(TOPIC) is None


async def test_an_event_that_only_the_current_state_refuses_is_soft_failed(shared: Shared) -> None:
    before = await shared.newest()
    auth = await shared.here.auth_for(shared.room_id, shared.bob, MESSAGE, {})
    ban = await shared.here.send(shared.room_id, shared.alice, MEMBER, {"membership": "ban"}, shared.bob)
    start = shared.here.log.position
    event = await shared.event(prev=before, auth=auth)
    topic = await shared.event(TOPIC, {"topic": "x"}, "", prev=[event], auth=auth)
    results = await shared.receive(event, topic)
    assert [result.outcome for result in results] == [Outcome.SOFT_FAILED] * 2
    assert await shared.flags(event) == FLAG_SOFT_FAILED
    room = await shared.room()
    assert [each.event_id for each in room.extremities] == [ban.event_id]
    assert room.state_event(TOPIC) is None
    assert await shared.shown(start) == []


async def test_what_refused_events_come_after_is_no_newest_event_once_something_is_built_on_them(
    shared: Shared,
) -> None:
    carol = f"@carol:{shared.bob.partition(':')[2]}"
    await shared.receive(await shared.event(MEMBER, {"membership": "join"}, carol, sender=carol))
    before = await shared.newest()
    auth = await shared.here.auth_for(shared.room_id, shared.bob, MESSAGE, {})
    ban = await shared.here.send(shared.room_id, shared.alice, MEMBER, {"membership": "ban"}, shared.bob)
    first = await shared.event(sender=carol, prev=before)
    refused = await shared.event(prev=[first], auth=auth)
    refused_too = await shared.event(prev=[refused], auth=auth)
    await shared.receive(first, refused, refused_too)
    assert await shared.flags(refused_too) == FLAG_SOFT_FAILED
    extremities = (await shared.room()).extremities
    assert {each.event_id for each in extremities} == {ban.event_id, first.event_id}
    second = await shared.event(sender=carol, prev=[refused_too])
    [result] = await shared.receive(second)
    assert result.outcome is Outcome.ACCEPTED
    for room in (await shared.room(), await shared.here.reload(shared.room_id)):
        assert {each.event_id for each in room.extremities} == {ban.event_id, second.event_id}


async def test_unknown_prev_and_auth_events_are_asked_for(shared: Shared) -> None:
    lost = await shared.event()
    event = await shared.event(prev=[lost])
    [result] = await shared.receive(event)
    assert (result.outcome, result.missing) == (Outcome.MISSING, (lost.event_id,))
    results = await shared.receive(event, lost)
    assert [each.outcome for each in results] == [Outcome.ACCEPTED] * 2
    member = await shared.event(MEMBER, {"membership": "join", "displayname": "B"}, shared.bob)
    known = await shared.here.auth_for(shared.room_id, shared.bob, MESSAGE, {})
    auth = [member if pdu.type == MEMBER else pdu for pdu in known]
    [result] = await shared.receive(await shared.event(auth=auth))
    assert (result.outcome, result.missing_auth) == (Outcome.MISSING, (member.event_id,))


async def test_a_branch_goes_in_and_a_local_send_merges_it(shared: Shared) -> None:
    fork = await shared.newest()
    ours = await shared.here.say(shared.room_id, shared.alice)
    theirs = await shared.event(TOPIC, {"topic": "theirs"}, "", prev=fork)
    [result] = await shared.receive(theirs)
    assert result.outcome is Outcome.ACCEPTED
    room = await shared.room()
    assert {each.event_id for each in room.extremities} == {ours.event_id, theirs.event_id}
    assert room.text_of(TOPIC, "topic") == "theirs"
    room = await shared.here.reload(shared.room_id)
    assert {each.event_id for each in room.extremities} == {ours.event_id, theirs.event_id}
    merge = await shared.here.say(shared.room_id, shared.alice)
    assert set(merge.prev_events) == {ours.event_id, theirs.event_id}
    assert [each.event_id for each in room.extremities] == [merge.event_id]
    room = await shared.here.reload(shared.room_id)
    assert [each.event_id for each in room.extremities] == [merge.event_id]
    assert room.text_of(TOPIC, "topic") == "theirs"


async def test_a_received_event_merges_branches(shared: Shared) -> None:
    fork = await shared.newest()
    ours = await shared.here.say(shared.room_id, shared.alice)
    theirs = await shared.event(TOPIC, {"topic": "theirs"}, "", prev=fork)
    merge = await shared.event(prev=[ours, theirs])
    results = await shared.receive(merge, theirs)
    assert [result.outcome for result in results] == [Outcome.ACCEPTED] * 2
    room = await shared.room()
    assert [each.event_id for each in room.extremities] == [merge.event_id]
    state = await shared.here.snapshots.state_before(
        room, (await shared.here.stored_event(merge.event_id)).nid
    )
    assert state[(TOPIC, "")].event_id == theirs.event_id


async def test_state_that_resolution_takes_back_is_told_of(shared: Shared) -> None:
    """Bob sets a topic; Alice's taking his power away, at the same time, undoes it."""
    await shared.here.send(shared.room_id, shared.alice, TOPIC, {"topic": "first"}, "")
    fork = await shared.newest()
    levels = (await shared.room()).content_of("m.room.power_levels")
    theirs = await shared.event(TOPIC, {"topic": "second"}, "", prev=fork)
    assert (await shared.receive(theirs))[0].outcome is Outcome.ACCEPTED
    assert (await shared.room()).text_of(TOPIC, "topic") == "second"
    start = shared.here.log.position
    # Alice's other client, through a server that has not seen it
    content = {**levels, "users": {**levels["users"], shared.bob: 0}}
    auth = await shared.here.auth_for(shared.room_id, shared.alice, "m.room.power_levels", content, "")
    demotion = shared.here.build(
        (await shared.room()).version, shared.room_id, shared.alice, "m.room.power_levels", content,
        prev=fork, auth=auth, state_key="",
    )  # fmt: skip
    assert (await shared.receive(demotion))[0].outcome is Outcome.ACCEPTED
    room = await shared.room()
    assert room.text_of(TOPIC, "topic") == "first"
    # sync: the timeline has the demotion, the state before it the topic that holds again
    for after in (False, True):
        state = await delta(shared, start, demotion, use_state_after=after)
        assert state[(TOPIC, "")].content == {"topic": "first"}
        assert (("m.room.power_levels", "") in state) == after
    room = await shared.here.reload(shared.room_id)
    assert room.text_of(TOPIC, "topic") == "first"
    assert room.resolved_at > start
    pool, end = shared.here.database.pool, shared.here.log.position
    rows = await event_sql.state_changes(pool, room.nid, start, end)
    assert [row["type"] for row in rows] == ["m.room.power_levels", TOPIC]
    assert await room_sql.changed_rooms(pool, [room.nid], start, end) == [room.nid]


async def delta(shared: Shared, since: int, shown: PDU, *, use_state_after: bool) -> State:
    """What sync gives as state to Alice when the timeline is one event."""
    here = shared.here
    pool = here.database.pool
    states = RoomStates(pool, here.log, LazyMembers(), here.snapshots, MembershipHistory(pool))
    requester = Requester(
        user_id=shared.alice,
        user_nid=1,
        device_id="A",
        device_nid=1,
        token_nid=0,
        is_guest=False,
        is_admin=False,
    )
    name = "state_after" if use_state_after else "state"
    context = SyncContext(
        requester=requester,
        request=SyncRequest(since=SyncToken(since, 0), filter=compile_filter({}), state_name=name),
        since=since,
        now=SyncToken(here.log.position, 0),
        now_ms=0,
        ignored=frozenset(),
    )
    timeline = Timeline([await here.stored_event(shown.event_id)], False)
    return await states.delta(context, await shared.room(), timeline, ALL_ROOM_EVENTS)


async def test_a_member_whom_resolution_removes_has_left(shared: Shared) -> None:
    """Alice's ban and a join of the banned user at the same time: the ban wins, whichever comes first."""
    carol = shared.here.user("bob")
    fork = await shared.newest()
    await shared.here.send(shared.room_id, carol, MEMBER, {"membership": "join"}, carol)
    room = await shared.room()
    assert (await shared.here.user_rooms.get(carol))[room.nid].membership == "join"
    ban = await shared.event(MEMBER, {"membership": "ban"}, carol, prev=fork)
    [result] = await shared.receive(ban)
    assert result.outcome is Outcome.ACCEPTED
    room = await shared.room()
    assert room.membership(carol) == "ban"
    assert carol not in room.local_members
    assert (await shared.here.user_rooms.get(carol))[room.nid].membership == "ban"


async def test_a_malformed_event_harms_nobody_else(shared: Shared) -> None:
    nul = await shared.event("m.room.\x00", {"body": "x"}, "\x00")
    other = replace_room(await shared.event(), "!elsewhere:there.test")
    good = await shared.event()
    results = await shared.receive(nul, other, good)
    assert [result.outcome for result in results] == [
        Outcome.REJECTED, Outcome.REJECTED, Outcome.ACCEPTED,
    ]  # fmt: skip
    assert results[1].reason == "other_room"


def replace_room(pdu: PDU, room_id: str) -> PDU:
    moved = parse_pdu({**pdu.json, "room_id": room_id}, pdu.version)
    assert moved.room_id == room_id
    return moved


async def test_a_redaction_takes_effect_whichever_comes_first(shared: Shared) -> None:
    target = await shared.event(content={"msgtype": "m.text", "body": "oops"})
    in_content = target.version.redacts_in_content
    redaction = await shared.event(
        "m.room.redaction", {"redacts": target.event_id} if in_content else {}, redacts=target.event_id
    )
    assert (await shared.receive(redaction))[0].outcome is Outcome.ACCEPTED
    assert (await shared.receive(target))[0].outcome is Outcome.ACCEPTED
    stored = await shared.here.stored_event(target.event_id)
    assert stored.content == {}
    assert stored.redacted_by == (await shared.here.stored_event(redaction.event_id)).nid
    other = await shared.here.say(shared.room_id, shared.alice)
    allowed = await shared.event(
        "m.room.redaction", {"redacts": other.event_id} if in_content else {}, redacts=other.event_id
    )
    assert (await shared.receive(allowed))[0].outcome is Outcome.ACCEPTED
    assert (await shared.here.stored_event(other.event_id)).content == {}  # Bob has the power


async def test_state_that_is_redacted_in_the_batch_that_brings_it_stays_whole(shared: Shared) -> None:
    topic = await shared.event(TOPIC, {"topic": "oops"}, "")
    in_content = topic.version.redacts_in_content
    redaction = await shared.event(
        "m.room.redaction",
        {"redacts": topic.event_id} if in_content else {},
        redacts=topic.event_id,
        prev=[topic],
    )
    name = await shared.event("m.room.name", {"name": "Lunch"}, "", prev=[redaction])
    results = await shared.receive(topic, redaction, name)
    assert [result.outcome for result in results] == [Outcome.ACCEPTED] * 3
    current = (await shared.room()).state[TOPIC, ""]
    assert current.content == {}
    # a snapshot names the state by these numbers
    assert current.nid == (await shared.here.stored_event(topic.event_id)).nid
    assert current.redacted_by == (await shared.here.stored_event(redaction.event_id)).nid


async def test_a_redaction_without_the_power_changes_nothing(shared: Shared) -> None:
    levels = (await shared.room()).content_of("m.room.power_levels")
    content = {**levels, "users": {**levels["users"], shared.bob: 0}}
    await shared.here.send(shared.room_id, shared.alice, "m.room.power_levels", content, "")
    target = await shared.here.say(shared.room_id, shared.alice)
    in_content = target.version.redacts_in_content
    redaction = await shared.event(
        "m.room.redaction", {"redacts": target.event_id} if in_content else {}, redacts=target.event_id
    )
    [result] = await shared.receive(redaction)
    assert (result.outcome, result.reason) == (Outcome.SOFT_FAILED, "redaction.not_applied")
    assert (await shared.here.stored_event(target.event_id)).content["body"] == "hello"


async def test_a_gap_is_bridged_by_the_state_that_another_server_names(shared: Shared) -> None:
    lost = await shared.event(TOPIC, {"topic": "lost"}, "")
    after = await shared.event(prev=[lost])
    [stored] = await shared.here.past.store_outliers(shared.room_id, [lost])
    assert stored.outcome is Outcome.ACCEPTED
    assert await shared.flags(lost) == FLAG_OUTLIER
    [result] = await shared.receive(after)
    assert result.missing == (lost.event_id,)
    state = {**await shared.here.state_ids(shared.room_id), (TOPIC, ""): lost.event_id}
    [result] = await shared.receive(after, states={lost.event_id: list(state.values())})
    assert result.outcome is Outcome.ACCEPTED
    assert (await shared.room()).text_of(TOPIC, "topic") == "lost"
    # the outlier may still come by itself: then it is part of the room, and no news
    start = shared.here.log.position
    [result] = await shared.receive(lost)
    assert result.outcome is Outcome.ACCEPTED
    assert await shared.flags(lost) == 0
    assert await shared.shown(start) == []
    assert (await shared.here.reload(shared.room_id)).text_of(TOPIC, "topic") == "lost"


async def test_a_joined_room_is_there_with_its_state_and_members(shared: Shared) -> None:
    room = await shared.there.rooms.get(shared.room_id)
    assert room.joined_count == 2
    assert room.local_members == {shared.bob}
    assert (await shared.there.user_rooms.get(shared.bob))[room.nid].membership == "join"
    assert await shared.there.state_ids(shared.room_id) == await shared.here.state_ids(shared.room_id)
    stored = await shared.there.reload(shared.room_id)
    assert stored.joined_count == 2
    sent = await shared.there.say(shared.room_id, shared.bob)
    assert (await shared.receive(sent))[0].outcome is Outcome.ACCEPTED
    # the last member leaves, the room stays readable; and they come again
    left = await shared.there.send(shared.room_id, shared.bob, MEMBER, {"membership": "leave"}, shared.bob)
    assert (await shared.receive(left))[0].outcome is Outcome.ACCEPTED
    assert (await shared.there.reload(shared.room_id)).membership(shared.bob) == "leave"
    await shared.here.send(shared.room_id, shared.alice, TOPIC, {"topic": "while away"}, "")
    await shared.there.join_from(shared.here, shared.room_id, shared.bob)
    assert await shared.there.state_ids(shared.room_id) == await shared.here.state_ids(shared.room_id)
    assert (await shared.there.user_rooms.get(shared.bob))[room.nid].membership == "join"


async def test_half_a_state_is_no_room(shared: Shared, there: Server) -> None:
    carol = there.user("alice")
    state = await shared.here.state_pdus(shared.room_id)
    join = await shared.event(MEMBER, {"membership": "join"}, carol, sender=carol)
    chain = await shared.here.auth_chain(shared.room_id, state)
    without_create = [pdu for pdu in state if pdu.type != "m.room.create"]
    with pytest.raises(InvalidRoomState, match="create"):
        await there.past.install(join.version, without_create, [], join)
    without_rules = [pdu for pdu in state if pdu.type != "m.room.join_rules"]
    with pytest.raises(InvalidRoomState, match="does not allow"):
        await there.past.install(join.version, without_rules, chain, join)


async def test_fetched_history_is_in_the_past_and_not_in_sync(shared: Shared, there: Server) -> None:
    """What Alice wrote before Bob came."""
    room = await there.rooms.get(shared.room_id)
    known = await there.events(shared.room_id)
    earlier = [
        await shared.here.pdu(event_id, shared.room_id)
        for event_id in await shared.here.events(shared.room_id)
        if event_id not in known
    ]
    assert earlier
    start = there.log.position
    results = await there.past.backfill(shared.room_id, earlier)
    assert {result.outcome for result in results} == {Outcome.ACCEPTED}
    events = [await there.stored_event(pdu.event_id) for pdu in earlier]
    assert all(event.nid < 0 and event.flags == 0 for event in events)
    assert there.log.tail.of_room(room.nid, start) == []
    assert orjson.loads(events[0].json)["type"] == earlier[0].type


async def test_local_sends_go_on_while_branches_come_in(shared: Shared) -> None:
    fork = await shared.newest()
    branch = await shared.event(TOPIC, {"topic": "a"}, "", prev=fork)
    drafts = [
        Draft(sender=shared.alice, type=MESSAGE, content={"msgtype": "m.text", "body": str(number)})
        for number in range(30)
    ]
    results = await asyncio.gather(
        shared.receive(branch), *(shared.here.rooms.send(shared.room_id, draft) for draft in drafts)
    )
    assert results[0][0].outcome is Outcome.ACCEPTED
    room = await shared.here.reload(shared.room_id)
    assert room.text_of(TOPIC, "topic") == "a"
    assert len(room.extremities) <= 2


async def test_state_that_is_just_being_set_does_not_stop_a_branch(shared: Shared) -> None:
    """What is not stored yet is in the room's state already, and nowhere that resolving it could read it."""
    for number in range(8):
        fork = await shared.newest()
        await shared.here.send(shared.room_id, shared.alice, TOPIC, {"topic": f"ours {number}"}, "")
        branch = await shared.event(TOPIC, {"topic": f"theirs {number}"}, "", prev=fork)

        async def go_on(number: int = number) -> None:
            for turn in range(6):
                name = {"name": f"{number} {turn}"}
                await shared.here.send(shared.room_id, shared.alice, "m.room.name", name, "")

        [result], _ = await asyncio.gather(shared.receive(branch), go_on())
        assert result.outcome is Outcome.ACCEPTED
    room = await shared.here.reload(shared.room_id)
    assert room.text_of("m.room.name", "name") == "7 5"
