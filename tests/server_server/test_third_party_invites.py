"""Invites by e-mail address between companies: the proof that an identity server gives, and its forgeries."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from urllib.parse import quote

import orjson
import pytest
from aiohttp import web

from federation.keys import SigningKey
from federation.room_versions import room_version
from federation.signing import sign_event, sign_json
from tests.api.client import JsonObject, User, refused, state_of, timeline_of
from tests.server_server.conftest import ACME, GLOBEX, PEER, Network
from tests.server_server.identity_peer import IdentityPeer
from tests.server_server.peer import Answer
from tests.server_server.room_peer import RoomPeer
from tests.server_server.test_invites import invite_of
from tests.server_server.test_joins import members_seen

SETTINGS = {"federation": {"identity_servers": [PEER]}}
IDENTITY_KEY = SigningKey.from_seed("0", bytes(32))
ONBIND = "/_matrix/federation/v1/3pid/onbind"
ADDRESS = "bob@example.org"


@pytest.fixture
def identity(network: Network) -> Iterator[IdentityPeer]:
    """The peer is an identity server too."""
    yield IdentityPeer(network.peer, IDENTITY_KEY)
    network.peer.serves.clear()


async def invite_address(alice: User) -> str:
    """A new room with an invite for an e-mail address, under the token ``token``."""
    room_id = await alice.create_room(preset="private_chat")
    invite = {
        "display_name": "b...@example.org",
        "key_validity_url": f"https://{PEER}/_matrix/identity/v2/pubkey/isvalid",
        "public_key": IDENTITY_KEY.verify_key_base64,
    }
    await alice.set_state(room_id, "m.room.third_party_invite", invite, "token")
    return room_id


def proof(bob: User, token: str = "token") -> JsonObject:
    return proof_of(bob.user_id, token)


def proof_of(user_id: str, token: str = "token") -> JsonObject:
    return sign_json({"mxid": user_id, "token": token}, PEER, IDENTITY_KEY)


def signed_for(user: User, sender: User, token: str = "token") -> JsonObject:
    """What the user's client has signed by the identity server (v2_invitation_signing.yaml), to join with."""
    whole = {"mxid": user.user_id, "sender": sender.user_id, "token": token}
    return sign_json(whole, PEER, IDENTITY_KEY)


def binding(bob: User, alice: User, room_id: str, signed: JsonObject) -> JsonObject:
    """What the identity server tells Bob's server."""
    address = {"medium": "email", "address": "bob@example.org", "mxid": bob.user_id}
    invite = {**address, "room_id": room_id, "sender": alice.user_id, "signed": signed}
    return {**address, "invites": [invite]}


async def onbind(network: Network, body: JsonObject) -> int:
    """Tell the second company, unsigned, as identity servers do; the status of the answer."""
    peer, port = network.peer, network.ports[GLOBEX]
    return (await peer.send(GLOBEX, port, "PUT", ONBIND, body, headers={})).status


async def test_who_turns_out_to_own_the_address_is_invited(
    network: Network, identity: IdentityPeer, alice: User, bob: User
) -> None:
    room_id = await invite_address(alice)
    assert await onbind(network, binding(bob, alice, room_id, proof(bob))) == 200
    member = invite_of(await bob.sync(), room_id)["m.room.member", bob.user_id]
    assert member["content"]["third_party_invite"]["display_name"] == "b...@example.org"
    assert member["sender"] == alice.user_id
    await bob.join(room_id)
    assert (await members_seen(alice, room_id))[bob.user_id] == "join"


async def test_a_proof_that_is_forged_invites_nobody(
    network: Network, identity: IdentityPeer, alice: User, bob: User
) -> None:
    room_id = await invite_address(alice)
    forged = {**proof(bob), "signatures": {PEER: {"ed25519:0": "A" * 86}}}
    for signed in (forged, proof(bob, "another"), {}, {"mxid": 7}):
        assert await onbind(network, binding(bob, alice, room_id, signed)) == 403
    assert await onbind(network, {"invites": "many"}) == 400
    assert not invite_of(await bob.sync(), room_id)
    assert bob.user_id not in await members_seen(alice, room_id)


