"""Calls, on a LiveKit server (MSC4143, MSC4195) or between two (Client-Server API, "Voice over IP")."""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from homeserver.config.load import ConfigError, load_config, parse_config
from tests.api.client import Api, User, refused
from tests.livekit_server import SECRET, LiveKitServer, grants_of
from tests.node import Node, free_port

JsonObject = dict[str, Any]
LIVEKIT = LiveKitServer(free_port())
TURN = "turn:turn.example.com:3478?transport=udp"
SETTINGS = {
    "livekit": {**LIVEKIT.settings, "token_lifetime_ms": 600_000},
    "voip": {"turn_uris": [TURN], "turn_shared_secret": SECRET, "turn_lifetime_ms": 600_000},
}
SFU_GET, GET_TOKEN = "/livekit/jwt/sfu/get", "/livekit/jwt/get_token"
SLOT = "m.call#ROOM"


@pytest_asyncio.fixture
async def livekit() -> AsyncIterator[LiveKitServer]:
    LIVEKIT.rooms.clear()
    LIVEKIT.is_broken = False
    async with LIVEKIT.serving() as server:
        yield server


def hashed(*names: str) -> str:
    return b64encode(hashlib.sha256(orjson.dumps(names)).digest()).decode().rstrip("=")


async def openid_token(user: User) -> JsonObject:
    token: JsonObject = await user.post("/v3/user/{}/openid/request_token", user.user_id)
    return token


async def post(api: Api, path: str, body: JsonObject) -> JsonObject:
    """A request as browsers make it: without a Matrix access token."""
    answer: JsonObject = await api.with_token(None).post(path, json=body)
    return answer


async def by_device(user: User, room: str, **changes: object) -> JsonObject:
    body = {"room": room, "openid_token": await openid_token(user), "device_id": user.device_id, **changes}
    return await post(user, SFU_GET, body)


async def by_member(user: User, room: str, **changes: object) -> JsonObject:
    member = {"id": "member-1", "claimed_user_id": user.user_id, "claimed_device_id": user.device_id}
    body = {"room_id": room, "slot_id": SLOT, "openid_token": await openid_token(user), "member": member}
    return await post(user, GET_TOKEN, {**body, **changes})


async def test_clients_find_the_livekit_service(alice: User, api: Api, node: Node) -> None:
    transports = [{"type": "livekit", "livekit_service_url": f"{node.url}/livekit/jwt"}]
    found = await alice.get("/unstable/org.matrix.msc4143/rtc/transports")
    assert found == {"rtc_transports": transports}
    well_known = await api.get("/.well-known/matrix/client")
    assert well_known["org.matrix.msc4143.rtc_foci"] == transports
    with refused(401, "M_MISSING_TOKEN"):
        await api.get("/unstable/org.matrix.msc4143/rtc/transports")


async def test_a_member_gets_a_token_for_the_call_of_a_room(alice: User, livekit: LiveKitServer) -> None:
    room = await alice.create_room()
    answer = await by_device(alice, room)
    assert answer["url"] == LIVEKIT.settings["url"]
    claims = grants_of(answer["jwt"])
    assert claims["sub"] == f"{alice.user_id}:{alice.device_id}"
    assert claims["video"] == {
        "room": hashed(room, SLOT),
        "roomJoin": True,
        "canPublish": True,
        "canSubscribe": True,
        "canUpdateOwnMetadata": True,
    }
    assert 590 <= claims["exp"] - time.time() <= 600
    assert livekit.rooms == [hashed(room, SLOT)]


async def test_a_member_gets_a_token_for_one_of_a_rooms_calls(alice: User, livekit: LiveKitServer) -> None:
    room = await alice.create_room()
    claims = grants_of((await by_member(alice, room, slot_id="m.call#stage"))["jwt"])
    assert claims["sub"] == hashed(alice.user_id, alice.device_id, "member-1")
    assert claims["video"]["room"] == hashed(room, "m.call#stage")
    assert livekit.rooms == [hashed(room, "m.call#stage")]
    both = {grants_of((await ask(alice, room))["jwt"])["video"]["room"] for ask in (by_device, by_member)}
    assert both == {hashed(room, SLOT)}  # old and new clients meet


async def test_only_members_get_tokens(alice: User, bob: User, livekit: LiveKitServer) -> None:
    room = await alice.create_room()
    for ask in (by_device, by_member):
        with refused(403, "M_FORBIDDEN"):
            await ask(bob, room)
        with refused(403, "M_FORBIDDEN"):
            await ask(alice, "!nowhere:veche.test")
    await bob.join(room)
    await by_member(bob, room)
    await bob.leave(room)
    for ask in (by_device, by_member):
        with refused(403, "M_FORBIDDEN"):
            await ask(bob, room)
    assert len(livekit.rooms) == 1


