"""More of what a lying resident answers to a join: half a state, forged events, answers without end.

`test_hostile_residents` has the answers that are wrong in themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import orjson
import pytest
from aiohttp import web

from federation.canonical import JsonObject
from federation.event import PDU
from federation.keys import SigningKey
from tests.api.client import Refused, User
from tests.server_server.conftest import PEER, Network
from tests.server_server.hostile import DEADLINE_S, forever
from tests.server_server.peer_room import MEMBER, PeerRoom
from tests.server_server.room_peer import Lie, RoomPeer, jsons

POWER, RULES, CREATE = "m.room.power_levels", "m.room.join_rules", "m.room.create"
MEMORY_MAX = 400 * 1024 * 1024
Twist = Callable[[PeerRoom, JsonObject], JsonObject]


async def try_to_join(user: User, room_id: str) -> None:
    await user.post("/v3/join/{}", room_id, query={"via": PEER})


async def refused_by(user: User, room_id: str) -> Refused:
    """Try to join in vain; the refusal."""
    with pytest.raises(Refused) as caught:
        await try_to_join(user, room_id)
    assert (caught.value.status, caught.value.errcode) == (502, "M_UNKNOWN"), caught.value
    return caught.value


async def nothing_stayed(user: User, room_id: str) -> None:
    """The user is not in the room, and the node works."""
    assert room_id not in (await user.get("/v3/joined_rooms"))["joined_rooms"]
    assert room_id not in (await user.sync()).get("rooms", {}).get("join", {})
    own = await user.create_room()
    await user.send(own, "Here I am at home")


async def leads_in(rooms: RoomPeer, user: User, room: PeerRoom) -> None:
    """An honest answer leads into the room."""
    rooms.lies.clear()
    await try_to_join(user, room.room_id)
    members = await user.get("/v3/rooms/{}/joined_members", room.room_id)
    there = {pdu.state_key for pdu in room.state.values() if pdu.content.get("membership") == "join"}
    assert set(members["joined"]) == there | {user.user_id}
    await user.send(room.room_id, "I am in")


def twisted(room: PeerRoom, twist: Twist) -> Lie:
    """An answer to ``send_join`` that would be right without ``twist``. The join is not kept."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        join = orjson.loads(await request.read())
        state = list(room.state.values())
        honest = {
            "origin": room.server_name,
            "event": join,
            "state": jsons(state),
            "auth_chain": jsons(room.auth_chain(state)),
            "members_omitted": False,
        }
        return web.json_response(twist(room, honest))

    return answer


def without(*types: str) -> Twist:
    """Neither in the state nor in the auth chain."""

    def twist(room: PeerRoom, answer: JsonObject) -> JsonObject:
        kept = {
            part: [event for event in answer[part] if event["type"] not in types]
            for part in ("state", "auth_chain")
        }
        return {**answer, **kept}

    return twist


def state_without(*types: str, omitted: bool = False) -> Twist:
    """In the auth chain as ever, but not in the state, which is said to lack the members or not."""

    def twist(room: PeerRoom, answer: JsonObject) -> JsonObject:
        missing = [event for event in answer["state"] if event["type"] in types]
        state = [event for event in answer["state"] if event["type"] not in types]
        more = {"members_omitted": True, "servers_in_room": [PEER]} if omitted else {}
        return {**answer, "state": state, "auth_chain": [*answer["auth_chain"], *missing], **more}

    return twist


def altered_join(room: PeerRoom, answer: JsonObject) -> JsonObject:
    event = answer["event"]
    return {**answer, "event": {**event, "content": {**event["content"], "displayname": "Somebody else"}}}


LIES: dict[str, Twist] = {
    "neither state nor chain": lambda room, answer: {**answer, "state": [], "auth_chain": []},
    "no power levels": without(POWER),
    "no power levels in the state": state_without(POWER),
    "no join rules anywhere": without(RULES),
    "no members in a state that should have them": state_without(MEMBER),
    "members left out, and the power levels": state_without(MEMBER, POWER, omitted=True),
    "members left out, and the create event": state_without(MEMBER, CREATE, omitted=True),
    "an altered join": altered_join,
}


@pytest.mark.parametrize("version", ["10", "12"])
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_half_a_state_leads_nowhere_and_the_whole_one_into_the_room(
    rooms: RoomPeer, alice: User, lie: Twist, version: str
) -> None:
    room = rooms.create(rooms.user("mallory"), version)
    rooms.lies["send_join"] = twisted(room, lie)
    await refused_by(alice, room.room_id)
    await nothing_stayed(alice, room.room_id)
    await leads_in(rooms, alice, room)


def beside_garbage(room: PeerRoom, answer: JsonObject) -> JsonObject:
    """The whole state, and among it what is no event at all."""
    return {**answer, "state": [1, "", None, {}, *answer["state"], []]}


async def test_what_is_no_event_in_a_state_is_left_out(rooms: RoomPeer, alice: User) -> None:
    room = rooms.create(rooms.user("mallory"), "12")
    rooms.lies["send_join"] = twisted(room, beside_garbage)
    await try_to_join(alice, room.room_id)
    await leads_in(rooms, alice, room)


def signed_by_nobody(room: PeerRoom) -> PDU:
    """With a key that nobody has published."""
    creator = room.state[(CREATE, "")].sender
    key = SigningKey.generate("unknown")
    return room.build(creator, "m.room.topic", {"topic": "forged"}, "", key=key)


def of_no_member(room: PeerRoom) -> PDU:
    """Rightly signed, but its sender was never in the room."""
    stranger = f"@stranger:{room.server_name}"
    return room.build(stranger, "m.room.topic", {"topic": "forged"}, "")


@pytest.mark.parametrize("make", [signed_by_nobody, of_no_member])
async def test_an_event_of_the_state_that_may_not_stand_does_not_become_the_rooms(
    rooms: RoomPeer, alice: User, make: Callable[[PeerRoom], PDU]
) -> None:
    room = rooms.create(rooms.user("mallory"))

    def with_one_more(room: PeerRoom, answer: JsonObject) -> JsonObject:
        return {**answer, "state": [*answer["state"], make(room).json]}

    rooms.lies["send_join"] = twisted(room, with_one_more)
    await try_to_join(alice, room.room_id)
    with pytest.raises(Refused) as caught:
        await alice.state(room.room_id, "m.room.topic")
    assert caught.value.status == 404
    await alice.send(room.room_id, "A room like any other")


@pytest.mark.parametrize("endpoint", ["make_join", "send_join"])
async def test_an_answer_without_end_does_not_fill_the_memory(
    rooms: RoomPeer, network: Network, alice: User, endpoint: str
) -> None:
    room = rooms.create(rooms.user("mallory"))
    ended = asyncio.Event()
    rooms.lies[endpoint] = forever(b'"' + b"x" * 65_000 + b'",', ended)
    before = network.acme.rss_bytes()
    await refused_by(alice, room.room_id)
    async with asyncio.timeout(DEADLINE_S):
        await ended.wait()
    assert network.acme.rss_bytes() - before < MEMORY_MAX
    await nothing_stayed(alice, room.room_id)
    await leads_in(rooms, alice, room)
