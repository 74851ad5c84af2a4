"""Servers that lie to whom they let in: nothing of it is believed, and the node goes on as before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from federation.event import PDU
from federation.keys import SigningKey
from tests.api.client import User, refused
from tests.server_server.conftest import ACME, PEER, Network
from tests.server_server.peer_room import MEMBER, PeerRoom
from tests.server_server.room_peer import Lie, RoomPeer, jsons, said


async def join(user: User, room: PeerRoom) -> Any:
    return await user.post("/v3/join/{}", room.room_id, query={"via": [PEER]})


def answering(change: Callable[[PeerRoom, PDU, dict[str, Any]], None], room: PeerRoom) -> Lie:
    """An answer to ``send_join`` that ``change`` has made wrong."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        state = list(room.state.values())
        sent = room.hear(orjson.loads(await request.read()))
        true = {
            "event": sent.json,
            "state": jsons(state),
            "auth_chain": jsons(room.auth_chain([*state, sent])),
        }
        change(room, sent, true)
        return web.json_response(true)

    return answer


def no_create(room: PeerRoom, sent: PDU, answer: dict[str, Any]) -> None:
    answer["state"] = [event for event in answer["state"] if event["type"] != "m.room.create"]
    answer["auth_chain"] = [event for event in answer["auth_chain"] if event["type"] != "m.room.create"]


def half_a_state(room: PeerRoom, sent: PDU, answer: dict[str, Any]) -> None:
    answer["state"] = answer["state"][:1]


def no_join_rules(room: PeerRoom, sent: PDU, answer: dict[str, Any]) -> None:
    answer["state"] = [event for event in answer["state"] if event["type"] != "m.room.join_rules"]


def no_auth_chain(room: PeerRoom, sent: PDU, answer: dict[str, Any]) -> None:
    # two events that the auth chain alone would bring
    kept = ("m.room.create", "m.room.join_rules")
    answer["state"] = [event for event in answer["state"] if event["type"] in kept]
    answer["auth_chain"] = []


def another_room(room: PeerRoom, sent: PDU, answer: dict[str, Any]) -> None:
    other = PeerRoom.create(room.server_name, room.key, f"@other:{PEER}", room.version.id)
    answer["state"] = jsons(other.state.values())
    answer["auth_chain"] = jsons(other.auth_chain(other.state.values()))


def forged_signatures(room: PeerRoom, sent: PDU, answer: dict[str, Any]) -> None:
    stranger = SigningKey.generate(room.key.version)
    member = room.build(f"@mallory:{PEER}", MEMBER, {"membership": "join"}, f"@mallory:{PEER}", key=stranger)
    creator = next(event for event in answer["state"] if event["type"] == "m.room.create")["sender"]
    rest = [event for event in answer["state"] if event.get("state_key") != creator]
    answer["state"] = [*rest, member.json]
    answer["auth_chain"] = [event for event in answer["auth_chain"] if event.get("state_key") != creator]


def another_event(room: PeerRoom, sent: PDU, answer: dict[str, Any]) -> None:
    answer["event"] = room.state[MEMBER, room.newest[0].sender].json | {"origin_server_ts": 1}


def two_of_a_key(room: PeerRoom, sent: PDU, answer: dict[str, Any]) -> None:
    creator = next(event for event in answer["state"] if event["type"] == "m.room.create")["sender"]
    topics = [room.build(creator, "m.room.topic", {"topic": text}, "") for text in ("yes", "no")]
    answer["state"] += jsons(topics)


def messages_as_state(room: PeerRoom, sent: PDU, answer: dict[str, Any]) -> None:
    creator = next(event for event in answer["state"] if event["type"] == "m.room.create")["sender"]
    answer["state"].append(room.build(creator).json)


def no_lists(room: PeerRoom, sent: PDU, answer: dict[str, Any]) -> None:
    answer["state"] = {"m.room.create": {}}


def garbage(room: PeerRoom, sent: PDU, answer: dict[str, Any]) -> None:
    answer["state"] = [None, 7, [], {"type": "m.room.create"}, "x" * 100_000]
    answer["auth_chain"] = [{}] * 100


def nobody_of_the_resident(room: PeerRoom, sent: PDU, answer: dict[str, Any]) -> None:
    answer["state"] = [event for event in answer["state"] if event["type"] != MEMBER]


async def test_state_that_cannot_be_stored_is_left_out(rooms: RoomPeer, bob: User) -> None:
    def with_nul(room: PeerRoom, sent: PDU, answer: dict[str, Any]) -> None:
        host = rooms.user("mallory")
        nobody = f"@no\0body:{PEER}"
        answer["state"] += jsons(
            [
                room.build(host, MEMBER, {"membership": "invite"}, nobody),
                room.build(host, "m.\0.type", {"topic": "x"}, ""),
            ]
        )

    room = rooms.create(rooms.user("mallory"))
    rooms.lies["send_join"] = answering(with_nul, room)
    await join(bob, room)
    state = await bob.get("/v3/rooms/{}/state", room.room_id)
    assert not [event for event in state if "\0" in event["type"] + event["state_key"]]
    await bob.send(room.room_id, "hello")


