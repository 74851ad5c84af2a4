"""What a hostile server answers when a node asks it for what is missing.

The node asks no more than it should, believes none of it, and goes on meanwhile.
"""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio
from aiohttp import web

from federation.canonical import JsonObject
from federation.event import PDU
from federation.keys import SigningKey
from tests.api.client import User
from tests.server_server.conftest import Network
from tests.server_server.hostile import DEADLINE_S, Scene, forever, never, references
from tests.server_server.room_peer import Lie, RoomPeer, jsons, said

ASKED_MAX = 200
"""More requests than this, for the sake of one event, nobody is owed."""


@pytest_asyncio.fixture
async def scene(network: Network, rooms: RoomPeer, alice: User) -> Scene:
    return await Scene.made(network, rooms, alice)


def gap(scene: Scene, missing: int = 3) -> tuple[list[PDU], PDU]:
    """Messages that the node does not get, and one after them."""
    before, state = scene.room.newest, scene.room.state
    hidden = [scene.room.make(scene.mallory, content={"hidden": number}) for number in range(missing)]
    after = scene.room.make(scene.mallory, content={"after": missing})
    scene.room.newest, scene.room.state = before, state  # what comes later does not follow these
    return hidden, after


async def test_a_gap_is_filled_by_an_honest_server(scene: Scene) -> None:
    """The same set-up without a lie, so that the lies are known to be what the others fail by."""
    hidden, after = gap(scene)
    assert await scene.send(after) == {after.event_id: {}}
    await scene.seen(after.event_id)
    history = {event["event_id"] for event in await scene.alice.history(scene.room_id)}
    assert {event.event_id for event in hidden} <= history
    await scene.usable()


def in_part(hidden: list[PDU]) -> Lie:
    """Of what lies between, the last event only: the state after the one before it has to be asked for."""
    return said({"events": jsons(hidden[-1:])})


async def test_something_nested_deeply_in_an_answer_costs_nothing_but_itself(scene: Scene) -> None:
    """What a liar has got into a room elsewhere, honest servers pass on among all else."""
    deep: object = 1
    for _ in range(700):
        deep = [deep]
    hidden, after = gap(scene)
    scene.rooms.lies["get_missing_events"] = said({"events": [{"deep": deep}, *jsons(hidden)]})
    async with scene.worked_off():
        await scene.send(after)
    history = {event["event_id"] for event in await scene.alice.history(scene.room_id)}
    assert {event.event_id for event in (*hidden, after)} <= history
    await scene.usable()


@pytest.mark.parametrize("endpoint", ["get_missing_events", "state_ids", "event"])
async def test_an_answer_without_end_is_cut_off(scene: Scene, endpoint: str) -> None:
    hidden, after = gap(scene)
    scene.rooms.lies["get_missing_events"] = in_part(hidden)
    scene.rooms.lies["state_ids"] = said({"pdu_ids": references(3), "auth_chain_ids": []})
    ended = asyncio.Event()
    scene.rooms.lies[endpoint] = forever(b'"' + b"x" * 65_000 + b'",', ended)
    before = scene.network.acme.rss_bytes()
    await scene.send(after)
    async with asyncio.timeout(DEADLINE_S):
        await ended.wait()
    await scene.usable()
    await scene.unseen(*hidden[:-1])
    assert scene.network.acme.rss_bytes() - before < 200 * 1024 * 1024


@pytest.mark.parametrize("endpoint", ["get_missing_events", "state_ids"])
async def test_an_answer_that_does_not_come_holds_nobody_up(scene: Scene, endpoint: str) -> None:
    hidden, after = gap(scene)
    scene.rooms.lies["get_missing_events"] = in_part(hidden)
    asked, release = asyncio.Event(), asyncio.Event()
    scene.rooms.lies[endpoint] = never(asked, release)
    try:
        await scene.send(after)
        async with asyncio.timeout(DEADLINE_S):
            await asked.wait()
        await scene.usable()
    finally:
        release.set()
    await scene.usable()


NONSENSE: list[object] = [
    [], "events", {}, {"events": {}}, {"events": [None, 7, "x", [], {}]}, {"pdu_ids": "x"},
    {"pdu_ids": [7, None], "auth_chain_ids": [[]]}, {"pdus": "x"}, {"auth_chain": {}},
]  # fmt: skip


