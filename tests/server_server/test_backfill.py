"""History from before a node was in a room: fetched when its users page back, and shown to whom it may be."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from federation.event import PDU
from tests.api.client import User, timeline_of
from tests.server_server.conftest import ACME, PEER, Network
from tests.server_server.room_peer import RoomPeer, said

MESSAGE, NAME, VISIBILITY = "m.room.message", "m.room.name", "m.room.history_visibility"


async def say(user: User, room_id: str, body: str) -> str:
    answer = await user.put(
        "/v3/rooms/{}/send/{}/{}", room_id, MESSAGE, f"t{body}", json={"msgtype": "m.text", "body": body}
    )
    return str(answer["event_id"])


async def put(user: User, room_id: str, type: str, content: dict[str, Any]) -> str:
    answer = await user.put("/v3/rooms/{}/state/{}/", room_id, type, json=content)
    return str(answer["event_id"])


async def enter(user: User, room_id: str, server: str) -> None:
    await user.post("/v3/join/{}", room_id, query={"via": server})


async def history(user: User, room_id: str, limit: int = 100, **query: Any) -> list[dict[str, Any]]:
    """All events that the user may page back to, the newest first."""
    events: list[dict[str, Any]] = []
    start: str | None = None
    for _ in range(50):
        page = await user.get(
            "/v3/rooms/{}/messages", room_id, query={"dir": "b", "limit": limit, "from": start, **query}
        )
        events += page["chunk"]
        start = page.get("end")
        if start is None:
            return events
    raise AssertionError("paging back does not come to an end")


def bodies(events: list[dict[str, Any]]) -> list[str]:
    return [event["content"].get("body", "") for event in reversed(events) if event["type"] == MESSAGE]


@pytest.mark.parametrize("version", ["1", "12"])
async def test_five_hundred_earlier_messages_are_reached(
    network: Network, alice: User, bob: User, version: str
) -> None:
    room_id = await alice.create_room(preset="public_chat", room_version=version)
    for number in range(500):
        await say(alice, room_id, f"{number}")
    await put(alice, room_id, NAME, {"name": "Lunch"})
    await enter(bob, room_id, ACME)
    events = await history(bob, room_id)
    assert bodies(events) == [f"{number}" for number in range(500)]
    assert events[-1]["type"] == "m.room.create"
    assert [event["event_id"] for event in events] == [
        event["event_id"] for event in await history(alice, room_id)
    ]
    # now that it is here, nobody is asked again
    await network.acme.stop()
    try:
        assert bodies(await history(bob, room_id)) == bodies(events)
    finally:
        await network.acme.start()


@pytest.mark.parametrize("failures", [0, 3])
@pytest.mark.parametrize("base", [-3, -1])  # the latter is what the join comes after
async def test_a_branch_from_before_the_join_does_not_bring_old_messages_as_new_ones(
    rooms: RoomPeer, alice: User, base: int, failures: int
) -> None:
    """Somebody of the peer wrote while Alice joined: what was before is history, to be paged back to."""
    host = rooms.user("host")
    room = rooms.create(host)

    def make(body: str, **more: Any) -> PDU:
        return room.make(host, MESSAGE, {"msgtype": "m.text", "body": body}, **more)

    spoken = [make(f"{number}") for number in range(60)]
    spoken.append(room.make(host, NAME, {"name": "Lunch"}, ""))
    await enter(alice, room.room_id, PEER)
    since = (await alice.sync())["next_batch"]
    [join] = room.newest
    branch = [spoken[base]]
    while branch[0].depth < join.depth + 2:
        branch = [make(f"beside {branch[0].depth}", prev=branch)]
    room.newest = [join, *branch]

    async def failing(request: web.BaseRequest) -> web.StreamResponse:
        if rooms.asked.count("state_ids") == failures:
            del rooms.lies["state_ids"]
        return web.json_response({"errcode": "M_UNKNOWN", "error": "Later"}, status=500)

    if failures:
        rooms.lies["state_ids"] = failing
    await rooms.transmit(ACME, make("and on"))
    shown: list[str] = []
    async with asyncio.timeout(30):
        while "and on" not in shown:
            sync = await alice.sync(since, timeout_ms=10_000)
            shown += [event["content"].get("body", "") for event in timeline_of(sync, room.room_id)]
            since = sync["next_batch"]
    assert shown[-4:] == [*(f"beside {join.depth + number}" for number in (-1, 0, 1)), "and on"]
    assert all("beside" in body for body in shown[:-1])
    beside = [f"beside {depth}" for depth in range(spoken[base].depth, join.depth + 2)]
    rooms.lies.pop("state_ids", None)
    everything = [*map(str, range(60)), *beside, "and on"]
    assert sorted(bodies(await history(alice, room.room_id))) == sorted(everything)


async def test_history_is_shown_to_those_who_may_see_it(alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await say(alice, room_id, "shared")
    await put(alice, room_id, VISIBILITY, {"history_visibility": "joined"})
    await say(alice, room_id, "for members")
    await put(alice, room_id, VISIBILITY, {"history_visibility": "shared"})
    await say(alice, room_id, "shared again")
    await enter(bob, room_id, ACME)
    await say(bob, room_id, "here I am")
    seen = bodies(await history(bob, room_id))
    assert seen == ["shared", "shared again", "here I am"]
    assert "for members" in bodies(await history(alice, room_id))


async def test_what_was_redacted_stays_so(alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="public_chat")
    event_id = await say(alice, room_id, "a secret")
    await alice.put("/v3/rooms/{}/redact/{}/{}", room_id, event_id, "r1", json={"reason": "x"})
    await enter(bob, room_id, ACME)
    [event] = [event for event in await history(bob, room_id) if event["event_id"] == event_id]
    assert event["content"] == {}


async def test_reactions_in_history_count(alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="public_chat")
    event_id = await say(alice, room_id, "lunch?")
    edit = {
        "msgtype": "m.text",
        "body": "* dinner?",
        "m.new_content": {"msgtype": "m.text", "body": "dinner?"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": event_id},
    }
    await alice.put("/v3/rooms/{}/send/{}/{}", room_id, MESSAGE, "edit", json=edit)
    await enter(bob, room_id, ACME)
    await history(bob, room_id)
    event = await bob.get("/v3/rooms/{}/event/{}", room_id, event_id)
    assert event["unsigned"]["m.relations"]["m.replace"]["content"]["body"] == "* dinner?"


async def test_an_event_near_a_time_is_found_elsewhere(alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="public_chat")
    first = await say(alice, room_id, "first")
    ts = (await alice.get("/v3/rooms/{}/event/{}", room_id, first))["origin_server_ts"]
    for number in range(10):
        await say(alice, room_id, f"{number}")
    await enter(bob, room_id, ACME)
    found = await bob.get("/v1/rooms/{}/timestamp_to_event", room_id, query={"ts": ts, "dir": "f"})
    assert found["event_id"] == first
    event = await bob.get("/v3/rooms/{}/event/{}", room_id, first)
    assert event["content"]["body"] == "first"
    assert bodies(await history(bob, room_id))[0] == "first"


async def test_made_up_history_is_not_believed(network: Network, alice: User, rooms: RoomPeer) -> None:
    mallory = rooms.user("mallory")
    room = rooms.create(mallory, "10")
    room.make(mallory, MESSAGE, {"msgtype": "m.text", "body": "true"})
    await enter(alice, room.room_id, PEER)
    other = rooms.create(mallory, "10").make(mallory)
    unrelated = room.build(mallory, MESSAGE, {"msgtype": "m.text", "body": "unrelated"}, prev=[other])
    forged = {**room.newest[0].json, "content": {"msgtype": "m.text", "body": "forged"}, "depth": 3}
    pdus = [other.json, unrelated.json, forged, "no event", None]
    rooms.lies["backfill"] = said({"origin": PEER, "origin_server_ts": 1, "pdus": pdus})
    assert bodies(await history(alice, room.room_id)) == []
    rooms.lies["backfill"] = said({"pdus": "none"})
    assert bodies(await history(alice, room.room_id)) == []
    await say(alice, room.room_id, "still here")
    assert bodies(await history(alice, room.room_id)) == ["still here"]


async def test_a_server_that_is_not_in_the_room_learns_nothing_of_it(
    network: Network, alice: User, rooms: RoomPeer
) -> None:
    room_id = await alice.create_room(preset="public_chat")
    event_id = await say(alice, room_id, "secret")
    targets = (
        f"event/{event_id}",
        f"state/{room_id}?event_id={event_id}",
        f"state_ids/{room_id}?event_id={event_id}",
        f"event_auth/{room_id}/{event_id}",
        f"backfill/{room_id}?v={event_id}&limit=10",
        f"timestamp_to_event/{room_id}?ts=0&dir=f",
    )
    for target in targets:
        answer = await network.peer.send(ACME, network.ports[ACME], "GET", f"/_matrix/federation/v1/{target}")
        assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN"), target
    body = {"earliest_events": [], "latest_events": [event_id]}
    target = f"/_matrix/federation/v1/get_missing_events/{room_id}"
    answer = await network.peer.send(ACME, network.ports[ACME], "POST", target, body)
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")


async def test_a_server_is_not_given_what_its_users_may_not_see(
    network: Network, alice: User, rooms: RoomPeer
) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await put(alice, room_id, VISIBILITY, {"history_visibility": "joined"})
    hidden = await say(alice, room_id, "for members")
    await rooms.join(ACME, room_id, rooms.user("bob"))
    shown = await say(alice, room_id, "for Bob too")
    answers = {}
    for event_id in (hidden, shown):
        target = f"/_matrix/federation/v1/event/{event_id}"
        answer = await network.peer.send(ACME, network.ports[ACME], "GET", target)
        answers[event_id] = answer.json["pdus"][0]["content"]
    assert answers == {hidden: {}, shown: {"msgtype": "m.text", "body": "for Bob too"}}
    target = f"/_matrix/federation/v1/backfill/{room_id}?v={shown}&limit=3"
    answer = await network.peer.send(ACME, network.ports[ACME], "GET", target)
    assert [pdu["content"] for pdu in answer.json["pdus"]] == [
        {"msgtype": "m.text", "body": "for Bob too"},
        {"membership": "join"},
        {},
    ]
    target = f"/_matrix/federation/v1/state_ids/{room_id}?event_id={hidden}"
    answer = await network.peer.send(ACME, network.ports[ACME], "GET", target)
    assert answer.status == 200  # the state is no secret: whoever joins without all of it has to ask for it


async def test_questions_about_events_are_answered(network: Network, alice: User, rooms: RoomPeer) -> None:
    room_id = await alice.create_room(preset="public_chat")
    room = await rooms.join(ACME, room_id, rooms.user("bob"))
    ids = [await say(alice, room_id, f"{number}") for number in range(5)]

    async def ask(target: str, body: dict[str, Any] | None = None) -> Any:
        method = "GET" if body is None else "POST"
        answer = await network.peer.send(
            ACME, network.ports[ACME], method, f"/_matrix/federation/v1/{target}", body
        )
        return answer.json

    state = await ask(f"state/{room_id}?event_id={ids[0]}")
    state_ids = await ask(f"state_ids/{room_id}?event_id={ids[0]}")
    assert len(state["pdus"]) == len(state_ids["pdu_ids"]) == len(room.state)
    assert {event.event_id for event in room.state.values()} == set(state_ids["pdu_ids"])
    assert len(state["auth_chain"]) == len(state_ids["auth_chain_ids"])
    create = next(pdu.event_id for pdu in room.state.values() if pdu.type == "m.room.create")
    power = next(pdu for pdu in room.state.values() if pdu.type == "m.room.power_levels")
    assert set(power.auth_events) <= set(state_ids["auth_chain_ids"])
    auth = await ask(f"event_auth/{room_id}/{ids[0]}")
    assert {pdu["type"] for pdu in auth["auth_chain"]} >= {"m.room.member", "m.room.power_levels"}
    page = await ask(f"backfill/{room_id}?v={ids[-1]}&limit=3")
    assert [pdu["content"]["body"] for pdu in page["pdus"]] == ["4", "3", "2"]
    missing = await ask(
        f"get_missing_events/{room_id}",
        {"earliest_events": [ids[0]], "latest_events": [ids[-1]], "limit": 10},
    )
    assert [pdu["content"]["body"] for pdu in missing["events"]] == ["1", "2", "3"]
    depth = missing["events"][1]["depth"]
    missing = await ask(
        f"get_missing_events/{room_id}",
        {"earliest_events": [], "latest_events": [ids[-1]], "limit": 10, "min_depth": depth},
    )
    assert [pdu["content"]["body"] for pdu in missing["events"]] == ["2", "3"]
    nearest = await ask(f"timestamp_to_event/{room_id}?ts=0&dir=f")
    assert nearest["event_id"] == create
    for target in (
        f"state/{room_id}",
        f"backfill/{room_id}?v={ids[0]}",
        f"timestamp_to_event/{room_id}?dir=f",
    ):
        assert (await ask(target))["errcode"] == "M_MISSING_PARAM"
    assert (await ask("event/$unknown"))["errcode"] == "M_NOT_FOUND"
    assert (await ask(f"state_ids/{room_id}?event_id=$unknown"))["errcode"] == "M_NOT_FOUND"


async def test_a_client_that_enters_is_told_that_there_is_more_before(alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await say(alice, room_id, "before")
    since = (await bob.get("/v3/sync"))["next_batch"]
    await enter(bob, room_id, ACME)
    for query in ({"since": since}, {}):
        timeline = (await bob.get("/v3/sync", query=query))["rooms"]["join"][room_id]["timeline"]
        assert timeline["limited"] is True
        page = await bob.get(
            "/v3/rooms/{}/messages", room_id, query={"dir": "b", "from": timeline["prev_batch"]}
        )
        assert page["chunk"][0]["content"]["body"] == "before"


async def test_what_happened_while_nobody_here_was_in_the_room_is_fetched(alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await enter(bob, room_id, ACME)
    await say(bob, room_id, "first stay")
    since = (await alice.sync())["next_batch"]
    await bob.leave(room_id)
    while bob.user_id in (await alice.get("/v3/rooms/{}/joined_members", room_id))["joined"]:
        since = (await alice.sync(since, timeout_ms=10_000))["next_batch"]
    for number in range(5):
        await say(alice, room_id, f"between {number}")
    await enter(bob, room_id, ACME)
    await say(bob, room_id, "second stay")
    expected = ["first stay", *(f"between {number}" for number in range(5)), "second stay"]
    assert bodies(await history(bob, room_id, limit=3)) == expected
