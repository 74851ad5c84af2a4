"""Transactions that a node is sent: what becomes of each event, and that none harms another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random, randrange
from typing import Any

import orjson
import pytest
import pytest_asyncio
from aiohttp import web

from federation.canonical import JsonObject
from federation.event import PDU
from federation.keys import SigningKey
from tests.api.client import User
from tests.server_server.conftest import ACME, PEER, Network
from tests.server_server.peer import Answer
from tests.server_server.peer_room import PeerRoom
from tests.server_server.room_peer import RoomPeer, said

V1 = "/_matrix/federation/v1"
MESSAGE = "m.room.message"
BOB = f"@bob:{PEER}"


async def failing(request: web.BaseRequest) -> web.StreamResponse:
    """The answer of a server that has a bad moment."""
    return web.json_response({"errcode": "M_UNKNOWN", "error": "Later"}, status=500)


@dataclass(kw_only=True)
class Shared:
    """A public room of Alice's, at Acme, that Bob of the peer is in."""

    network: Network
    rooms: RoomPeer
    room: PeerRoom
    alice: User

    @property
    def room_id(self) -> str:
        return self.room.room_id

    async def lose_one(self) -> PDU:
        """A message that nobody has, before two that arrive."""
        lost = self.say("lost")
        self.say("after the gap")
        event = self.say("after that")
        del self.room.events[lost.event_id]
        await self.send(event)
        await self.until_bodies(["after the gap", "after that"])
        return lost

    def say(self, body: str) -> PDU:
        """A message of Bob's on top of the newest events."""
        return self.room.make(BOB, MESSAGE, {"msgtype": "m.text", "body": body})

    def withhold(self, *pdus: PDU) -> None:
        """The peer has lost these."""
        for pdu in pdus:
            del self.room.events[pdu.event_id], self.room.states[pdu.event_id]

    async def send(self, *pdus: PDU | JsonObject, edus: Sequence[JsonObject] = ()) -> Answer:
        return await self.rooms.transmit(ACME, *pdus, edus=edus)

    async def ask(self, target: str, body: JsonObject | None = None, method: str | None = None) -> Answer:
        method = method or ("GET" if body is None else "POST")
        return await self.network.peer.send(ACME, self.network.ports[ACME], method, f"{V1}/{target}", body)

    async def bodies(self, limit: int = 100) -> list[str]:
        """What Alice reads of the room's messages, oldest first."""
        query = {"dir": "b", "limit": limit}
        page = await self.alice.get("/v3/rooms/{}/messages", self.room_id, query=query)
        return [
            event["content"].get("body", "") for event in reversed(page["chunk"]) if event["type"] == MESSAGE
        ]

    async def until_bodies(self, expected: list[str]) -> None:
        """Wait, by sync, until Alice reads exactly these messages."""
        since: str | None = None
        async with asyncio.timeout(20):
            while await self.bodies() != expected:
                sync = await self.alice.get("/v3/sync", query={"since": since, "timeout": 2000})
                since = sync["next_batch"]

    async def metric(self, line: str) -> float:
        return await self.network.metric(self.network.acme, line)


@pytest_asyncio.fixture(params=["10", "12"])
async def shared(network: Network, rooms: RoomPeer, alice: User, request: pytest.FixtureRequest) -> Shared:
    room_id = await alice.create_room(preset="public_chat", room_version=request.param)
    room = await rooms.join(ACME, room_id, BOB)
    return Shared(network=network, rooms=rooms, room=room, alice=alice)


async def test_events_are_taken_in_and_shown(shared: Shared) -> None:
    start = (await shared.alice.get("/v3/sync"))["next_batch"]
    events = [shared.say(f"{number}") for number in range(50)]
    answer = await shared.send(*events)
    assert answer.json == {"pdus": {event.event_id: {} for event in events}}
    assert await shared.bodies() == [f"{number}" for number in range(50)]
    sync = await shared.alice.get("/v3/sync", query={"since": start})
    timeline = sync["rooms"]["join"][shared.room_id]["timeline"]["events"]
    assert timeline[-1]["content"]["body"] == "49"


async def test_a_transaction_that_is_sent_again_does_nothing(shared: Shared) -> None:
    line = 'federation_events_received_total{outcome="accepted"}'
    event = shared.say("once")
    before = await shared.metric(line)
    txn_id = f"again{shared.room_id[1:9]}"
    body = {"origin": PEER, "origin_server_ts": 1, "pdus": [event.json]}
    answers = await asyncio.gather(*(shared.ask(f"send/{txn_id}", body, "PUT") for _ in range(4)))
    assert all(answer.json == {"pdus": {event.event_id: {}}} for answer in answers)
    assert await shared.metric(line) == before + 1
    assert await shared.bodies() == ["once"]
    # in another transaction it is known as well
    assert (await shared.send(event)).json == {"pdus": {event.event_id: {}}}
    assert await shared.bodies() == ["once"]