async def test_a_user_joins_by_the_proof(
    network: Network, identity: IdentityPeer, alice: User, bob: User
) -> None:
    room_id = await invite_address(alice)
    body = {"third_party_signed": signed_for(bob, alice)}
    await bob.post("/v3/join/{}", room_id, json=body, query={"via": [ACME]})
    assert (await members_seen(alice, room_id))[bob.user_id] == "join"
    carol = await network.globex_api.register("carol")
    body = {"third_party_signed": signed_for(bob, alice)}  # which is not hers
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
    network: Network, rooms: RoomPeer, identity: IdentityPeer, alice: User
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
    network: Network, rooms: RoomPeer, identity: IdentityPeer, alice: User, bob: User
) -> None:
    room_id = await invite_address(alice)
    carol = rooms.user("carol")
    answer = await exchange(network, alice, room_id, carol, proof_of(carol, "another"))
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    answer = await exchange(network, alice, room_id, bob.user_id, proof(bob))  # of another server than asks
    assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")
    identity.is_valid = False
    answer = await exchange(network, alice, room_id, carol, proof_of(carol))
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    assert identity.checked == [IDENTITY_KEY.verify_key_base64]
    network.peer.serves.clear()  # nobody says whether the key is valid
    answer = await exchange(network, alice, room_id, carol, proof_of(carol))
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    assert rooms.asked == []
    assert set(await members_seen(alice, room_id)) == {alice.user_id}


# -- inviting by address


async def state_seen(user: User, room_id: str) -> set[tuple[str, str]]:
    return set(state_of(await user.get("/v3/rooms/{}/state", room_id)))


async def test_who_is_known_by_the_address_is_invited(
    network: Network, identity: IdentityPeer, alice: User, bob: User
) -> None:
    identity.users[ADDRESS] = bob.user_id
    room_id = await alice.create_room(preset="private_chat")
    await alice.post("/v3/rooms/{}/invite", room_id, json=identity.asks("Bob@Example.org"))
    assert (await members_seen(alice, room_id))[bob.user_id] == "invite"
    assert invite_of(await bob.sync(), room_id)
    room_id = await alice.create_room(preset="private_chat", invite_3pid=[identity.asks(ADDRESS)])
    assert (await members_seen(alice, room_id))[bob.user_id] == "invite"
    assert not identity.stored


async def test_who_is_not_known_is_invited_once_the_address_is_bound(
    network: Network, identity: IdentityPeer, alice: User, bob: User
) -> None:
    await alice.put("/v3/profile/{}/displayname", alice.user_id, json={"displayname": "Alice"})
    room_id = await alice.create_room(preset="private_chat", name="Plans")
    await alice.post("/v3/rooms/{}/invite", room_id, json=identity.asks(ADDRESS))
    [stored] = identity.stored
    about = {"medium": "email", "address": ADDRESS, "room_id": room_id, "sender": alice.user_id}
    assert stored == about | {
        "room_name": "Plans",
        "room_join_rules": "invite",
        "sender_display_name": "Alice",
    }
    invite = await alice.state(room_id, "m.room.third_party_invite", "t1")
    assert invite["display_name"] == "b...@example.org"
    assert invite["public_keys"] == [{key: invite[key] for key in ("public_key", "key_validity_url")}]
    signed = identity.proof(bob.user_id, "t1")
    assert await onbind(network, binding(bob, alice, room_id, signed)) == 200
    assert invite_of(await bob.sync(timeout_ms=10_000), room_id)
    assert identity.checked == [invite["public_key"]]
    await bob.join(room_id)
    assert (await members_seen(alice, room_id))[bob.user_id] == "join"


