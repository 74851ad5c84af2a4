"""Events that a hostile server sends: none of them hurts the node, the room, or the events beside it."""

from __future__ import annotations

from urllib.parse import quote

import pytest
import pytest_asyncio

from federation.canonical import INTEGER_MAX, JsonObject
from federation.event import PDU, parse_pdu
from federation.event_format import EVENT_LEVELS_MAX
from federation.keys import SigningKey
from federation.signing import hash_and_sign_event
from tests.api.client import User
from tests.server_server.conftest import ACME, GLOBEX, Network
from tests.server_server.hostile import Scene, references, unknown_id
from tests.server_server.room_peer import V1, V2, RoomPeer

PDUS_MAX = 50


@pytest_asyncio.fixture
async def scene(network: Network, rooms: RoomPeer, alice: User) -> Scene:
    return await Scene.made(network, rooms, alice)


async def test_an_event_whose_hash_is_wrong_is_shown_redacted(scene: Scene) -> None:
    event = scene.room.build(scene.mallory, content={"msgtype": "m.text", "body": "The price is 10"})
    forged = scene.room.altered(event, content={"msgtype": "m.text", "body": "The price is 1000"})
    assert forged.event_id == event.event_id  # the ID covers the hash, not the content
    await scene.send(forged)
    assert (await scene.seen(event.event_id))["content"] == {}
    await scene.usable()


async def test_forged_signatures_are_refused(scene: Scene) -> None:
    event = scene.room.build(scene.mallory)
    own_key = scene.room.key
    same_name = SigningKey.generate(own_key.version)
    theirs = f"@bob:{GLOBEX}"
    async with scene.counted("BadSignature", 6):
        await scene.refused(
            scene.room.build(scene.mallory, content={"n": 1}, key=same_name),
            scene.room.build(scene.mallory, content={"n": 2}, key=SigningKey.generate("unknown")),
            scene.room.altered(scene.room.build(scene.mallory, content={"n": 3}), signatures={}),
            scene.room.altered(scene.room.build(scene.mallory, content={"n": 4}), depth=event.depth + 1),
            # signed by the liar's server, in the name of others
            scene.forged(sender=scene.alice.user_id),
            scene.forged(sender=theirs),
        )
    await scene.usable()


async def test_events_of_another_room_are_refused(scene: Scene, alice: User) -> None:
    other = await alice.create_room()
    secret = await alice.create_room(preset="private_chat")
    strays = [scene.forged(room_id=other), scene.forged(room_id=secret)]
    await scene.send(*strays)  # they refer to events that are not of those rooms
    # what another room's events allow does not count here
    own = scene.rooms.create(scene.mallory)
    power = own.state[("m.room.power_levels", "")]
    member = own.state[("m.room.member", scene.mallory)]
    strays.append(scene.room.build(scene.mallory, content={"n": 1}, auth=[power, member]))
    await scene.send(strays[-1])
    await scene.was_asked("event_auth", "event")
    await scene.usable()
    await scene.unseen(*strays)
    for room_id in (other, secret):
        there = [event["event_id"] for event in await alice.history(room_id)]
        assert not {stray.event_id for stray in strays} & set(there)
        await alice.send(room_id, "Nobody has disturbed us")


async def test_the_greatest_depth_ends_no_room(scene: Scene) -> None:
    deepest = scene.room.build(scene.mallory, content={"depth": "greatest"}, depth=INTEGER_MAX)
    assert await scene.send(deepest) == {deepest.event_id: {}}
    scene.room.add(deepest)
    await scene.seen(deepest.event_id)
    said = await scene.alice.send(scene.room_id, "We go on")
    await scene.seen(said)
    # others cap the depth as well
    after = scene.room.build(scene.mallory, content={"n": 2}, depth=INTEGER_MAX)
    assert await scene.send(after) == {after.event_id: {}}
    await scene.seen(after.event_id)
    history = await scene.alice.history(scene.room_id)
    assert {deepest.event_id, said, after.event_id} <= {event["event_id"] for event in history}