async def test_too_much_for_one_transaction_is_refused(shared: Shared) -> None:
    event = shared.room.build(BOB, MESSAGE, {"body": "x"})
    assert (await shared.send(*[event] * 51)).status == 400
    edu = {"edu_type": "org.example", "content": {}}
    assert (await shared.send(edus=[edu] * 101)).status == 400
    assert (await shared.send(edus=[edu] * 100)).status == 200
    wrong = await shared.ask("send/wrong", {"pdus": "none"}, "PUT")
    assert (wrong.status, wrong.errcode) == (400, "M_BAD_JSON")


async def test_one_bad_event_harms_no_other(shared: Shared) -> None:
    forged = shared.room.build(BOB, MESSAGE, {"body": "forged"})
    other_key = SigningKey.generate(shared.network.peer.key.version)
    unsigned = shared.room.build(BOB, key=other_key)
    good = shared.say("good")
    banned = shared.room.build(f"@mallory:{PEER}")
    answer = await shared.send(
        {**forged.json, "depth": "deep"},
        unsigned,
        good,
        banned,
        {"room_id": shared.room_id},
        {**good.json, "room_id": "!elsewhere:peer.test"},
        ["no event"],  # type: ignore[arg-type]
        {**forged.json, "content": {"number": 1.5}},
        {**forged.json, "prev_events": [f"${'a' * 43}"] * 21},
        {**forged.json, "content": {"body": "x" * 66_000}},
    )
    assert answer.status == 200
    results = answer.json["pdus"]
    assert results[good.event_id] == {}
    assert results[banned.event_id] == {}  # it was dealt with: rejected
    assert "signature" in results[unsigned.event_id]["error"].lower()
    assert sum(1 for result in results.values() if not result) == 2
    assert await shared.bodies() == ["good"]
    assert await shared.metric('federation_events_refused_total{reason="BadSignature"}') >= 1
    assert await shared.metric('federation_events_refused_total{reason="MalformedEvent"}') >= 2


async def test_an_event_of_an_unknown_room_is_refused(shared: Shared) -> None:
    event, good = shared.rooms.create(BOB, "10").make(BOB), shared.say("good")
    answer = await shared.send(event, good)
    assert "take part" in answer.json["pdus"][event.event_id]["error"]
    assert answer.json["pdus"][good.event_id] == {}


async def test_a_server_that_the_room_denies_is_not_listened_to(shared: Shared) -> None:
    denied = {"allow": ["*"], "deny": [PEER]}
    await shared.alice.put("/v3/rooms/{}/state/{}/", shared.room_id, "m.room.server_acl", json=denied)
    event = shared.room.build(BOB, MESSAGE, {"body": "let me in"})
    answer = await shared.send(event)
    assert "not allowed" in answer.json["pdus"][event.event_id]["error"]
    assert await shared.bodies() == []
    typing = {"room_id": shared.room_id, "user_id": BOB, "typing": True}
    refused = await shared.metric('federation_edus_received_total{outcome="refused"}')
    await shared.send(edus=[{"edu_type": "m.typing", "content": typing}])
    assert await shared.metric('federation_edus_received_total{outcome="refused"}') == refused + 1
    for target in ("state_ids/{}?event_id={}", "backfill/{}?v={}&limit=10", "event_auth/{}/{}"):
        answer = await shared.ask(target.format(shared.room_id, shared.room.newest[0].event_id))
        assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN"), target
    await shared.alice.put(
        "/v3/rooms/{}/state/{}/", shared.room_id, "m.room.server_acl", json={"allow": ["*"]}
    )
    assert (await shared.send(event)).json == {"pdus": {event.event_id: {}}}


async def test_a_room_that_nobody_here_is_in_is_not_followed(shared: Shared) -> None:
    await shared.alice.post("/v3/rooms/{}/leave", shared.room_id)
    event = shared.room.build(BOB, MESSAGE, {"body": "anybody there?"})
    answer = await shared.send(event)
    assert "take part" in answer.json["pdus"][event.event_id]["error"]


