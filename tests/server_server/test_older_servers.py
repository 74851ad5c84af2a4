"""Servers that know version 1 of the handshakes alone."""

from __future__ import annotations

import orjson
import pytest
from aiohttp import web

from federation.canonical import JsonObject
from federation.room_versions import room_version
from federation.signing import sign_event
from tests.api.client import User, refused
from tests.server_server.conftest import PEER
from tests.server_server.room_peer import V1, RoomPeer, jsons


def is_old(request: web.BaseRequest) -> bool:
    return request.rel_url.raw_path.startswith(V1)


@pytest.mark.parametrize("error", [{}, {"errcode": "M_UNRECOGNIZED", "error": "What?"}])
async def test_a_room_is_joined_by_version_1(rooms: RoomPeer, alice: User, error: JsonObject) -> None:
    room = rooms.create(rooms.user("host"), "6")

    async def send_join(request: web.BaseRequest) -> web.Response:
        if not is_old(request):
            return web.json_response(error, status=404)
        state = list(room.state.values())
        join = room.hear(orjson.loads(await request.read()))
        answer = {"state": jsons(state), "auth_chain": jsons(room.auth_chain([*state, join]))}
        return web.json_response([200, answer])

    rooms.lies["send_join"] = send_join
    await alice.post("/v3/join/{}", room.room_id, query={"via": [PEER]})
    assert (await alice.state(room.room_id, "m.room.create"))["creator"] == rooms.user("host")


async def test_an_invite_goes_out_by_version_1_where_that_knows_the_rooms_version(
    rooms: RoomPeer, alice: User
) -> None:
    shown: list[object] = []

    async def invite(request: web.BaseRequest) -> web.Response:
        if not is_old(request):
            return web.json_response({"errcode": "M_UNRECOGNIZED", "error": "What?"}, status=404)
        event = orjson.loads(await request.read())
        shown.append(event["unsigned"]["invite_room_state"])
        signed = sign_event(event, room_version("1"), PEER, rooms.peer.key)
        return web.json_response([200, {"event": signed}])

    rooms.lies["invite"] = invite
    old = await alice.create_room(room_version="1")
    await alice.post("/v3/rooms/{}/invite", old, json={"user_id": rooms.user("bob")})
    assert (await alice.state(old, "m.room.member", rooms.user("bob")))["membership"] == "invite"
    assert len(shown) == 1
    new = await alice.create_room()
    with refused(404, "M_NOT_FOUND"):
        await alice.post("/v3/rooms/{}/invite", new, json={"user_id": rooms.user("bob")})
    assert len(shown) == 1


async def test_what_a_server_says_in_its_own_words_reaches_the_client(rooms: RoomPeer, alice: User) -> None:
    room = rooms.create(rooms.user("host"))

    async def make_join(request: web.BaseRequest) -> web.Response:
        return web.json_response({"errcode": "ORG.EXAMPLE_CLOSED", "error": "Not on Sundays"}, status=400)

    rooms.lies["make_join"] = make_join
    with refused(400, "ORG.EXAMPLE_CLOSED") as caught:
        await alice.post("/v3/join/{}", room.room_id, query={"via": [PEER]})
    assert caught.value.json["error"] == "Not on Sundays"