@pytest.mark.parametrize("json", NONSENSE, ids=range(len(NONSENSE)))
async def test_answers_that_are_nonsense_are_passed_over(scene: Scene, json: object) -> None:
    for name in ("get_missing_events", "state_ids", "state", "event", "event_auth", "backfill"):
        scene.rooms.lies[name] = said(json)
    hidden, after = gap(scene)
    await scene.send(after)
    await scene.was_asked("get_missing_events")
    await scene.usable()
    await scene.unseen(*hidden, after)

    hidden, after = gap(scene)
    scene.rooms.lies["get_missing_events"] = in_part(hidden)
    await scene.send(after)
    await scene.was_asked("state_ids")
    await scene.usable()
    await scene.unseen(*hidden[:-1])


async def test_a_state_of_thousands_that_nobody_has_is_not_gone_after_one_by_one(scene: Scene) -> None:
    hidden, after = gap(scene)
    scene.rooms.lies["get_missing_events"] = in_part(hidden)
    ids, chain_ids = references(5000), references(5000, 5000)
    scene.rooms.lies["state_ids"] = said({"pdu_ids": ids, "auth_chain_ids": chain_ids})
    scene.rooms.lies["state"] = said({"pdus": [{}] * 5000, "auth_chain": [None] * 5000})
    await scene.send(after)
    await scene.was_asked("state_ids", "state")
    await scene.usable()
    assert len(scene.rooms.asked) < ASKED_MAX


