"""Invites by e-mail address between companies: the proof that an identity server gives, and its forgeries."""

from __future__ import annotations

from urllib.parse import quote

import orjson
from aiohttp import web

from federation.keys import SigningKey
from federation.room_versions import room_version
from federation.signing import sign_event, sign_json
from tests.api.client import JsonObject, User, refused
from tests.server_server.conftest import ACME, GLOBEX, PEER, Network
from tests.server_server.peer import Answer
from tests.server_server.room_peer import RoomPeer
from tests.server_server.test_invites import invite_of
from tests.server_server.test_joins import members_seen

IDENTITY_KEY = SigningKey.from_seed("0", bytes(32))
ONBIND = "/_matrix/federation/v1/3pid/onbind"


async def invite_address(alice: User) -> str:
    """A new room with an invite for an e-mail address, under the token ``token``."""
    room_id = await alice.create_room(preset="private_chat")
    invite = {
        "display_name": "b...@example.org",
        "key_validity_url": "https://identity.test/valid",
        "public_key": IDENTITY_KEY.verify_key_base64,
    }
    await alice.set_state(room_id, "m.room.third_party_invite", invite, "token")
    return room_id


def proof(bob: User, token: str = "token") -> JsonObject:
    return proof_of(bob.user_id, token)


def proof_of(user_id: str, token: str = "token") -> JsonObject:
    return sign_json({"mxid": user_id, "token": token}, "identity.test", IDENTITY_KEY)


def binding(bob: User, alice: User, room_id: str, signed: JsonObject) -> JsonObject:
    """What the identity server tells Bob's server."""
    address = {"medium": "email", "address": "bob@example.org", "mxid": bob.user_id}
    invite = {**address, "room_id": room_id, "sender": alice.user_id, "signed": signed}
    return {**address, "invites": [invite]}


async def onbind(network: Network, body: JsonObject) -> int:
    """Tell the second company, unsigned, as identity servers do; the status of the answer."""
    peer, port = network.peer, network.ports[GLOBEX]
    return (await peer.send(GLOBEX, port, "PUT", ONBIND, body, headers={})).status


async def test_who_turns_out_to_own_the_address_is_invited(network: Network, alice: User, bob: User) -> None:
    room_id = await invite_address(alice)
    assert await onbind(network, binding(bob, alice, room_id, proof(bob))) == 200
    member = invite_of(await bob.sync(), room_id)["m.room.member", bob.user_id]
    assert member["content"]["third_party_invite"]["display_name"] == "b...@example.org"
    assert member["sender"] == alice.user_id
    await bob.join(room_id)
    assert (await members_seen(alice, room_id))[bob.user_id] == "join"


async def test_a_proof_that_is_forged_invites_nobody(network: Network, alice: User, bob: User) -> None:
    room_id = await invite_address(alice)
    forged = {**proof(bob), "signatures": {"identity.test": {"ed25519:0": "A" * 86}}}
    for signed in (forged, proof(bob, "another"), {}, {"mxid": 7}):
        assert await onbind(network, binding(bob, alice, room_id, signed)) == 200
    assert await onbind(network, {"invites": "many"}) == 400
    assert not invite_of(await bob.sync(), room_id)
    assert bob.user_id not in await members_seen(alice, room_id)


async def test_a_user_joins_by_the_proof(network: Network, alice: User, bob: User) -> None:
    room_id = await invite_address(alice)
    body = {"third_party_signed": {**proof(bob), "sender": alice.user_id}}
    await bob.post("/v3/join/{}", room_id, json=body, query={"via": [ACME]})
    assert (await members_seen(alice, room_id))[bob.user_id] == "join"
    carol = await network.globex_api.register("carol")
    body = {"third_party_signed": {**proof(bob), "sender": alice.user_id}}  # which is not hers
    with refused(403, "M_FORBIDDEN"):
        await carol.post("/v3/join/{}", room_id, json=body, query={"via": [ACME]})


async def exchange(network: Network, alice: User, room_id: str, user_id: str, signed: JsonObject) -> Answer:
    """The peer asks the server of who invited for an invite of one of its users."""
    invite = {"display_name": "carol", "signed": signed}
    body = {
        "type": "m.room.member",
        "room_id": room_id,
        "sender": alice.user_id,
        "state_key": user_id,
        "content": {"membership": "invite", "third_party_invite": invite},
    }
    target = f"/_matrix/federation/v1/exchange_third_party_invite/{quote(room_id, safe='')}"
    return await network.peer.send(ACME, network.ports[ACME], "PUT", target, body)


async def test_another_server_exchanges_the_proof_for_an_invite(
    network: Network, rooms: RoomPeer, alice: User
) -> None:
    room_id = await invite_address(alice)
    carol = rooms.user("carol")

    async def co_sign(request: web.BaseRequest) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        version = room_version(body["room_version"])
        return web.json_response({"event": sign_event(body["event"], version, PEER, network.peer.key)})

    rooms.lies["invite"] = co_sign
    answer = await exchange(network, alice, room_id, carol, proof_of(carol))
    assert (answer.status, answer.json) == (200, {})
    assert rooms.asked == ["invite"]
    assert (await members_seen(alice, room_id))[carol] == "invite"


async def test_what_proves_nothing_is_exchanged_for_nothing(
    network: Network, rooms: RoomPeer, alice: User, bob: User
) -> None:
    room_id = await invite_address(alice)
    carol = rooms.user("carol")
    answer = await exchange(network, alice, room_id, carol, proof_of(carol, "another"))
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    answer = await exchange(network, alice, room_id, bob.user_id, proof(bob))  # of another server than asks
    assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")
    assert rooms.asked == []
    assert set(await members_seen(alice, room_id)) == {alice.user_id}
