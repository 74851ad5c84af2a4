"""Rooms with a policy server: what it does not sign is not sent, and not shown when others send it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import orjson
import pytest
import pytest_asyncio
from aiohttp import web

from federation.canonical import JsonObject
from federation.event import PDU, parse_pdu
from federation.hashing import reference_bytes
from federation.keys import SigningKey, VerifyKey
from federation.policy_server import KEY_ID, is_recommended, parse_policy
from federation.room_versions import room_version
from federation.signing import verify_event_signature, with_signature
from tests.api.client import User, refused
from tests.server_server.conftest import ACME, PEER, Network
from tests.server_server.peer_room import PeerRoom
from tests.server_server.room_peer import RoomPeer

POLICY = "m.room.policy"
SIGN = "/_matrix/policy/v1/sign"
MEMBER_OF_POLICY = f"@policy:{PEER}"
VERSION = room_version("12")


@dataclass(kw_only=True)
class Policed:
    """A room of Alice's whose policy server is the peer, which may refuse and lie."""

    network: Network
    rooms: RoomPeer
    room: PeerRoom
    alice: User
    key: SigningKey = field(default_factory=lambda: SigningKey.generate("policy_server"))
    refusals: dict[str, web.Response] = field(default_factory=dict)
    """By the body of a message, or the type of another event; each is given once."""
    asked: list[JsonObject] = field(default_factory=list)

    @property
    def room_id(self) -> str:
        return self.room.room_id

    @property
    def content(self) -> JsonObject:
        return {"via": PEER, "public_keys": {"ed25519": self.key.verify_key_base64}}

    def signed(self, event: JsonObject) -> JsonObject:
        return with_signature(event, PEER, KEY_ID, self.key.sign(reference_bytes(event, VERSION)))

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        event = orjson.loads(await request.read())
        self.asked.append(event)
        refusal = self.refusals.pop(event["content"].get("body", event["type"]), None)
        if refusal is not None:
            return refusal
        return web.json_response({PEER: {KEY_ID: self.signed(event)["signatures"][PEER][KEY_ID]}})

    async def stored(self, event_id: str) -> JsonObject:
        """An event as Acme gives it to other servers."""
        target = f"/_matrix/federation/v1/event/{event_id}"
        answer = await self.network.peer.send(ACME, self.network.ports[ACME], "GET", target)
        event: JsonObject = answer.json["pdus"][0]
        return event

    async def bodies(self) -> list[str]:
        """The messages that Alice reads, oldest first."""
        history = await self.alice.history(self.room_id)
        return [e["content"].get("body", "") for e in reversed(history) if e["type"] == "m.room.message"]

    def say(self, body: str) -> PDU:
        """A message of a user of the peer, which has not shown it to itself."""
        return self.room.make(MEMBER_OF_POLICY, "m.room.message", {"msgtype": "m.text", "body": body})

    async def metric(self, outcome: str) -> float:
        line = f'policy_server_checks_total{{outcome="{outcome}"}}'
        return await self.network.metric(self.network.acme, line)


def refusal(status: int, errcode: str, error: str = "No") -> web.Response:
    return web.json_response({"errcode": errcode, "error": error}, status=status)


@pytest_asyncio.fixture
async def policed(network: Network, rooms: RoomPeer, alice: User) -> AsyncIterator[Policed]:
    room_id = await alice.create_room()
    room = await rooms.join(ACME, room_id, MEMBER_OF_POLICY)
    policed = Policed(network=network, rooms=rooms, room=room, alice=alice)
    network.peer.serves[SIGN] = policed.answer
    await alice.set_state(room_id, POLICY, policed.content)
    assert policed.asked == []  # "MUST NOT be called for events which have a type of m.room.policy"
    room.hear(await policed.stored((await policy_event(alice, room_id))["event_id"]))
    yield policed
    del network.peer.serves[SIGN]


async def policy_event(user: User, room_id: str) -> JsonObject:
    state = await user.get("/v3/rooms/{}/state", room_id)
    return next(event for event in state if event["type"] == POLICY)


