"""Calls of people of several companies, on the LiveKit server of one: MSC4195."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest_asyncio
from aiohttp import web

from homeserver.federating.livekit import hashed
from tests.api.client import Api, User, refused
from tests.livekit_server import LiveKitServer, grants_of
from tests.node import free_port
from tests.server_server.conftest import ACME, PEER, Network

JsonObject = dict[str, Any]
LIVEKIT = LiveKitServer(free_port())
SETTINGS = {"livekit": LIVEKIT.settings}
GET_TOKEN = "/livekit/jwt/get_token"
USERINFO = "/_matrix/federation/v1/openid/userinfo"
SLOT = "m.call#ROOM"


@pytest_asyncio.fixture
async def livekit() -> AsyncIterator[LiveKitServer]:
    LIVEKIT.rooms.clear()
    async with LIVEKIT.serving() as server:
        yield server


async def token_of(user: User) -> JsonObject:
    token: JsonObject = await user.post("/v3/user/{}/openid/request_token", user.user_id)
    return token


async def ask(api: Api, user_id: str, room: str, token: JsonObject) -> JsonObject:
    """What a company's service answers somebody who wants to join a call."""
    member = {"id": "m", "claimed_user_id": user_id, "claimed_device_id": "PHONE"}
    body = {"room_id": room, "slot_id": SLOT, "openid_token": token, "member": member}
    answer: JsonObject = await api.with_token(None).post(GET_TOKEN, json=body)
    return answer


async def test_a_member_from_elsewhere_joins_a_call_but_begins_none(
    network: Network, alice: User, bob: User, livekit: LiveKitServer
) -> None:
    room = await alice.create_room()
    with refused(403, "M_FORBIDDEN"):
        await ask(network.acme_api, bob.user_id, room, await token_of(bob))
    await bob.post("/v3/join/{}", room, query={"via": ACME})
    claims = grants_of((await ask(network.acme_api, bob.user_id, room, await token_of(bob)))["jwt"])
    assert claims["sub"] == hashed(bob.user_id, "PHONE", "m")
    assert claims["video"]["room"] == hashed(room, SLOT)
    assert "roomCreate" not in claims["video"]
    assert livekit.rooms == []
    await ask(network.acme_api, alice.user_id, room, await token_of(alice))
    assert livekit.rooms == [hashed(room, SLOT)]


async def test_a_server_speaks_for_its_own_users_only(
    network: Network, alice: User, livekit: LiveKitServer
) -> None:
    room = await alice.create_room()
    token = {"access_token": "a token", "matrix_server_name": PEER}
    network.peer.responses[USERINFO] = web.json_response({"sub": alice.user_id})
    with refused(401, "M_UNAUTHORIZED"):
        await ask(network.acme_api, alice.user_id, room, token)
    method, target = network.peer.requests[-1]
    assert (method, urlsplit(target).path) == ("GET", USERINFO)
    for answer in (
        web.json_response({"sub": 7}),
        web.json_response({"sub": "@:" + PEER + "/x"}),
        web.json_response({"errcode": "M_UNKNOWN_TOKEN", "error": "Unknown"}, status=401),
    ):
        network.peer.responses[USERINFO] = answer
        with refused(401, "M_UNAUTHORIZED"):
            await ask(network.acme_api, alice.user_id, room, token)
    network.peer.responses[USERINFO] = web.json_response({}, status=500)
    with refused(503, "M_UNKNOWN"):
        await ask(network.acme_api, alice.user_id, room, token)
    assert livekit.rooms == []


async def test_a_server_that_one_does_not_talk_to_is_not_asked(network: Network, alice: User) -> None:
    room = await alice.create_room()
    token = {"access_token": "a token", "matrix_server_name": "stranger.test"}
    with refused(403, "M_FORBIDDEN"):
        await ask(network.acme_api, "@bob:stranger.test", room, token)
