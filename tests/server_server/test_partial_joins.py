"""Rooms that are entered without their members, which come later: of use at once, and told truly."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from aiohttp import web

from federation.event import PDU
from tests.api.client import JsonObject, User, refused, state_of, timeline_of
from tests.server_server.conftest import ACME, GLOBEX, PEER, Network
from tests.server_server.peer_room import MEMBER, PeerRoom
from tests.server_server.room_peer import Lie, RoomPeer, jsons, said
from tests.server_server.test_joins import members_seen

SETTINGS = {"federation": {"omit_members_from": 1}}
MEMBERS = 8


def lunch(rooms: RoomPeer) -> PeerRoom:
    """A room of the peer's with some members and a name."""
    room = rooms.create(rooms.user("host"))
    for number in range(MEMBERS):
        member = rooms.user(f"guest{number}")
        room.make(member, MEMBER, {"membership": "join", "displayname": f"Guest {number}"}, member)
    room.make(rooms.user("host"), "m.room.name", {"name": "Lunch"}, "")
    return room


def without_members(room: PeerRoom) -> Lie:
    """A ``send_join`` that leaves all members out."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        assert request.query.get("omit_members") == "true"
        state = list(room.state.values())
        join = room.hear(orjson.loads(await request.read()))
        rest = [pdu for pdu in state if pdu.type != MEMBER]
        chain = [pdu for pdu in room.auth_chain([join, *rest]) if pdu not in rest]
        return web.json_response(
            {
                "event": join.json,
                "state": jsons(rest),
                "auth_chain": jsons(chain),
                "members_omitted": True,
                "servers_in_room": [PEER],
            }
        )

    return answer


class Gate:
    """Holds ``state`` back until it is opened."""

    def __init__(self, rooms: RoomPeer) -> None:
        self.opened = asyncio.Event()
        self._rooms = rooms
        rooms.lies["state"] = self.answer

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        await self.opened.wait()
        self._rooms.lies.pop("state", None)
        true = await self._rooms.answer(request)
        assert true is not None
        return true


def seen_in(sync: JsonObject, room_id: str) -> set[str]:
    """The users whose memberships a sync tells of a room."""
    room = sync.get("rooms", {}).get("join", {}).get(room_id, {})
    events = [*room.get("state", {}).get("events", []), *room.get("timeline", {}).get("events", [])]
    return {key for type, key in state_of(events) if type == MEMBER}


async def join(user: User, room: PeerRoom) -> None:
    await user.post("/v3/join/{}", room.room_id, query={"via": [PEER]})


async def test_a_room_is_of_use_before_its_members_are_known(rooms: RoomPeer, bob: User) -> None:
    room = lunch(rooms)
    rooms.lies["send_join"] = without_members(room)
    gate = Gate(rooms)
    since = (await bob.sync())["next_batch"]
    await join(bob, room)
    sync = await bob.sync(since, timeout_ms=10_000)
    assert await bob.state(room.room_id, "m.room.name") == {"name": "Lunch"}
    assert rooms.user("guest1") not in seen_in(sync, room.room_id)
    assert "m.joined_member_count" not in sync["rooms"]["join"][room.room_id]["summary"]
    await bob.send(room.room_id, "is there any left?")
    # somebody whose membership is not known here yet speaks, and citing it is enough
    guest = rooms.user("guest1")
    message = room.make(guest, "m.room.message", {"msgtype": "m.text", "body": "no"})
    await rooms.transmit(GLOBEX, message)
    sync = await bob.sync(sync["next_batch"], timeout_ms=10_000)
    while message.event_id not in [event["event_id"] for event in timeline_of(sync, room.room_id)]:
        sync = await bob.sync(sync["next_batch"], timeout_ms=10_000)
    since = sync["next_batch"]
    gate.opened.set()
    joined = (await bob.get("/v3/rooms/{}/joined_members", room.room_id))["joined"]
    assert len(joined) == MEMBERS + 2 and joined[guest]["display_name"] == "Guest 1"
    told = seen_in(await bob.sync(since, timeout_ms=10_000), room.room_id)
    assert {rooms.user(f"guest{number}") for number in range(MEMBERS)} <= told
    initial = (await bob.sync())["rooms"]["join"][room.room_id]
    assert initial["summary"]["m.joined_member_count"] == MEMBERS + 2
    await bob.send(room.room_id, "thanks")
    assert (await bob.state(room.room_id, MEMBER, guest))["displayname"] == "Guest 1"


async def test_members_are_fetched_after_a_restart(network: Network, rooms: RoomPeer, bob: User) -> None:
    room = lunch(rooms)
    rooms.lies["send_join"] = without_members(room)
    gate = Gate(rooms)
    await join(bob, room)
    await network.globex.kill()
    gate.opened.set()
    await network.globex.start()
    assert len((await bob.get("/v3/rooms/{}/members", room.room_id))["chunk"]) == MEMBERS + 2
    assert len(await members_seen(bob, room.room_id)) == MEMBERS + 2


async def test_who_has_gone_meanwhile_does_not_come_back(rooms: RoomPeer, bob: User) -> None:
    room = lunch(rooms)
    rooms.lies["send_join"] = without_members(room)
    gate = Gate(rooms)
    await join(bob, room)
    gone = rooms.user("guest2")
    leave = room.make(gone, MEMBER, {"membership": "leave"}, gone)
    since = (await bob.sync())["next_batch"]
    await rooms.transmit(GLOBEX, leave)
    sync = await bob.sync(since, timeout_ms=10_000)
    while not timeline_of(sync, room.room_id):
        sync = await bob.sync(sync["next_batch"], timeout_ms=10_000)
    gate.opened.set()
    joined = (await bob.get("/v3/rooms/{}/joined_members", room.room_id))["joined"]
    assert gone not in joined and len(joined) == MEMBERS + 1
    assert (await members_seen(bob, room.room_id))[gone] == "leave"


@pytest.mark.parametrize("servers", [None, "peer.test", [], [GLOBEX]])
async def test_who_leaves_members_out_names_the_servers(rooms: RoomPeer, bob: User, servers: object) -> None:
    room = lunch(rooms)
    true = without_members(room)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        answered = await true(request)
        assert isinstance(answered, web.Response) and isinstance(answered.body, bytes)
        return web.json_response({**orjson.loads(answered.body), "servers_in_room": servers})

    rooms.lies["send_join"] = answer
    with refused(502, "M_UNKNOWN"):
        await join(bob, room)


async def test_a_state_without_the_members_is_not_taken_for_whole(
    network: Network, rooms: RoomPeer, bob: User
) -> None:
    room = lunch(rooms)
    rooms.lies["send_join"] = without_members(room)
    nobody: list[PDU] = [pdu for pdu in room.state.values() if pdu.type != MEMBER]
    rooms.lies["state"] = said({"pdus": jsons(nobody), "auth_chain": jsons(room.auth_chain(nobody))})
    await join(bob, room)
    assert "m.joined_member_count" not in (await bob.sync())["rooms"]["join"][room.room_id]["summary"]
    del rooms.lies["state"]  # it is asked again, a little later
    assert len((await bob.get("/v3/rooms/{}/joined_members", room.room_id))["joined"]) == MEMBERS + 2


async def test_between_nodes_the_members_are_there_at_once(network: Network, alice: User, bob: User) -> None:
    room_id = await alice.create_room(name="Lunch")
    carol = await network.acme_api.register("carol")
    await carol.join(room_id)
    await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})
    assert len(await members_seen(bob, room_id)) == 3
    dave = await network.globex_api.register("dave")
    await dave.join(room_id)
    assert len(await members_seen(dave, room_id)) == 4


async def test_a_room_that_was_left_before_its_members_were_known_is_whole_when_entered_again(
    rooms: RoomPeer, bob: User
) -> None:
    room = lunch(rooms)
    rooms.lies["send_join"] = without_members(room)
    gate = Gate(rooms)
    await join(bob, room)
    await bob.leave(room.room_id)
    while room.state[MEMBER, bob.user_id].content["membership"] != "leave":
        await bob.sync(timeout_ms=10)
    del rooms.lies["send_join"]
    await join(bob, room)
    assert len((await bob.get("/v3/rooms/{}/joined_members", room.room_id))["joined"]) == MEMBERS + 2
    gate.opened.set()


async def test_history_is_fetched_when_the_members_are_known(rooms: RoomPeer, bob: User) -> None:
    room = rooms.create(rooms.user("host"))
    early = room.make(rooms.user("host"))
    for number in range(MEMBERS):
        member = rooms.user(f"guest{number}")
        room.make(member, MEMBER, {"membership": "join"}, member)
    rooms.lies["send_join"] = without_members(room)
    gate = Gate(rooms)
    await join(bob, room)
    paging = asyncio.create_task(bob.history(room.room_id))
    await bob.sync()
    assert not paging.done()
    gate.opened.set()
    events = [event["event_id"] for event in await paging]
    assert set(events) == set(room.events)
    context = await bob.get("/v3/rooms/{}/context/{}", room.room_id, early.event_id, query={"limit": 0})
    there = {key for type, key in state_of(context["state"]) if type == MEMBER}
    assert there == {rooms.user("host")}  # nobody who came later