@pytest.mark.parametrize("depth", [-1, INTEGER_MAX + 1, "1", None, True, 1.5])
async def test_a_depth_that_is_none_is_refused(scene: Scene, depth: object) -> None:
    event = scene.room.build(scene.mallory).json
    answer = await scene.rooms.transmit(ACME, {**event, "depth": depth})
    # floats and such integers are no canonical JSON: the request itself may be refused
    assert answer.status == 400 or not any(result == {} for result in answer.json["pdus"].values())
    await scene.usable()


async def test_thousands_of_references_are_refused(scene: Scene) -> None:
    async with scene.counted("MalformedEvent", 2):
        await scene.refused(
            scene.forged(prev_events=references(1200, 0)),
            scene.forged(auth_events=references(1200, 5000)),
            scene.forged(prev_events=references(21, 0)),
            scene.forged(auth_events=references(11, 0)),
        )
    await scene.usable()


async def test_references_that_are_none_are_refused(scene: Scene) -> None:
    event = scene.room.build(scene.mallory).json
    broken: list[object] = [None, "", {}, [None], [{}], [["$a", {}]], ["x" * 300]]
    for prev_events in broken:
        assert not any(r == {} for r in (await scene.send({**event, "prev_events": prev_events})).values())
    await scene.usable()


async def test_fields_of_the_wrong_kind_are_refused(scene: Scene) -> None:
    event = scene.room.build(scene.mallory).json
    nonsense: list[object] = [None, 7, [], {}, "", True]
    for name in ("type", "sender", "content", "origin_server_ts", "hashes", "signatures", "auth_events"):
        for value in nonsense:
            if type(value) is type(event[name]):
                continue
            results = await scene.send({**event, name: value})
            assert not any(result == {} for result in results.values()), (name, value, results)
    for whole in ([], "event", 7, None, {}):
        await scene.send(whole)  # type: ignore[arg-type]
    await scene.usable()


async def test_an_event_of_more_than_64_kib_is_refused_and_the_one_beside_it_is_not(scene: Scene) -> None:
    large = scene.forged(content={"msgtype": "m.text", "body": "x" * 66_000})
    wide = scene.forged(type="t" * 256)
    beside = scene.room.build(scene.mallory, content={"msgtype": "m.text", "body": "small"})
    async with scene.counted("EventTooLarge", 2):
        results = await scene.send(large, beside, wide)
    assert results[large.event_id]["error"] and results[wide.event_id]["error"]
    assert results[beside.event_id] == {}
    scene.room.add(beside)
    await scene.seen(beside.event_id)
    await scene.unseen(large, wide)
    await scene.usable()


async def test_as_many_large_events_as_are_allowed_come_through(scene: Scene) -> None:
    events = [
        scene.room.make(scene.mallory, content={"msgtype": "m.text", "body": f"{number}" + "x" * 64_000})
        for number in range(PDUS_MAX)
    ]
    assert await scene.send(*events) == {event.event_id: {} for event in events}
    await scene.seen(events[-1].event_id)
    await scene.usable()


async def test_a_transaction_over_the_limits_is_refused_whole(scene: Scene) -> None:
    events = [scene.room.build(scene.mallory, content={"n": number}) for number in range(PDUS_MAX + 1)]
    answer = await scene.rooms.transmit(ACME, *events)
    assert answer.status == 400, answer
    edus: list[JsonObject] = [{"edu_type": "m.nothing", "content": {}}] * 101
    answer = await scene.rooms.transmit(ACME, edus=edus)
    assert answer.status == 400, answer
    await scene.unseen(*events[:2])

    peer, port = scene.rooms.peer, scene.network.ports[ACME]
    body = b'{"pdus": [], "edus": [], "padding": "' + b"x" * 20_000_000 + b'"}'
    answer = await peer.send(ACME, port, "PUT", f"{V1}/send/large", {}, body=body)
    assert (answer.status, answer.errcode) == (413, "M_TOO_LARGE")
    await scene.usable()