async def test_what_is_sent_is_signed_by_the_policy_server_too(policed: Policed) -> None:
    before = await policed.metric("signed")
    message = await policed.alice.send(policed.room_id, "hello")
    topic = await policed.alice.set_state(policed.room_id, "m.room.topic", {"topic": "Policed"})
    taken_back = await policed.alice.redact(policed.room_id, message)
    policy = parse_policy(policed.content)
    assert policy is not None
    for event_id in (topic, taken_back):
        event = await policed.stored(event_id)
        assert is_recommended(event, VERSION, policy)
        assert ACME in event["signatures"]
    assert [event["type"] for event in policed.asked] == [
        "m.room.message",
        "m.room.topic",
        "m.room.redaction",
    ]
    for event in policed.asked:
        verify_event_signature(event, VERSION, ACME, await acme_key(policed.network))
    assert await policed.metric("signed") == before + 3


async def acme_key(network: Network) -> VerifyKey:
    answer = await network.peer.send(ACME, network.ports[ACME], "GET", "/_matrix/key/v2/server", headers={})
    [(key_id, key)] = answer.json["verify_keys"].items()
    return VerifyKey.from_base64(key_id, key["key"])


async def test_a_refusal_is_told_to_the_client_as_it_was_given(policed: Policed) -> None:
    policed.refusals["buy now"] = refusal(400, "M_FORBIDDEN", "This looks like spam")
    with refused(400, "M_FORBIDDEN") as caught:
        await policed.alice.send(policed.room_id, "buy now")
    assert caught.value.json["error"] == "This looks like spam"
    policed.refusals["m.room.name"] = refusal(404, "M_NOT_FOUND")
    with refused(404, "M_NOT_FOUND"):
        await policed.alice.set_state(policed.room_id, "m.room.name", {"name": "Shop"})
    policed.refusals["again"] = web.json_response(
        {"errcode": "M_LIMIT_EXCEEDED", "error": "Slow down", "retry_after_ms": 2000}, status=429
    )
    with refused(429, "M_LIMIT_EXCEEDED") as caught:
        await policed.alice.send(policed.room_id, "again")
    assert caught.value.json["retry_after_ms"] == 2000
    assert await policed.bodies() == []
    with refused(404, "M_NOT_FOUND"):
        await policed.alice.state(policed.room_id, "m.room.name")


async def test_the_same_transaction_is_tried_again_after_a_refusal(policed: Policed) -> None:
    policed.refusals["second try"] = refusal(400, "M_FORBIDDEN")
    with refused(400, "M_FORBIDDEN"):
        await policed.alice.send(policed.room_id, "second try", txn_id="same")
    sent = await policed.alice.send(policed.room_id, "second try", txn_id="same")
    assert await policed.alice.send(policed.room_id, "second try", txn_id="same") == sent
    assert await policed.bodies() == ["second try"]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {PEER: {"ed25519:other": "c2lnbmF0dXJl"}},
        {PEER: {KEY_ID: 7}},
        {PEER: {KEY_ID: "not Base64!"}},
        {PEER: {KEY_ID: "c2lnbmF0dXJl"}},
        {"other.test": {KEY_ID: "c2lnbmF0dXJl"}},
    ],
)
async def test_an_answer_without_the_rooms_key_sends_nothing(policed: Policed, answer: JsonObject) -> None:
    policed.refusals["hello"] = web.json_response(answer)
    with refused(502, "M_UNKNOWN"):
        await policed.alice.send(policed.room_id, "hello")
    assert await policed.bodies() == []


async def test_a_server_that_is_no_policy_server_is_told_apart(policed: Policed) -> None:
    policed.refusals["hello"] = refusal(404, "M_UNRECOGNIZED")
    with refused(502, "M_UNKNOWN"):
        await policed.alice.send(policed.room_id, "hello")


async def test_a_room_can_always_do_without_its_policy_server(policed: Policed) -> None:
    policed.refusals[POLICY] = refusal(400, "M_FORBIDDEN")
    await policed.alice.set_state(policed.room_id, POLICY, {})
    await policed.alice.send(policed.room_id, "free again")
    assert policed.asked == []
    assert await policed.bodies() == ["free again"]


async def test_a_policy_server_without_a_member_in_the_room_is_none(policed: Policed) -> None:
    await policed.alice.post("/v3/rooms/{}/kick", policed.room_id, json={"user_id": MEMBER_OF_POLICY})
    assert [event["type"] for event in policed.asked] == ["m.room.member"]  # it had a say in that
    await policed.alice.send(policed.room_id, "on our own")
    assert len(policed.asked) == 1