@pytest.mark.parametrize("version", ["6", "12"])
@pytest.mark.parametrize(
    "change",
    [
        no_create,
        half_a_state,
        no_join_rules,
        no_auth_chain,
        another_room,
        forged_signatures,
        another_event,
        two_of_a_key,
        messages_as_state,
        no_lists,
        garbage,
        nobody_of_the_resident,
    ],
)
async def test_an_answer_that_cannot_be_right_is_not_believed(
    rooms: RoomPeer, bob: User, version: str, change: Callable[..., None]
) -> None:
    room = rooms.create(rooms.user("mallory"), version)
    rooms.lies["send_join"] = answering(change, room)
    with refused(502, "M_UNKNOWN"):
        await join(bob, room)
    assert room.room_id not in (await bob.sync()).get("rooms", {}).get("join", {})
    with refused(403, "M_FORBIDDEN"):
        await bob.send(room.room_id, "hello")
    del rooms.lies["send_join"]
    await join(bob, room)  # the same room, told truly
    assert room.room_id in (await bob.sync())["rooms"]["join"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("room_id", "!other:peer.test"),
        ("type", "m.room.topic"),
        ("state_key", "@mallory:peer.test"),
        ("sender", "@mallory:peer.test"),
        ("content", {"membership": "ban"}),
        ("content", None),
        ("depth", "deep"),
        ("depth", -1),
        ("prev_events", None),
        ("prev_events", ["$" + "x" * 43] * 30),
        ("auth_events", [["$x", {}]]),
        ("auth_events", [{"sha256": "x"}]),
    ],
)
async def test_a_template_for_something_else_is_not_signed(
    rooms: RoomPeer, bob: User, field: str, value: object
) -> None:
    room = rooms.create(rooms.user("mallory"))
    event = room.build(bob.user_id, MEMBER, {"membership": "join"}, bob.user_id).json
    rooms.lies["make_join"] = said({"room_version": "12", "event": {**event, field: value}})
    with refused(502, "M_UNKNOWN"):
        await join(bob, room)
    assert "send_join" not in rooms.asked


@pytest.mark.parametrize(
    "answer", [{}, {"room_version": "99", "event": {}}, {"room_version": [], "event": 1}]
)
async def test_a_template_that_is_none_is_refused(rooms: RoomPeer, bob: User, answer: object) -> None:
    room = rooms.create(rooms.user("mallory"))
    rooms.lies["make_join"] = said(answer)
    with refused(502, "M_UNKNOWN"):
        await join(bob, room)


async def test_refusals_of_the_resident_reach_the_client(rooms: RoomPeer, bob: User) -> None:
    room = rooms.create(rooms.user("alice"))

    def refusing(status: int, **error: object) -> Lie:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return web.json_response(error, status=status)

        return answer

    rooms.lies["make_join"] = refusing(403, errcode="M_FORBIDDEN", error="Not in those shoes")
    with refused(403, "M_FORBIDDEN") as caught:
        await join(bob, room)
    assert caught.value.json["error"] == "Not in those shoes"
    rooms.lies["make_join"] = refusing(
        400, errcode="M_INCOMPATIBLE_ROOM_VERSION", error="No", room_version="99"
    )
    with refused(400, "M_INCOMPATIBLE_ROOM_VERSION") as caught:
        await join(bob, room)
    assert caught.value.json["room_version"] == "99"
    rooms.lies["make_join"] = refusing(404, errcode="M_NOT_FOUND", error="No such room")
    with refused(404, "M_NOT_FOUND"):
        await join(bob, room)
    # "the Client-Server API request SHOULD fail with a 5xx error rather than being passed through"
    rooms.lies["make_join"] = refusing(400, errcode="M_INVALID_PARAM", error="What?")
    with refused(502, "M_UNKNOWN"):
        await join(bob, room)
    rooms.lies["make_join"] = refusing(500, errcode="M_UNKNOWN", error="Oh")
    with refused(502, "M_UNKNOWN"):
        await join(bob, room)


async def test_the_next_server_is_asked_when_one_fails(
    network: Network, rooms: RoomPeer, alice: User, bob: User
) -> None:
    room_id = await alice.create_room()
    rooms.lies["make_join"] = said({"room_version": "12", "event": {}})
    answer = await bob.post("/v3/join/{}", room_id, query={"via": [PEER, "not a name", ACME]})
    assert answer == {"room_id": room_id}
    assert rooms.asked == ["make_join"]


async def test_a_node_that_is_killed_while_it_joins_has_nothing_of_the_room_and_joins_again(
    network: Network, rooms: RoomPeer, bob: User
) -> None:
    room = rooms.create(rooms.user("alice"))
    asked = asyncio.Event()

    async def never(request: web.BaseRequest) -> web.StreamResponse:
        room.hear(orjson.loads(await request.read()))  # for the other server, Bob is in the room
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    rooms.lies["send_join"] = never
    joining = asyncio.create_task(join(bob, room))
    await asked.wait()
    await network.globex.kill()
    with pytest.raises(aiohttp.ClientError):
        await joining
    del rooms.lies["send_join"]
    await network.globex.start()
    assert room.room_id not in (await bob.sync()).get("rooms", {}).get("join", {})
    await join(bob, room)
    assert room.room_id in (await bob.sync())["rooms"]["join"]