async def test_json_that_is_nested_deeply_is_refused(scene: Scene) -> None:
    peer, port = scene.rooms.peer, scene.network.ports[ACME]
    for open_, close in ((b"[", b"]"), (b'{"a":', b"}")):
        nested = open_ * 100_000 + b"1" + close * 100_000
        for body in (nested, b'{"pdus": [' + nested + b"]}", b'{"edus": ' + nested + b"}"):
            answer = await peer.send(ACME, port, "PUT", f"{V1}/send/deep", {}, body=body)
            assert answer.status in (400, 401), answer
    await scene.usable()


def nested(levels: int) -> JsonObject:
    content: JsonObject = {}
    for _ in range(levels):
        content = {"a": content}
    return content


async def test_an_event_that_is_nested_too_deeply_is_refused_and_another_is_not(scene: Scene) -> None:
    deep = [scene.room.build(scene.mallory, content=nested(levels)) for levels in (200, 300, 500)]
    readable = scene.room.make(scene.mallory, content=nested(EVENT_LEVELS_MAX - 10))
    async with scene.counted("MalformedEvent", len(deep)):
        results = await scene.send(*deep, readable)
    assert results[readable.event_id] == {}
    assert all(results[event.event_id]["error"] for event in deep)
    assert (await scene.seen(readable.event_id))["content"] == readable.content
    assert readable.event_id in {event["event_id"] for event in await scene.alice.history(scene.room_id)}
    # as state, which is read in more ways
    member = {"membership": "join", "deep": nested(EVENT_LEVELS_MAX - 10)}
    changed = scene.room.make(scene.mallory, "m.room.member", member, scene.mallory)
    assert await scene.send(changed) == {changed.event_id: {}}
    assert (await scene.alice.state(scene.room_id, "m.room.member", scene.mallory)) == member
    await scene.usable()


async def test_one_bad_event_harms_none_beside_it(scene: Scene) -> None:
    good = [scene.room.make(scene.mallory, content={"n": number}) for number in range(5)]
    bad = [
        scene.room.build(scene.mallory, content={"bad": number}, key=SigningKey.generate("unknown"))
        for number in range(5)
    ]
    mixed = [event for pair in zip(bad, good, strict=True) for event in pair]
    results = await scene.send(*mixed, {"no": "event"})
    assert all(results[event.event_id] == {} for event in good), results
    assert all(results[event.event_id].get("error") for event in bad), results
    await scene.seen(good[-1].event_id)
    await scene.unseen(*bad)
    await scene.usable()


async def test_power_that_nobody_gave_moves_nothing(scene: Scene) -> None:
    old = scene.room.state[("m.room.power_levels", "")]
    content = {**old.content, "users": {**old.content.get("users", {}), scene.mallory: 100}}
    seized = scene.room.build(scene.mallory, "m.room.power_levels", content, "")
    member = scene.room.state[("m.room.member", scene.mallory)]
    create = scene.room.state[("m.room.create", "")]
    auth = [seized, member] if scene.room.version.room_id_is_create_hash else [create, seized, member]
    topic = scene.room.build(scene.mallory, "m.room.topic", {"topic": "Mine"}, "", prev=[seized], auth=auth)
    await scene.send(seized, topic)
    assert scene.mallory not in (await scene.alice.state(scene.room_id, "m.room.power_levels")).get(
        "users", {}
    )
    await scene.unseen(seized, topic)
    await scene.usable()


async def test_auth_events_that_are_not_those_of_the_event_are_refused(scene: Scene) -> None:
    state = scene.room.state
    member, power = state[("m.room.member", scene.mallory)], state[("m.room.power_levels", "")]
    rules = state[("m.room.join_rules", "")]
    of_alice = state[("m.room.member", scene.alice.user_id)]
    wrong = [
        [],  # no permission at all
        [power],  # no membership
        [member, power, rules],  # one that says nothing about a message
        [member, power, of_alice],
        [member, member, power],
    ]
    events = [
        scene.room.build(scene.mallory, content={"n": number}, auth=auth) for number, auth in enumerate(wrong)
    ]
    async with scene.came_to("rejected", len(events)):
        await scene.send(*events)
    await scene.unseen(*events)
    await scene.usable()