async def test_a_server_that_has_left_gives_what_led_to_it(shared: Shared) -> None:
    """Its leaving cannot be taken in without what it refers to, and nobody else may have that."""
    event_id = await shared.alice.send(shared.room_id, "last words")
    await shared.alice.post("/v3/rooms/{}/leave", shared.room_id)
    for target in (f"event/{event_id}", f"state_ids/{shared.room_id}?event_id={event_id}"):
        assert (await shared.ask(target)).status == 200, target


async def test_missing_events_are_fetched(shared: Shared) -> None:
    for number in range(150):
        shared.say(f"{number}")
    last = shared.say("150")
    answer = await shared.send(last)
    assert answer.json == {"pdus": {last.event_id: {}}}
    await shared.until_bodies([f"{number}" for number in range(51, 151)])
    assert await shared.metric('queue_depth{queue="waiting_events"}') == 0


async def test_what_waits_is_taken_in_when_it_comes_after_all(shared: Shared) -> None:
    first = shared.say("first")
    second = shared.say("second")
    shared.rooms.lies["get_missing_events"] = failing
    await shared.send(second)
    assert await shared.bodies() == []
    await shared.send(first)
    await shared.until_bodies(["first", "second"])


async def test_events_that_wait_survive_the_node(shared: Shared) -> None:
    shared.say("first")
    second = shared.say("second")
    shared.rooms.lies["get_missing_events"] = failing
    await shared.send(second)
    await shared.network.acme.kill()
    shared.rooms.lies.clear()
    await shared.network.acme.start()
    await shared.until_bodies(["first", "second"])


async def test_where_events_cannot_be_had_the_state_is_asked_for(shared: Shared) -> None:
    await shared.lose_one()  # nobody has what was lost, but the state is known
    assert "state_ids" in shared.rooms.asked
    following = shared.say("and on")
    assert (await shared.send(following)).json == {"pdus": {following.event_id: {}}}


async def test_an_event_whose_server_does_not_tell_what_came_before_it_is_dropped(shared: Shared) -> None:
    line = 'federation_events_received_total{outcome="given_up"}'
    before = await shared.metric(line)
    lost = shared.say("lost")
    event = shared.say("on top of nothing")
    del shared.room.events[lost.event_id]
    assert (await shared.send(event)).json == {"pdus": {event.event_id: {}}}
    async with asyncio.timeout(10):
        while await shared.metric(line) == before:
            await shared.bodies()
    assert "state_ids" not in shared.rooms.asked
    # the next one makes up for it, since what it names can be had
    await shared.send(shared.say("and on"))
    await shared.until_bodies(["on top of nothing", "and on"])


async def test_a_gap_is_filled_when_somebody_pages_back(shared: Shared) -> None:
    lost = await shared.lose_one()
    shared.room.events[lost.event_id] = lost
    await shared.until_bodies(["lost", "after the gap", "after that"])


async def test_missing_auth_events_are_fetched(shared: Shared) -> None:
    newest = shared.room.newest
    renamed = shared.room.build(BOB, "m.room.member", {"membership": "join", "displayname": "Bob"}, BOB)
    shared.room.add(renamed)
    event = shared.room.build(BOB, MESSAGE, {"body": "by my new name"}, prev=newest)
    assert renamed.event_id in event.auth_events
    assert (await shared.send(event)).json == {"pdus": {event.event_id: {}}}
    await shared.until_bodies(["by my new name"])


async def test_a_state_of_which_some_cannot_be_had_now_is_waited_for(shared: Shared) -> None:
    content = {"membership": "join", "displayname": "Bob of the gap"}
    shared.room.add(shared.room.build(BOB, "m.room.member", content, BOB))
    lost = shared.say("lost")
    shared.say("after the gap")
    event = shared.say("after that")
    del shared.room.events[lost.event_id]
    shared.rooms.lies["event"] = failing
    await shared.send(event)
    async with asyncio.timeout(10):
        while "event" not in shared.rooms.asked:
            await shared.bodies()
    assert await shared.bodies() == []
    del shared.rooms.lies["event"]
    await shared.until_bodies(["after the gap", "after that"])
    assert await shared.alice.state(shared.room_id, "m.room.member", BOB) == content


async def test_a_state_that_is_not_the_rooms_is_not_believed(shared: Shared) -> None:
    other = shared.rooms.create(BOB, shared.room.version.id)
    ids = [pdu.event_id for pdu in other.state.values()]
    shared.rooms.lies["state_ids"] = said({"pdu_ids": ids, "auth_chain_ids": ids})
    lost = shared.say("lost")
    shared.say("on top of a lie")
    event = shared.say("on top of that")
    shared.withhold(lost)
    before = await shared.metric('queue_depth{queue="waiting_events"}')
    assert (await shared.send(event)).json == {"pdus": {event.event_id: {}}}
    async with asyncio.timeout(10):
        while "state_ids" not in shared.rooms.asked:
            await shared.bodies()
    await shared.alice.send(shared.room_id, "still here")
    assert await shared.bodies() == ["still here"]
    assert await shared.metric('queue_depth{queue="waiting_events"}') == before + 1