@pytest.mark.parametrize(
    "content", [{"via": PEER}, {"via": 5, "public_keys": {"ed25519": "x"}}, {"public_keys": {"ed25519": "x"}}]
)
async def test_what_does_not_name_one_whole_is_none(policed: Policed, content: JsonObject) -> None:
    await policed.alice.set_state(policed.room_id, POLICY, content)
    await policed.alice.send(policed.room_id, "hello")
    assert policed.asked == []


async def test_a_room_that_names_its_own_server_does_not_ask_it(network: Network, alice: User) -> None:
    room_id = await alice.create_room()
    key = SigningKey.generate("policy_server").verify_key_base64
    await alice.set_state(room_id, POLICY, {"via": ACME, "public_keys": {"ed25519": key}})
    with refused(403, "M_FORBIDDEN"):
        await alice.send(room_id, "hello")
    await alice.set_state(room_id, POLICY, {})
    await alice.send(room_id, "hello")


async def test_those_who_send_at_the_same_time_wait_for_each_other(policed: Policed) -> None:
    sent = await asyncio.gather(*(policed.alice.send(policed.room_id, str(n)) for n in range(10)))
    assert sorted(await policed.bodies()) == sorted(str(n) for n in range(10))
    events = [await policed.stored(event_id) for event_id in sent]
    assert all(len(event["prev_events"]) == 1 for event in events)
    assert len({event["prev_events"][0] for event in events}) == 10
    assert len(policed.asked) == 10  # none was shown to it twice


async def test_events_of_others_are_shown_to_it_unless_they_were(policed: Policed) -> None:
    unsigned = policed.say("not shown to it yet")
    assert (await policed.rooms.transmit(ACME, unsigned)).json["pdus"] == {unsigned.event_id: {}}
    assert [event["content"]["body"] for event in policed.asked] == ["not shown to it yet"]
    policy = parse_policy(policed.content)
    assert policy is not None
    assert is_recommended(await policed.stored(unsigned.event_id), VERSION, policy)

    built = policed.say("signed before")
    signed = parse_pdu(policed.signed(built.json), VERSION)
    await policed.rooms.transmit(ACME, signed)
    assert len(policed.asked) == 1
    assert await policed.bodies() == ["not shown to it yet", "signed before"]


async def test_it_has_a_say_in_who_joins_through_this_server(policed: Policed) -> None:
    bob = await policed.network.globex_api.register("bob")
    policed.refusals["m.room.member"] = refusal(400, "M_FORBIDDEN")
    with refused(403, "M_FORBIDDEN"):
        await bob.post("/v3/join/{}", policed.room_id, query={"via": [ACME]})
    assert bob.user_id not in await joined(policed)
    carol = await policed.network.globex_api.register("carol")
    await carol.post("/v3/join/{}", policed.room_id, query={"via": [ACME]})
    assert carol.user_id in await joined(policed)
    assert {event["sender"] for event in policed.asked} == {bob.user_id, carol.user_id}


async def joined(policed: Policed) -> set[str]:
    """Who is in the room, as Alice sees it."""
    return set((await policed.alice.get("/v3/rooms/{}/joined_members", policed.room_id))["joined"])


async def test_events_of_others_that_it_does_not_sign_are_not_shown(policed: Policed) -> None:
    policed.refusals["spam"] = refusal(400, "M_FORBIDDEN")
    spam = policed.say("spam")
    forged = policed.say("forged")
    forged = parse_pdu(
        with_signature(forged.json, PEER, KEY_ID, SigningKey.generate().sign(b"anything")), VERSION
    )
    policed.refusals["forged"] = refusal(400, "M_FORBIDDEN")
    good = policed.say("good")
    answer = await policed.rooms.transmit(ACME, spam, forged, good)
    assert answer.json["pdus"] == {spam.event_id: {}, forged.event_id: {}, good.event_id: {}}
    assert await policed.bodies() == ["good"]
    await policed.alice.send(policed.room_id, "better")
    assert await policed.bodies() == ["good", "better"]