async def test_events_in_a_circle_are_refused(network: Network, rooms: RoomPeer, alice: User) -> None:
    """Only where servers choose the IDs of events can two of them refer to each other."""
    mallory = rooms.user("mallory")
    room = await rooms.join(ACME, await alice.create_room(room_version="1"), mallory)
    scene = Scene(network, rooms, alice, room, mallory)
    names = [f"$circle-{letter}-{scene.room_id[1:8]}:{room.server_name}" for letter in "abc"]

    def circular(number: int, **more: object) -> PDU:
        json = {**room.build(mallory, content={"n": number}).json, **more, "event_id": names[number]}
        for field in ("hashes", "signatures"):
            del json[field]
        signed = hash_and_sign_event(json, room.version, room.server_name, room.key)
        return parse_pdu(signed, room.version)

    def after(name: str) -> list[object]:
        return [[name, {"sha256": "A" * 43}]]

    by_prev = [circular(n, prev_events=after(names[(n + 1) % 3])) for n in range(3)]
    room.events |= {event.event_id: event for event in by_prev}
    await scene.send(*by_prev)
    by_auth = [circular(n, auth_events=after(names[(n + 1) % 3])) for n in range(3)]
    await scene.send(*by_auth)
    itself = circular(0, prev_events=after(names[0]), auth_events=after(names[0]))
    await scene.send(itself)
    await scene.unseen(*by_prev)
    await scene.usable()


async def test_events_of_rooms_that_nobody_here_is_in_are_refused(scene: Scene) -> None:
    own = scene.rooms.create(scene.mallory)
    event = own.build(scene.mallory)
    results = await scene.send(event)
    assert results[event.event_id]["error"]
    left = await scene.alice.create_room()
    room = await scene.rooms.join(ACME, left, scene.mallory)
    await scene.alice.leave(left)
    event = room.build(scene.mallory)
    assert (await scene.send(event))[event.event_id]["error"]
    await scene.usable()


async def test_a_reference_to_what_nobody_has_is_given_up(scene: Scene) -> None:
    lost = scene.forged(prev_events=[unknown_id(1)])
    async with scene.came_to("given_up"), scene.worked_off():
        await scene.send(lost)
    await scene.usable()
    await scene.unseen(lost)


async def test_what_is_no_event_and_nested_too_deeply_is_passed_over(scene: Scene, network: Network) -> None:
    line = 'federation_edus_received_total{outcome="malformed"}'
    before, deep = await scene.metric(line), nested(300)
    to_alice = {scene.alice.user_id: {scene.alice.device_id: deep}}
    message = {"sender": scene.mallory, "type": "test.deep", "message_id": "1", "messages": to_alice}
    device = {"user_id": scene.mallory, "device_id": "D", "stream_id": 1, "prev_id": [], "keys": deep}
    master = {"user_id": scene.mallory, "usage": ["master"], "keys": {"ed25519:A": "A"}, "deep": deep}
    edus: list[JsonObject] = [
        {"edu_type": "m.direct_to_device", "content": message},
        {"edu_type": "m.device_list_update", "content": device},
        {"edu_type": "m.signing_key_update", "content": {"user_id": scene.mallory, "master_key": master}},
    ]
    answer = await scene.rooms.transmit(ACME, edus=edus)
    assert answer.status == 200
    assert await scene.metric(line) - before == len(edus)
    await scene.usable()

    room = scene.rooms.create(scene.mallory)
    invite = room.build(scene.mallory, "m.room.member", {"membership": "invite"}, scene.alice.user_id)
    shown = [{**event.json, "content": {**event.content, "deep": deep}} for event in room.state.values()]
    body = {"room_version": room.version.id, "event": invite.json, "invite_room_state": shown}
    target = f"{V2}/invite/{quote(room.room_id)}/{quote(invite.event_id)}"
    answer = await scene.rooms.peer.send(ACME, network.ports[ACME], "PUT", target, body)
    assert answer.status == 400
    await scene.usable()