async def test_events_that_lead_ever_further_away_are_not_followed(scene: Scene) -> None:
    """Each answer holds an event that was not asked for, and names more that are missing."""
    count = 0

    async def ever_further(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal count
        count += 1
        more = scene.forged(content={"n": count}, prev_events=references(20, count * 1000))
        return web.json_response({"events": jsons([more])})

    scene.rooms.lies["get_missing_events"] = ever_further
    _, after = gap(scene)
    async with scene.worked_off():
        await scene.send(after)
    await scene.usable()
    assert len(scene.rooms.asked) < ASKED_MAX


async def test_the_same_events_again_and_again_are_no_progress(scene: Scene) -> None:
    hidden, after = gap(scene)
    scene.rooms.lies["get_missing_events"] = said({"events": jsons([after, *hidden[1:]] * 50)})
    scene.rooms.lies["state_ids"] = said({"pdu_ids": [after.event_id], "auth_chain_ids": [after.event_id]})
    await scene.send(after)
    await scene.was_asked("get_missing_events", "state_ids")
    await scene.usable()
    assert len(scene.rooms.asked) < ASKED_MAX


async def test_events_that_were_not_asked_for_or_are_forged_do_not_come_in_by_answers(scene: Scene) -> None:
    hidden, after = gap(scene)
    other = await scene.alice.create_room()
    forged = [
        scene.room.build(scene.mallory, content={"n": 1}, key=SigningKey.generate("unknown")),
        scene.forged(sender=scene.alice.user_id),
        scene.forged(room_id=other, content={"n": 2}),
        scene.forged(prev_events=references(1000)),
    ]
    scene.rooms.lies["get_missing_events"] = said({"events": jsons([*forged, *hidden])})
    async with scene.counted("BadSignature", 2), scene.counted("MalformedEvent", 2), scene.worked_off():
        await scene.send(after)
    await scene.usable()
    await scene.unseen(*forged)
    assert not any(event["type"] == "m.room.message" for event in await scene.alice.history(other))


async def test_a_state_that_seizes_the_room_is_not_believed(scene: Scene) -> None:
    """State told over a gap counts only as far as its events are allowed, and is resolved with ours."""
    old = scene.room.state[("m.room.power_levels", "")]
    users = {**old.content.get("users", {}), scene.mallory: 100}
    seized = scene.room.build(scene.mallory, "m.room.power_levels", {**old.content, "users": users}, "")
    banned = scene.room.build(
        scene.mallory, "m.room.member", {"membership": "ban"}, scene.alice.user_id, prev=[seized],
    )  # fmt: skip
    hidden, after = gap(scene)
    state = {
        **scene.room.state,
        ("m.room.power_levels", ""): seized,
        ("m.room.member", scene.alice.user_id): banned,
    }
    scene.room.events |= {each.event_id: each for each in (seized, banned)}
    scene.rooms.lies["get_missing_events"] = in_part(hidden)
    ids = [event.event_id for event in state.values()]
    chain = [event.event_id for event in scene.room.auth_chain(state.values())]
    scene.rooms.lies["state_ids"] = said({"pdu_ids": ids, "auth_chain_ids": chain})
    scene.rooms.lies["state"] = said(
        {"pdus": jsons(state.values()), "auth_chain": jsons(scene.room.auth_chain(state.values()))}
    )
    async with scene.worked_off():
        await scene.send(after)
    await scene.usable()
    levels = await scene.alice.state(scene.room_id, "m.room.power_levels")
    assert scene.mallory not in levels.get("users", {})
    members = await scene.alice.get("/v3/rooms/{}/joined_members", scene.room_id)
    assert scene.alice.user_id in members["joined"]


async def test_half_a_state_takes_nothing_from_the_room(scene: Scene) -> None:
    """A state that leaves out who is in the room, and who may do what, does not make the room forget it."""
    hidden, after = gap(scene)
    create = scene.room.state[("m.room.create", "")]
    member = scene.room.state[("m.room.member", scene.mallory)]
    scene.rooms.lies["get_missing_events"] = in_part(hidden)
    half = [create.event_id, member.event_id]
    scene.rooms.lies["state_ids"] = said({"pdu_ids": half, "auth_chain_ids": []})
    scene.rooms.lies["state"] = said({"pdus": jsons([create, member]), "auth_chain": []})
    before = await scene.alice.state(scene.room_id, "m.room.power_levels")
    async with scene.worked_off():
        await scene.send(after)
    await scene.usable()
    assert await scene.alice.state(scene.room_id, "m.room.power_levels") == before
    members = await scene.alice.get("/v3/rooms/{}/joined_members", scene.room_id)
    assert set(members["joined"]) == {scene.alice.user_id, scene.mallory}


async def test_auth_events_that_are_missing_are_not_made_up_by_a_lying_chain(scene: Scene) -> None:
    old = scene.room.state[("m.room.power_levels", "")]
    member = scene.room.state[("m.room.member", scene.mallory)]
    users = {**old.content.get("users", {}), scene.mallory: 100}
    power = scene.room.build(scene.mallory, "m.room.power_levels", {**old.content, "users": users}, "")
    topic = scene.room.build(scene.mallory, "m.room.topic", {"topic": "Mine"}, "", auth=[power, member])
    unsigned = scene.room.altered(power, signatures={})
    for chain in ([], [power], [unsigned], [topic, power], [power] * 1000):
        scene.rooms.lies["event_auth"] = said({"auth_chain": jsons(chain)})
        scene.rooms.lies["event"] = said({"pdus": jsons(chain[:1])})
        scene.rooms.asked.clear()
        await scene.send(topic)
        if power not in chain:
            await scene.was_asked("event_auth", "event")
    await scene.usable()
    await scene.unseen(topic, power)


async def test_keys_that_are_not_the_servers_own_are_not_believed(scene: Scene) -> None:
    """A key that stands in the server's document, which is not signed as it stands."""
    peer = scene.rooms.peer
    honest = peer.document
    forged = SigningKey.generate("forged")
    listed = {**honest["verify_keys"], forged.key_id: {"key": forged.verify_key_base64}}
    peer.document = {**honest, "verify_keys": listed}
    try:
        async with scene.counted("BadSignature", 2):
            await scene.refused(
                *(scene.room.build(scene.mallory, content={"n": n}, key=forged) for n in range(2))
            )
    finally:
        peer.document = honest
    await scene.usable()


async def test_a_device_whose_keys_cannot_be_written_hides_no_other(scene: Scene) -> None:
    deep: object = 1
    for _ in range(300):
        deep = [deep]

    def keys(device_id: str, **more: object) -> JsonObject:
        return {
            "user_id": scene.mallory,
            "device_id": device_id,
            "algorithms": ["m.megolm.v1.aes-sha2"],
            "keys": {f"ed25519:{device_id}": "A" * 43},
            "signatures": {scene.mallory: {f"ed25519:{device_id}": "A" * 86}},
            **more,
        }

    devices = [keys("DEEP", deep=deep), keys("FLAT")]

    async def told(request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/user/keys/query"):
            by_id = {each["device_id"]: each for each in devices}
            return web.json_response({"device_keys": {scene.mallory: by_id}})
        listed = [{"device_id": each["device_id"], "keys": each} for each in devices]
        return web.json_response({"user_id": scene.mallory, "stream_id": 1, "devices": listed})

    scene.rooms.lies["user"] = told
    answer = await scene.alice.post("/v3/keys/query", json={"device_keys": {scene.mallory: []}})
    assert list(answer["device_keys"][scene.mallory]) == ["FLAT"]
    await scene.usable()