async def test_a_server_that_tells_little_by_little_keeps_nobody_busy(shared: Shared) -> None:
    chain = [shared.say(f"{number}") for number in range(300)]
    asked = 0

    async def one_more(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        [latest] = orjson.loads(await request.read())["latest_events"]
        if latest not in shared.room.events:  # what waits in another test's room
            return web.json_response({"errcode": "M_NOT_FOUND", "error": "Not here"}, status=404)
        asked += 1
        if latest not in shared.room.events:  # of the room of another test, which is tried again
            asked -= 1
            return web.json_response({"events": []})
        unasked = shared.room.build(BOB, prev=chain[:1])
        before = shared.room.before(shared.room.events[latest].prev_events, 1)
        return web.json_response({"events": [pdu.json for pdu in (unasked, *before)]})

    shared.rooms.lies["get_missing_events"] = one_more
    await shared.send(chain[-1])
    await shared.until_bodies([f"{number}" for number in range(200, 300)])
    assert asked == 120
    assert "state_ids" in shared.rooms.asked


async def test_edus_that_are_none_are_ignored(shared: Shared) -> None:
    def line(outcome: str) -> str:
        return f'federation_edus_received_total{{outcome="{outcome}"}}'

    before = {outcome: await shared.metric(line(outcome)) for outcome in ("unknown", "malformed", "refused")}
    edus: list[Any] = [
        {"edu_type": "org.example.new", "content": {}},
        {"edu_type": "m.typing"},
        "nothing",
        {"edu_type": "m.typing", "content": {"room_id": "!elsewhere:peer.test", "user_id": BOB}},
        {"edu_type": "m.typing", "content": {"room_id": 1}},
    ]
    event = shared.say("beside them")
    assert (await shared.send(event, edus=edus)).json == {"pdus": {event.event_id: {}}}
    after = {outcome: await shared.metric(line(outcome)) - before[outcome] for outcome in before}
    assert after == {"unknown": 1, "malformed": 2, "refused": 2}


async def test_a_large_transaction_is_taken_in_if_it_is_signed_as_sent(shared: Shared) -> None:
    events = [shared.room.make(BOB, MESSAGE, {"body": "x" * 60_000}) for _ in range(40)]
    answer = await shared.send(*events)
    assert answer.json == {"pdus": {event.event_id: {} for event in events}}
    body = {"origin": PEER, "origin_server_ts": 1, "pdus": [event.json for event in events]}
    network, target = shared.network, f"{V1}/send/large"
    spaced = orjson.dumps(body, option=orjson.OPT_INDENT_2)
    other = await network.peer.send(ACME, network.ports[ACME], "PUT", target, body, body=spaced)
    assert (other.status, other.errcode) == (401, "M_UNAUTHORIZED")
    too_large = await network.peer.send(ACME, network.ports[ACME], "PUT", target, {}, body=b" " * 10_000_000)
    assert (too_large.status, too_large.errcode) == (413, "M_TOO_LARGE")


async def test_a_room_that_is_closed_to_other_servers_takes_nothing_from_them(shared: Shared) -> None:
    closed_id = await shared.alice.create_room(
        preset="public_chat", room_version="10", creation_content={"m.federate": False}
    )
    event = shared.rooms.create(BOB, "10").make(BOB)
    answer = await shared.send({**event.json, "room_id": closed_id})
    assert "not allowed" in str(answer.json["pdus"])
    answer = await shared.ask(f"backfill/{closed_id}?v={event.event_id}&limit=1")
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")


async def test_an_event_that_rests_on_another_room_is_rejected_with_what_rests_on_it(shared: Shared) -> None:
    other_id = await shared.alice.create_room(preset="public_chat", room_version=shared.room.version.id)
    other = await shared.rooms.join(ACME, other_id, f"@mallory:{PEER}")
    member = other.state["m.room.member", f"@mallory:{PEER}"]
    mallory = member.sender
    auth = [pdu for pdu in shared.room.state.values() if pdu.type == "m.room.power_levels"]
    join = shared.room.make(mallory, "m.room.member", {"membership": "join"}, mallory, auth=[*auth, member])
    before = {**shared.room.states[join.event_id]}
    spoken = shared.room.make(mallory, MESSAGE, {"body": "of a stranger"}, auth=[*auth, join])
    shared.room.state = before
    event = shared.say("of a member")
    shared.room.states[event.event_id] = before
    await shared.send(event)
    await shared.until_bodies(["of a member"])
    state = await shared.alice.get("/v3/rooms/{}/state", shared.room_id)
    assert mallory not in {each["state_key"] for each in state}
    assert spoken.event_id not in str(await shared.bodies())


async def test_a_redaction_that_does_not_apply_is_not_shown(shared: Shared) -> None:
    since = (await shared.alice.sync())["next_batch"]
    target = await shared.alice.send(shared.room_id, "mine")
    other_id = await shared.alice.create_room(preset="public_chat")
    elsewhere = await shared.alice.send(other_id, "mine too")
    for event_id in (target, elsewhere):
        in_content = shared.room.version.redacts_in_content
        content = {"redacts": event_id} if in_content else {}
        redaction = shared.room.make(BOB, "m.room.redaction", content, redacts=event_id)
        assert (await shared.send(redaction)).json == {"pdus": {redaction.event_id: {}}}
    sentinel = shared.say("sentinel")
    await shared.send(sentinel)
    timeline = (await shared.alice.sync(since))["rooms"]["join"][shared.room_id]["timeline"]["events"]
    assert [event["type"] for event in timeline] == [MESSAGE, MESSAGE]
    event = await shared.alice.get("/v3/rooms/{}/event/{}", shared.room_id, target)
    assert event["content"]["body"] == "mine"


@pytest.mark.slow
async def test_what_was_answered_for_is_there_whenever_the_node_dies(shared: Shared) -> None:
    seed = randrange(1000)
    random = Random(seed)
    messages = [shared.say(f"{number}") for number in range(120)]
    # every fifth is never sent by itself: it has to be asked for
    sent = [pdu for number, pdu in enumerate(messages) if number % 5 != 2]
    position = 0
    while position < len(sent):
        part = sent[position : position + random.randint(1, 12)]
        sending = asyncio.create_task(shared.send(*part))
        if random.random() < 0.2:
            await asyncio.wait([sending], timeout=random.random() * 0.1)
            await shared.network.acme.kill()
            await asyncio.wait([sending])
            await shared.network.acme.start()
        await asyncio.wait([sending])
        if sending.cancelled() or sending.exception() is not None:
            continue  # not answered: sent again
        assert sending.result().json == {"pdus": {pdu.event_id: {} for pdu in part}}
        position += len(part)
    await shared.until_bodies([f"{number}" for number in range(20, 120)])  # the newest hundred
    page = await shared.alice.get("/v3/rooms/{}/messages", shared.room_id, query={"dir": "b", "limit": 300})
    bodies = [event["content"]["body"] for event in page["chunk"] if event["type"] == MESSAGE]
    assert bodies == [f"{number}" for number in reversed(range(120))], seed


async def test_texts_that_the_database_cannot_hold_harm_nobody(shared: Shared) -> None:
    long = "$" + "x" * 10_000
    redactions = []
    for redacts in ("$\x00", long, "", "not an id"):
        in_content = shared.room.version.redacts_in_content
        content = {"redacts": redacts} if in_content else {}
        redactions.append(shared.room.make(BOB, "m.room.redaction", content, redacts=redacts))
    good = shared.say("good")
    nameless = {**good.json, "room_id": "!\x00:peer.test"}
    typed = shared.room.build(BOB, "m.room\x00message")
    edus = [
        {"edu_type": "m.typing", "content": {"room_id": "!\x00:peer.test", "user_id": BOB, "typing": True}},
        {"edu_type": "m.receipt", "content": {"!\x00:peer.test": {"m.read": {}}}},
        {"edu_type": "m.receipt", "content": {shared.room_id: {"m.read": {"@\x00:peer.test": {}}}}},
    ]
    answer = await shared.send(*redactions, good, nameless, typed, edus=edus)
    assert answer.status == 200, answer
    assert answer.json["pdus"][good.event_id] == {}
    assert await shared.bodies() == ["good"]
    ids = ["$\x00", long, 1, None]
    shared.rooms.lies["state_ids"] = said({"pdu_ids": ids, "auth_chain_ids": ids})
    shared.rooms.lies["backfill"] = said({"pdus": [{**good.json, "event_id": "$\x00"}, None]})
    lost = shared.say("lost")
    shared.say("between")
    event = shared.say("after")
    shared.withhold(lost)
    assert (await shared.send(event)).status == 200
    async with asyncio.timeout(10):
        while "state_ids" not in shared.rooms.asked:
            assert await shared.bodies() == ["good"]