async def test_who_one_is_has_to_be_proven(alice: User, bob: User, livekit: LiveKitServer) -> None:
    room = await alice.create_room()
    token = await openid_token(alice)
    with refused(401, "M_UNAUTHORIZED"):
        await by_member(
            bob,
            room,
            openid_token=await openid_token(bob),
            member={"id": "m", "claimed_user_id": alice.user_id, "claimed_device_id": "PHONE"},
        )
    for wrong, status, errcode in (
        ({**token, "access_token": "guessed"}, 401, "M_UNAUTHORIZED"),
        ({**token, "access_token": alice.token}, 401, "M_UNAUTHORIZED"),
        ({**token, "access_token": ""}, 401, "M_UNAUTHORIZED"),
        ({**token, "matrix_server_name": "elsewhere.test"}, 403, "M_FORBIDDEN"),  # federation is closed
        ({**token, "matrix_server_name": "a b/../c"}, 400, "M_BAD_JSON"),
        ({"access_token": token["access_token"]}, 400, "M_MISSING_PARAM"),
        ("token", 400, "M_BAD_JSON"),
    ):
        for ask in (by_device, by_member):
            with refused(status, errcode):
                await ask(alice, room, openid_token=wrong)
    assert livekit.rooms == []


@pytest.mark.parametrize(
    ("change", "errcode"),
    [
        ({"room": []}, "M_BAD_JSON"),
        ({"device_id": 7}, "M_BAD_JSON"),
        ({"room": "!" + "x" * 2000}, "M_INVALID_PARAM"),
        ({"device_id": "\0"}, "M_INVALID_PARAM"),
    ],
)
async def test_wrong_requests_are_refused(alice: User, change: JsonObject, errcode: str) -> None:
    room = await alice.create_room()
    body = {"room": room, "openid_token": await openid_token(alice), "device_id": "PHONE", **change}
    with refused(400, errcode):
        await post(alice, SFU_GET, body)


async def test_a_livekit_server_that_fails_is_told_of(alice: User, livekit: LiveKitServer) -> None:
    room = await alice.create_room()
    livekit.is_broken = True
    with refused(503, "M_UNKNOWN"):
        await by_device(alice, room)


async def test_a_livekit_server_that_is_away_is_told_of(alice: User) -> None:
    room = await alice.create_room()
    with refused(503, "M_UNKNOWN"):
        await by_member(alice, room)


async def test_browsers_may_ask_from_anywhere(api: Api) -> None:
    answer = await api.exchange("OPTIONS", GET_TOKEN)
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert "Content-Type" in answer.headers["Access-Control-Allow-Headers"]


async def test_clients_get_credentials_for_turn_servers(alice: User) -> None:
    given = await alice.get("/v3/voip/turnServer")  # tests/interop/test_coturn.py holds them to coturn
    assert (given["uris"], given["ttl"]) == ([TURN], 600)
    assert given["username"].endswith(alice.user_id)


async def test_no_secret_stands_in_the_log(alice: User, livekit: LiveKitServer, node: Node) -> None:
    room = await alice.create_room()
    token = await openid_token(alice)
    answer = await by_device(alice, room, openid_token=token)
    livekit.is_broken = True
    with refused(503, "M_UNKNOWN"):
        await by_device(alice, room, openid_token=token)
    log = node.log()
    assert "livekit" in log
    for secret in (SECRET, token["access_token"], answer["jwt"]):
        assert secret not in log


def test_the_secret_may_be_in_a_file(data_dir: Path) -> None:
    (data_dir / "livekit.secret").write_text(SECRET + "\n")
    file = data_dir / "veche.toml"
    livekit = '[livekit]\nurl = "wss://x.test"\napi_key = "k"\napi_secret_file = "livekit.secret"\n'
    file.write_text('[server]\nserver_name = "veche.test"\npublic_baseurl = "https://veche.test"\n' + livekit)
    config = load_config(file)
    assert config.livekit.api_secret == SECRET
    assert SECRET not in repr(config)
    (data_dir / "livekit.secret").write_text("too short")
    with pytest.raises(ConfigError, match="32 characters"):
        load_config(file)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ('url = "https://x.test"', "wss://"),
        ('url = "wss://x.test"', "api_key"),
        (f'url = "wss://x.test"\napi_key = "k"\napi_secret = "{SECRET}"', "service_url"),
        ('url = "wss://x.test"\napi_key = "k"\napi_secret = "short"', "32 characters"),
        ('service_url = "x.test"', "https://"),
    ],
)
def test_a_wrong_setting_is_told(settings: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_config(f'[server]\nserver_name = "veche.test"\n[livekit]\n{settings}\n', "test")
