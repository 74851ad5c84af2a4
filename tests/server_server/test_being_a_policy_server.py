"""A node as the policy server of rooms that chose it: of its own users and of other servers."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from federation.canonical import JsonObject
from tests.api.client import User, refused, timeline_of
from tests.server_server.conftest import ACME, GLOBEX, Network
from tests.server_server.peer import Answer
from tests.server_server.room_peer import RoomPeer

SIGN = "/_matrix/policy/v1/sign"
POLICY = "m.room.policy"


async def chosen(network: Network) -> JsonObject:
    """What a room's state names Globex' node by, as clients find it."""
    keys = await network.globex_api.get("/.well-known/matrix/policy_server")
    return {"via": GLOBEX, **keys}


@pytest_asyncio.fixture
async def room_id(network: Network, alice: User, bob: User) -> str:
    """A room of Acme's that Bob is in, and whose policy server Globex is."""
    room_id = await alice.create_room()
    await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})
    since = (await bob.sync())["next_batch"]
    policy = await alice.set_state(room_id, POLICY, await chosen(network))
    seen: list[str] = []
    async with asyncio.timeout(20):
        while policy not in seen:  # until then, Globex does not know that it is asked for anything
            sync = await bob.sync(since, timeout_ms=5000)
            seen += [event["event_id"] for event in timeline_of(sync, room_id)]
            since = sync["next_batch"]
    return room_id


async def sign(network: Network, server: str, event: JsonObject) -> Answer:
    """The peer asks a node to sign an event."""
    return await network.peer.send(server, network.ports[server], "POST", SIGN, event)


async def test_its_rules_hold_for_other_servers_users(network: Network, alice: User, room_id: str) -> None:
    await alice.send(room_id, "What about lunch?")
    with refused(400, "M_FORBIDDEN") as caught:
        await alice.send(room_id, "You have won the Lottery!")
    assert "words" in caught.value.json["error"]
    await alice.send(room_id, "lotteryticket is another word")
    users = [f"@u{number}:{ACME}" for number in range(4)]
    with refused(400, "M_FORBIDDEN"):
        await alice.send(
            room_id, {"msgtype": "m.text", "body": "all of you", "m.mentions": {"user_ids": users}}
        )
    with refused(400, "M_FORBIDDEN"):
        await alice.set_state(room_id, "m.room.topic", {"topic": "lottery"})


async def test_its_rules_hold_for_its_own_users(network: Network, alice: User, bob: User) -> None:
    room_id = await bob.create_room()
    await bob.set_state(room_id, POLICY, await chosen(network))
    await bob.send(room_id, "hello")
    with refused(400, "M_FORBIDDEN"):
        await bob.send(room_id, "a lottery")
    await alice.post("/v3/join/{}", room_id, query={"via": [GLOBEX]})
    history = await alice.history(room_id)
    assert [event["content"]["body"] for event in history if event["type"] == "m.room.message"] == ["hello"]


async def test_it_signs_for_rooms_that_chose_it_and_for_no_other(
    network: Network, rooms: RoomPeer, alice: User, room_id: str
) -> None:
    room = await rooms.join(ACME, room_id, rooms.user("carol"))
    message = room.build(rooms.user("carol"), "m.room.message", {"msgtype": "m.text", "body": "hello"})
    answer = await sign(network, GLOBEX, message.json)
    assert list(answer.json) == [GLOBEX] and list(answer.json[GLOBEX]) == ["ed25519:policy_server"]
    message = room.build(rooms.user("carol"), "m.room.message", {"msgtype": "m.text", "body": "lottery"})
    answer = await sign(network, GLOBEX, message.json)
    assert (answer.status, answer.errcode) == (400, "M_FORBIDDEN")
    answer = await sign(network, GLOBEX, {**message.json, "room_id": "!other:peer.test"})
    assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")
    answer = await sign(network, ACME, message.json)
    assert (answer.status, answer.errcode) == (404, "M_UNRECOGNIZED")


@pytest.mark.parametrize("field", ["type", "content", "signatures", "auth_events"])
async def test_what_is_no_event_of_the_room_is_refused(
    network: Network, rooms: RoomPeer, alice: User, room_id: str, field: str
) -> None:
    room = await rooms.join(ACME, room_id, rooms.user("carol"))
    event = dict(room.build(rooms.user("carol"), "m.room.message", {"body": "hello"}).json)
    del event[field]
    answer = await sign(network, GLOBEX, event)
    assert (answer.status, answer.errcode) == (400, "M_BAD_JSON")


async def test_m_room_policy_itself_is_not_signed(network: Network, rooms: RoomPeer, room_id: str) -> None:
    room = await rooms.join(ACME, room_id, rooms.user("carol"))
    event = room.build(rooms.user("carol"), POLICY, {}, "")
    answer = await sign(network, GLOBEX, event.json)
    assert (answer.status, answer.errcode) == (400, "M_FORBIDDEN")


async def test_a_server_without_policy_says_so(network: Network) -> None:
    with refused(404, "M_NOT_FOUND"):
        await network.acme_api.get("/.well-known/matrix/policy_server")