async def test_a_server_that_is_in_the_room_invites_its_user_itself(
    network: Network, identity: IdentityPeer, alice: User, bob: User
) -> None:
    room_id = await alice.create_room(preset="private_chat", invite=[bob.user_id])
    await bob.join(room_id)
    await alice.post("/v3/rooms/{}/invite", room_id, json=identity.asks(ADDRESS))
    carol = await network.globex_api.register("carol")
    since = (await bob.sync())["next_batch"]
    async with asyncio.timeout(20):
        while "m.room.third_party_invite" not in {type for type, _ in await state_seen(bob, room_id)}:
            since = (await bob.sync(since, timeout_ms=5_000))["next_batch"]
    since = (await alice.sync())["next_batch"]
    assert await onbind(network, binding(carol, alice, room_id, identity.proof(carol.user_id, "t1"))) == 200
    assert invite_of(await carol.sync(), room_id)
    [event] = timeline_of(await alice.sync(since, timeout_ms=10_000), room_id)
    assert (event["sender"], event["state_key"]) == (alice.user_id, carol.user_id)
    await carol.join(room_id)
    assert (await members_seen(bob, room_id))[carol.user_id] == "join"


async def test_a_key_that_is_revoked_proves_nothing(
    network: Network, identity: IdentityPeer, alice: User
) -> None:
    room_id = await alice.create_room(preset="private_chat")
    await alice.post("/v3/rooms/{}/invite", room_id, json=identity.asks(ADDRESS))
    carol = await network.acme_api.register("carol")
    signed = signed_for(carol, alice, "t1")
    identity.is_valid = False
    with refused(403, "M_FORBIDDEN"):
        await carol.post("/v3/join/{}", room_id, json={"third_party_signed": signed})
    identity.is_valid = True
    await carol.post("/v3/join/{}", room_id, json={"third_party_signed": signed})
    assert (await members_seen(alice, room_id))[carol.user_id] == "join"


async def test_only_identity_servers_that_are_named_are_asked(
    network: Network, identity: IdentityPeer, alice: User, bob: User
) -> None:
    room_id = await alice.create_room(preset="private_chat")
    asks = identity.asks(ADDRESS)
    network.peer.requests.clear()
    for wrong, status, errcode in (
        ({"id_server": "elsewhere.test"}, 403, "M_SERVER_NOT_TRUSTED"),
        ({"id_server": "no name"}, 400, "M_INVALID_PARAM"),
        ({"id_access_token": "of somebody else"}, 400, "M_INVALID_PARAM"),
        ({"id_access_token": "another"}, 403, "M_FORBIDDEN"),
        ({"medium": "pigeon"}, 400, "M_INVALID_PARAM"),
        ({"address": "a\nb"}, 400, "M_INVALID_PARAM"),
        ({"address": 7}, 400, "M_BAD_JSON"),
    ):
        with refused(status, errcode):
            await alice.post("/v3/rooms/{}/invite", room_id, json=asks | wrong)
    with refused(403, "M_SERVER_NOT_TRUSTED"):
        await alice.create_room(invite_3pid=[asks | {"id_server": "elsewhere.test"}])
    with refused(403, "M_FORBIDDEN"):
        await bob.post("/v3/rooms/{}/invite", room_id, json=asks)  # who is not in the room
    lookups = [target for _, target in network.peer.requests if target.endswith("/lookup")]
    assert not identity.stored and not lookups


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("hash_details", {"lookup_pepper": 7, "algorithms": ["sha256"]}),
        ("hash_details", {"lookup_pepper": "x", "algorithms": ["none"]}),
        ("lookup", {"mappings": []}),
        ("lookup", {}),
        ("store-invite", {"token": "not a token!", "display_name": "b", "public_keys": []}),
        ("store-invite", {"token": "t", "display_name": "b", "public_keys": []}),
        ("store-invite", {"token": "t", "display_name": "b", "public_keys": [{"public_key": 1}]}),
    ],
)
async def test_an_identity_server_that_answers_nonsense_is_not_believed(
    network: Network, identity: IdentityPeer, alice: User, path: str, answer: JsonObject
) -> None:
    async def nonsense(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(answer)

    network.peer.serves[f"/_matrix/identity/v2/{path}"] = nonsense
    room_id = await alice.create_room(preset="private_chat")
    with refused(502, "M_UNKNOWN"):
        await alice.post("/v3/rooms/{}/invite", room_id, json=identity.asks(ADDRESS))
    assert set(await members_seen(alice, room_id)) == {alice.user_id}
