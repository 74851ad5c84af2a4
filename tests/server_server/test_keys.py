"""Keys: published, fetched once, kept, rotated, and vouched for by notaries."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import quote

import pytest
import pytest_asyncio
from aiohttp import web

from federation.canonical import JsonObject
from federation.errors import BadSignature
from federation.keys import SigningKey
from federation.request_auth import authorization_header, parse_authorization
from federation.room_versions import room_version
from federation.server_keys import read_server_keys
from federation.signing import hash_and_sign_event, sign_json, verify_json
from federation.transport.address_guard import AddressGuard
from federation.transport.client import FederationClient
from federation.transport.connecting import Connections, trust
from federation.transport.discovery import Discovery
from federation.transport.dns import Dns
from homeserver.clock import now_ms
from homeserver.config.node import DatabaseConfig
from homeserver.federating.key_fetching import KeyFetching
from homeserver.federating.key_ring import REFETCH_MIN_MS, KeyRing
from homeserver.federating.own_keys import LIFETIME_MS, RENEWED_AFTER_MS, OwnKeys
from homeserver.storage.connection import Pool
from homeserver.storage.database import open_database
from tests.conformance import CHECKOUT, Exchanges
from tests.node import Node, free_port
from tests.server_server.certificates import Authority
from tests.server_server.conftest import ACME, GLOBEX, PEER, Network
from tests.server_server.peer import HOUR_MS, Peer

KEYS = "/_matrix/key/v2"
OURS = "ours.test"
V12, V4 = room_version("12"), room_version("4")


# --- what nodes publish, and vouch for


@pytest.mark.parametrize("path", ["server", "server/ed25519%3Atest"])
async def test_a_node_publishes_its_keys(network: Network, path: str) -> None:
    answer = await network.peer.send(ACME, network.ports[ACME], "GET", f"{KEYS}/{path}", headers={})
    keys = read_server_keys(answer.json, ACME, now_ms())
    assert list(keys.verify_keys) == ["ed25519:test"]
    assert keys.valid_until_ms - now_ms() > LIFETIME_MS - RENEWED_AFTER_MS - HOUR_MS


async def test_a_notary_hands_on_keys_with_its_own_signature(network: Network) -> None:
    port = network.ports[GLOBEX]
    own = (await network.peer.send(GLOBEX, port, "GET", f"{KEYS}/server", headers={})).json
    globex = read_server_keys(own, GLOBEX, now_ms()).verify_keys["ed25519:test"]
    for answer in (
        await network.peer.send(GLOBEX, port, "GET", f"{KEYS}/query/{ACME}", headers={}),
        await network.peer.send(GLOBEX, port, "GET", f"{KEYS}/query/{ACME}/ed25519%3Atest", headers={}),
        await network.peer.send(
            GLOBEX, port, "POST", f"{KEYS}/query", {"server_keys": {ACME: {"ed25519:test": {}}}}
        ),
    ):
        (document,) = answer.json["server_keys"]
        read_server_keys(document, ACME, now_ms())
        verify_json(document, GLOBEX, globex)


async def test_a_notary_answers_for_itself_and_leaves_out_whom_it_does_not_know(network: Network) -> None:
    wanted: JsonObject = {"server_keys": {ACME: {}, "stranger.test": {}, "not a name": {}}}
    answer = await network.peer.send(ACME, network.ports[ACME], "POST", f"{KEYS}/query", wanted)
    assert [document["server_name"] for document in answer.json["server_keys"]] == [ACME]
    for name in ("stranger.test", quote("not a name", safe="")):
        answer = await network.peer.send(ACME, network.ports[ACME], "GET", f"{KEYS}/query/{name}")
        assert answer.json == {"server_keys": []}


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"server_keys": []},
        {"server_keys": {ACME: []}},
        {"server_keys": {ACME: {"ed25519:1": 1}}},
        {"server_keys": {ACME: {"ed25519:1": {"minimum_valid_until_ts": "soon"}}}},
        {"server_keys": {f"{number}.test": {} for number in range(101)}},
    ],
)
async def test_a_query_that_is_wrong_is_refused(network: Network, content: JsonObject) -> None:
    answer = await network.peer.send(ACME, network.ports[ACME], "POST", f"{KEYS}/query", content)
    assert (answer.status, answer.errcode) == (400, "M_BAD_JSON")


async def rotate(node: Node, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "homeserver", "keys", "rotate", "--config", str(node.folder / "veche.toml"), *arguments),
        cwd=CHECKOUT,
        stdout=asyncio.subprocess.PIPE,
    )
    await process.communicate()
    assert process.returncode == 0


async def test_a_rotated_key_takes_over_and_the_old_one_is_listed(network: Network) -> None:
    node, port = network.globex, network.ports[GLOBEX]
    before = (node.folder / "signing.key").read_text().split()
    await rotate(node)
    assert await node.stop() == 0
    await node.start()
    answer = await network.peer.send(GLOBEX, port, "GET", f"{KEYS}/server", headers={})
    keys = read_server_keys(answer.json, GLOBEX, now_ms())
    assert list(keys.old_verify_keys) == [f"ed25519:{before[1]}"]
    assert keys.old_verify_keys["ed25519:test"].key == SigningKey.from_line(" ".join(before)).verify_key
    assert keys.old_verify_keys["ed25519:test"].expired_ms > now_ms()
    assert "ed25519:test" not in keys.verify_keys and len(keys.verify_keys) == 1
    assert oct((node.folder / "signing.key").stat().st_mode & 0o777) == "0o600"

    await rotate(node, "--stolen")
    assert await node.stop() == 0
    await node.start()
    answer = await network.peer.send(GLOBEX, port, "GET", f"{KEYS}/server", headers={})
    keys = read_server_keys(answer.json, GLOBEX, now_ms())
    assert len(keys.old_verify_keys) == 2
    assert min(old.expired_ms for old in keys.old_verify_keys.values()) <= now_ms()


# --- the ring of a node, with a time of its own


@dataclass(slots=True)
class Ring:
    """A key ring over a database, beside a peer and a notary."""

    pool: Pool
    peer: Peer
    notary: Peer
    fetching: KeyFetching
    now_ms: int
    keys: KeyRing = field(init=False)

    def __post_init__(self) -> None:
        self.keys = self.anew()

    def anew(self) -> KeyRing:
        """A ring on the same database that remembers nothing."""
        own = OwnKeys(OURS, SigningKey.generate("o1"), [], lambda: self.now_ms)
        return KeyRing(
            self.pool, own, self.fetching, [self.notary.server_name],
            cache_bytes=100_000, clock=lambda: self.now_ms,
        )  # fmt: skip

    async def request(self, key: SigningKey, body: bytes | None = None) -> None:
        """Verify a request of the peer that is signed with ``key``."""
        header = authorization_header(key, "GET", "/x", PEER, OURS, None)
        await self.keys.verify_request(parse_authorization(header), "GET", "/x", body)

    @property
    def fetches(self) -> int:
        return sum(target.startswith(f"{KEYS}/server") for _, target in self.peer.requests)


@pytest_asyncio.fixture
async def ring(database_url: str, authority: Authority, exchanges: Exchanges) -> AsyncIterator[Ring]:
    database = await open_database(DatabaseConfig(url=database_url), Path("unused"))
    await database.pool.execute("DELETE FROM server_keys")
    ca_file = str(authority.ca_file)
    peer = Peer(PEER, free_port(), SigningKey.generate("p1"), ca_file, exchanges)
    notary = Peer("notary.test", free_port(), SigningKey.generate("n1"), ca_file, exchanges)
    dns = Dns((["127.0.0.1"], 9))
    connections = Connections(dns, AddressGuard(), trust(ca_file), "test")
    hosts = {each.server_name: f"127.0.0.1:{each.port}" for each in (peer, notary)}
    hosts["nobody.test"] = f"127.0.0.1:{free_port()}"
    client = FederationClient(
        OURS,
        SigningKey.generate("o1"),
        connections,
        Discovery(connections, dns, hosts, now_ms, Random(1)),
        permits=lambda server: True,
        clock=now_ms,
        random=Random(1),
        observe=lambda outcome: None,
    )
    world = Ring(database.pool, peer, notary, KeyFetching(client), now_ms())
    async with notary.serving(authority.certificate("notary.test")):
        yield world
    await client.close()
    await database.close()


@pytest_asyncio.fixture
async def up(ring: Ring, authority: Authority) -> AsyncIterator[None]:
    """The peer answers."""
    async with ring.peer.serving(authority.certificate(PEER)):
        yield


def event(key: SigningKey, at_ms: int, version: str = "12") -> JsonObject:
    json: JsonObject = {
        "type": "m.room.message",
        "sender": f"@bob:{PEER}",
        "room_id": "!r:peer.test",
        "origin_server_ts": at_ms,
        "content": {"body": "Lunch?"},
        "depth": 1,
        "prev_events": [],
        "auth_events": [],
    }
    return hash_and_sign_event(json, room_version(version), PEER, key)


@pytest.mark.usefixtures("up")
async def test_keys_are_fetched_once_for_all_who_want_them_and_survive_a_restart(ring: Ring) -> None:
    await asyncio.gather(*(ring.request(ring.peer.key) for _ in range(20)))
    assert ring.fetches == 1
    ring.keys = ring.anew()
    await ring.request(ring.peer.key)
    assert ring.fetches == 1


@pytest.mark.usefixtures("up")
async def test_keys_that_ran_out_are_fetched_again_and_no_longer_sign_requests(ring: Ring) -> None:
    ring.peer.publish(ring.peer.key, valid_until_ms=ring.now_ms + HOUR_MS)
    await ring.request(ring.peer.key)
    ring.now_ms += HOUR_MS + 1
    with pytest.raises(BadSignature):
        await ring.request(ring.peer.key)
    assert ring.fetches == 2
    ring.now_ms += REFETCH_MIN_MS
    ring.peer.publish(ring.peer.key, valid_until_ms=ring.now_ms + HOUR_MS)
    await ring.request(ring.peer.key)


@pytest.mark.usefixtures("up")
async def test_unknown_keys_do_not_make_the_server_be_asked_again_and_again(ring: Ring) -> None:
    await ring.request(ring.peer.key)
    for _ in range(10):
        with pytest.raises(BadSignature):
            await ring.request(SigningKey.generate())
    assert ring.fetches == 1
    new = SigningKey.generate("p2")
    ring.peer.publish(new)
    ring.now_ms += REFETCH_MIN_MS
    await ring.request(new)
    assert ring.fetches == 2
    with pytest.raises(BadSignature):
        await ring.request(ring.peer.key)  # no longer current


@pytest.mark.usefixtures("up")
async def test_a_dropped_key_still_counts_for_events_of_its_time(ring: Ring) -> None:
    ring.peer.publish(ring.peer.key, valid_until_ms=ring.now_ms + HOUR_MS)
    then = event(ring.peer.key, ring.now_ms)
    await ring.keys.verify_event(then, V12)
    ring.peer.publish(SigningKey.generate("p2"), valid_until_ms=ring.now_ms + 5 * HOUR_MS)
    ring.now_ms += 2 * HOUR_MS
    with pytest.raises(BadSignature):
        await ring.keys.verify_event(event(ring.peer.key, ring.now_ms), V12)
    ring.keys = ring.anew()  # kept in the database too
    await ring.keys.verify_event(then, V12)
    with pytest.raises(BadSignature):
        await ring.keys.verify_event(event(ring.peer.key, ring.now_ms), V12)


@pytest.mark.usefixtures("up")
async def test_whether_a_key_has_to_be_valid_at_the_time_is_the_room_versions_to_say(ring: Ring) -> None:
    ring.peer.publish(ring.peer.key, valid_until_ms=ring.now_ms + HOUR_MS)
    late = ring.now_ms + 2 * HOUR_MS
    await ring.keys.verify_event(event(ring.peer.key, late, "4"), V4)
    with pytest.raises(BadSignature):
        await ring.keys.verify_event(event(ring.peer.key, late), V12)


@pytest.mark.usefixtures("up")
async def test_one_bad_event_among_many_harms_no_other(ring: Ring) -> None:
    events = [event(ring.peer.key, ring.now_ms + number) for number in range(20)]
    events[3] = {**events[3], "origin_server_ts": 1}
    events[7] = {**events[7], "signatures": {}}
    events[11] = event(SigningKey.generate("p1"), ring.now_ms)
    failures = await ring.keys.verify_events(events, V12)
    assert [index for index, failure in enumerate(failures) if failure is not None] == [3, 7, 11]
    assert ring.fetches == 1


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize(
    "change",
    [{"server_name": "other.test"}, {"valid_until_ts": "x"}, {"verify_keys": {}}, {"signatures": {}}],
)
async def test_a_document_with_faults_is_not_believed(ring: Ring, change: JsonObject) -> None:
    ring.peer.document = {**ring.peer.document, **change}
    with pytest.raises(BadSignature):
        await ring.request(ring.peer.key)


@pytest.mark.usefixtures("up")
async def test_a_server_that_failed_once_is_tried_again_for_who_asks_a_notary(ring: Ring) -> None:
    ring.now_ms -= HOUR_MS
    good, ring.peer.document = ring.peer.document, {}
    assert await ring.keys.documents(PEER, ring.now_ms) == []
    ring.peer.document = good
    with pytest.raises(BadSignature):
        await ring.request(ring.peer.key)  # which anybody can cause: it waits
    assert ring.fetches == 1
    assert await ring.keys.documents(PEER, ring.now_ms) == [good]


@pytest.mark.usefixtures("up")
async def test_a_notary_keeps_the_last_document_of_a_key_that_its_server_dropped(ring: Ring) -> None:
    until_ms = ring.now_ms + HOUR_MS
    ring.peer.publish(ring.peer.key, valid_until_ms=until_ms)
    [first] = await ring.keys.documents(PEER, ring.now_ms)
    ring.peer.publish(SigningKey.generate("p2"), valid_until_ms=until_ms + 1000)
    ring.now_ms = until_ms + 1
    second = ring.peer.document
    assert await ring.keys.documents(PEER, ring.now_ms) == [second]
    ring.keys = ring.anew()  # kept in the database too
    fetches = ring.fetches
    assert await ring.keys.documents(PEER, until_ms, [ring.peer.key.key_id]) == [first, second]
    assert ring.fetches == fetches  # about that time there is nothing new to be had
    ring.now_ms += 1000
    await ring.keys.documents(PEER, until_ms, [ring.peer.key.key_id, "ed25519:p2"])
    assert ring.fetches == fetches
    await ring.keys.documents(PEER, 0, ["ed25519:unknown"])
    assert ring.fetches == fetches + 1
    assert await ring.keys.documents(PEER, ring.now_ms, ["ed25519:p2", "ed25519:unknown"]) == [second]


@pytest.mark.usefixtures("up")
async def test_a_server_that_goes_on_failing_is_left_alone(ring: Ring) -> None:
    ring.peer.document = {}
    for _ in range(10):
        assert await ring.keys.documents(PEER, ring.now_ms) == []
        ring.now_ms += 1_001
    fetches = ring.fetches
    assert fetches < 10
    for _ in range(10):
        assert await ring.keys.documents(PEER, ring.now_ms) == []
    assert ring.fetches == fetches


async def vouch(ring: Ring, document: JsonObject) -> None:
    """Have the notary answer with a document, signed by it."""
    signed = sign_json(document, ring.notary.server_name, ring.notary.key)
    ring.notary.responses[f"{KEYS}/query"] = web.json_response({"server_keys": [signed]})


async def test_a_notary_is_asked_for_the_keys_of_a_server_that_is_away(ring: Ring) -> None:
    await vouch(ring, ring.peer.document)
    await ring.keys.verify_event(event(ring.peer.key, ring.now_ms), V12)
    ring.keys = ring.anew()
    await ring.keys.verify_event(event(ring.peer.key, ring.now_ms), V12)
    assert [target for _, target in ring.notary.requests] == [f"{KEYS}/server", f"{KEYS}/query"]


async def test_what_a_notary_did_not_sign_is_not_believed(ring: Ring) -> None:
    ring.notary.responses[f"{KEYS}/query"] = web.json_response({"server_keys": [ring.peer.document]})
    with pytest.raises(BadSignature):
        await ring.keys.verify_event(event(ring.peer.key, ring.now_ms), V12)


@pytest.mark.usefixtures("up")
async def test_the_last_document_is_handed_on_while_its_server_is_away(ring: Ring) -> None:
    assert await ring.keys.documents(PEER, ring.now_ms) == [ring.peer.document]
    assert await ring.keys.documents(PEER, ring.now_ms)
    assert ring.fetches == 1
    ring.now_ms += HOUR_MS // 2 + 1000  # half of its lifetime
    first = ring.peer.document
    ring.peer.document = {}
    assert await ring.keys.documents(PEER, ring.now_ms) == [first]
    assert ring.fetches == 2
    assert await ring.keys.documents("nobody.test", ring.now_ms) == []
