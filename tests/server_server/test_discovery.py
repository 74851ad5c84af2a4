"""From a server's name to an address, a Host header and a certificate name.

Source: Server-Server API, "Resolving server names". Names are of a DNS server on loopback, and well-known
files of an HTTPS server there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import Random

import pytest
import pytest_asyncio
from aiohttp import web

from federation.server_names import ERROR_LIFETIME_MIN_MS, HOUR_MS, LIFETIME_DEFAULT_MS
from federation.transport.address_guard import AddressGuard
from federation.transport.connecting import Connections, Endpoint, Target, trust
from federation.transport.discovery import REDIRECTS_MAX, WELL_KNOWN_BYTES_MAX, Discovery
from federation.transport.dns import Dns, SrvTarget, in_order
from federation.transport.errors import ForbiddenAddress, Unreachable
from tests.node import free_port
from tests.server_server.certificates import Authority
from tests.server_server.name_server import NameServer

NAME = "company.test"
HOSTS = ("company.test", "www.company.test", "matrix.partner.test")
NOW_MS = 1_700_000_000_000


@dataclass(slots=True)
class World:
    """What is outside: names, well-known files by host, and the time."""

    names: NameServer
    discovery: Discovery
    connections: Connections
    port: int
    files: dict[str, web.Response] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    now_ms: int = NOW_MS

    def delegate(self, server: str, host: str = NAME, **headers: str) -> None:
        """Have the host's well-known file delegate to ``server``."""
        self.files[host] = web.json_response({"m.server": server}, headers=headers)

    def redirect(self, url: str, host: str = NAME) -> None:
        self.files[host] = web.Response(status=302, headers={"Location": url})

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        host = request.host.partition(":")[0]
        self.asked[host] += 1
        found = self.files.get(host)
        if found is None or request.path != "/.well-known/matrix/server":
            return web.Response(status=404)
        return web.Response(body=found.body, status=found.status, headers=found.headers)


@pytest_asyncio.fixture
async def world(authority: Authority) -> AsyncIterator[World]:
    """A DNS server, a web server with certificates of all HOSTS, and discovery between them."""
    async with AsyncExitStack() as stack:
        names = await stack.enter_async_context(NameServer().serving())
        for host in HOSTS:
            names.add(f"{host}.", "A", "127.0.0.1")
        port = free_port()
        dns = Dns((["127.0.0.1"], names.port))
        guard = AddressGuard(["127.0.0.0/8"])
        connections = Connections(dns, guard, trust(str(authority.ca_file)), "test")
        stack.push_async_callback(connections.close)
        hosts = {"fixed.test": "192.0.2.7:444", "fixed.test:999": "inner.test"}
        discovery = Discovery(connections, dns, hosts, lambda: world.now_ms, Random(1), well_known_port=port)
        world = World(names, discovery, connections, port)
        runner = web.ServerRunner(web.Server(world.answer, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=authority.certificate(*HOSTS).tls()).start()
        yield world


@pytest.mark.parametrize(
    ("name", "endpoint", "host_header", "certificate"),
    [
        # Step 1
        ("192.0.2.1", Endpoint("192.0.2.1", 8448), "192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:1234", Endpoint("192.0.2.1", 1234), "192.0.2.1:1234", "192.0.2.1"),
        ("[2001:db8::1]:1234", Endpoint("2001:db8::1", 1234), "[2001:db8::1]:1234", "2001:db8::1"),
        # Step 2
        ("company.test:1234", Endpoint("company.test", 1234), "company.test:1234", "company.test"),
        # Fixed addresses: Host and certificate are the server's own
        ("fixed.test", Endpoint("192.0.2.7", 444, True), "fixed.test", "fixed.test"),
        ("fixed.test:999", Endpoint("inner.test", 999, True), "fixed.test:999", "fixed.test"),
    ],
)
async def test_names_that_say_it_all_are_not_looked_up(
    world: World, name: str, endpoint: Endpoint, host_header: str, certificate: str
) -> None:
    assert await world.discovery.find(name) == Target([endpoint], host_header, certificate)
    assert not world.asked and not world.names.asked


@pytest.mark.parametrize(
    ("delegated", "endpoint", "host_header", "certificate"),
    [
        ("192.0.2.1", Endpoint("192.0.2.1", 8448), "192.0.2.1", "192.0.2.1"),  # step 3.1
        ("[2001:db8::1]:7", Endpoint("2001:db8::1", 7), "[2001:db8::1]:7", "2001:db8::1"),
        ("m.partner.test:7", Endpoint("m.partner.test", 7), "m.partner.test:7", "m.partner.test"),  # 3.2
        ("m.partner.test", Endpoint("m.partner.test", 8448), "m.partner.test", "m.partner.test"),  # 3.5
    ],
)
async def test_a_well_known_file_delegates(
    world: World, delegated: str, endpoint: Endpoint, host_header: str, certificate: str
) -> None:
    world.delegate(delegated)
    assert await world.discovery.find(NAME) == Target([endpoint], host_header, certificate)


@pytest.mark.parametrize("service", ["_matrix-fed._tcp", "_matrix._tcp"])
async def test_service_records_of_a_delegated_name_count(world: World, service: str) -> None:
    world.delegate("partner.test")  # steps 3.3 and 3.4
    world.names.add(f"{service}.partner.test.", "SRV", "10 0 4000 node.hosting.test.")
    expected = Target([Endpoint("node.hosting.test", 4000)], "partner.test", "partner.test")
    assert await world.discovery.find(NAME) == expected


@pytest.mark.parametrize("service", ["_matrix-fed._tcp", "_matrix._tcp"])
async def test_service_records_count_without_a_well_known_file(world: World, service: str) -> None:
    world.names.add(f"{service}.{NAME}.", "SRV", "20 0 2 b.test.", "10 0 1 a.test.")  # steps 4 and 5
    expected = Target([Endpoint("a.test", 1), Endpoint("b.test", 2)], NAME, NAME)
    assert await world.discovery.find(NAME) == expected


async def test_the_new_service_name_comes_before_the_old_one(world: World) -> None:
    world.names.add(f"_matrix-fed._tcp.{NAME}.", "SRV", "10 0 1 new.test.")
    world.names.add(f"_matrix._tcp.{NAME}.", "SRV", "10 0 2 old.test.")
    assert (await world.discovery.find(NAME)).endpoints == [Endpoint("new.test", 1)]


async def test_a_service_that_is_declared_absent_is_not_tried(world: World) -> None:
    world.names.add(f"_matrix-fed._tcp.{NAME}.", "SRV", "0 0 0 .")
    with pytest.raises(Unreachable, match="no such service"):
        await world.discovery.find(NAME)


async def test_without_any_hint_the_port_is_8448(world: World) -> None:
    world.names.failing.add(f"_matrix._tcp.{NAME}.")
    assert await world.discovery.find(NAME) == Target([Endpoint(NAME, 8448)], NAME, NAME)  # step 6


@pytest.mark.parametrize("name", ["", "a b", "x" * 300, "[::1", "a:0"])
async def test_what_is_no_name_is_not_reached(world: World, name: str) -> None:
    with pytest.raises(Unreachable):
        await world.discovery.find(name)


async def test_redirects_are_followed_to_https_only_and_not_for_ever(world: World) -> None:
    world.redirect(f"https://www.company.test:{world.port}/.well-known/matrix/server")
    world.delegate("m.partner.test:7", host="www.company.test")
    assert (await world.discovery.find(NAME)).certificate_name == "m.partner.test"
    for target in (f"http://www.company.test:{world.port}/", "/.well-known/matrix/server", "//", "https://"):
        world.redirect(target)
        world.now_ms += 48 * HOUR_MS
        assert (await world.discovery.find(NAME)).certificate_name == NAME, target
    assert world.asked[NAME] <= 4 * (REDIRECTS_MAX + 1)


@pytest.mark.parametrize(
    "response",
    [
        web.Response(text="{"),
        web.Response(status=500, text='{"m.server": "m.partner.test"}'),
        web.Response(text='{"m.server": "m.partner.test"' + " " * WELL_KNOWN_BYTES_MAX + "}"),
        web.Response(text='{"m.server": "not a name"}'),
    ],
    ids=["JSON", "status", "size", "name"],
)
async def test_a_file_that_is_not_right_is_as_none(world: World, response: web.Response) -> None:
    world.files[NAME] = response
    assert (await world.discovery.find(NAME)).certificate_name == NAME


async def test_a_file_of_a_host_without_its_certificate_is_as_none(world: World) -> None:
    world.names.add("forged.test.", "A", "127.0.0.1")
    world.delegate("m.partner.test", host="forged.test")
    assert (await world.discovery.find("forged.test")).certificate_name == "forged.test"
    assert not world.asked


async def test_answers_are_kept_as_long_as_they_say(world: World) -> None:
    world.delegate("m.partner.test:7", **{"Cache-Control": "max-age=3600"})
    for after_ms, asked in ((0, 1), (HOUR_MS - 1, 1), (HOUR_MS, 2)):
        world.now_ms = NOW_MS + after_ms
        await world.discovery.find(NAME)
        assert world.asked[NAME] == asked
    world.delegate("other.test:7")
    world.now_ms += HOUR_MS
    assert (await world.discovery.find(NAME)).certificate_name == "other.test"
    world.now_ms += LIFETIME_DEFAULT_MS - 1
    await world.discovery.find(NAME)
    assert world.asked[NAME] == 3


async def test_failures_are_kept_too_and_longer_each_time(world: World) -> None:
    for wait_ms, asked in ((0, 1), (1, 1), (ERROR_LIFETIME_MIN_MS, 2), (ERROR_LIFETIME_MIN_MS, 2)):
        world.now_ms += wait_ms
        await world.discovery.find(NAME)
        assert world.asked[NAME] == asked


async def test_a_private_address_is_not_contacted_whatever_the_name_says(
    world: World, authority: Authority
) -> None:
    dns = Dns((["127.0.0.1"], world.names.port))
    connections = Connections(dns, AddressGuard(), trust(str(authority.ca_file)), "test")
    try:
        for endpoint in (Endpoint(NAME, world.port), Endpoint("127.0.0.1", world.port)):
            with pytest.raises(ForbiddenAddress):
                async with connections.request(NAME, Target([endpoint], NAME, NAME), "GET", "/", {}):
                    pass
        assert not world.asked
        configured = Endpoint("127.0.0.1", world.port, is_configured=True)
        target = Target([configured], NAME, NAME)
        async with connections.request(NAME, target, "GET", "/", {}) as response:
            assert response.status == 404
    finally:
        await connections.close()


async def test_localhost_is_this_machine_whatever_the_dns_says_and_private_all_the_same(
    world: World, authority: Authority
) -> None:
    dns = Dns((["127.0.0.1"], world.names.port))
    assert [str(address) for address in await dns.addresses("LocalHost")] == ["127.0.0.1", "::1"]
    assert not world.names.asked
    connections = Connections(dns, AddressGuard(), trust(str(authority.ca_file)), "test")
    try:
        target = Target([Endpoint("localhost", world.port)], "localhost", "localhost")
        with pytest.raises(ForbiddenAddress):
            async with connections.request("localhost", target, "GET", "/", {}):
                pass
        assert not world.asked
    finally:
        await connections.close()


async def test_another_address_is_tried_where_one_does_not_answer(world: World) -> None:
    world.names.add("www.company.test.", "A", "127.0.0.9", "127.0.0.1")
    target = Target([Endpoint("www.company.test", world.port)], NAME, NAME)
    async with world.connections.request(NAME, target, "GET", "/", {}) as response:
        assert response.status == 404


async def test_a_name_without_address_and_one_that_cannot_be_looked_up_are_unreachable(
    world: World,
) -> None:
    world.names.failing.add("broken.test.")
    for host in ("nowhere.test", "broken.test"):
        target = Target([Endpoint(host, world.port)], NAME, NAME)
        with pytest.raises(Unreachable):
            async with world.connections.request(NAME, target, "GET", "/", {}):
                pass


def test_targets_come_by_priority_then_by_weight() -> None:
    targets = [SrvTarget(f"{p}-{w}", 1, p, w) for p in (20, 10) for w in (0, 90, 10)]
    first = Counter(in_order(targets, Random(seed))[0].host for seed in range(500))
    assert set(first) <= {"10-0", "10-90", "10-10"}
    assert first["10-90"] > 400 > first["10-10"] > 20
    assert [t.priority for t in in_order(targets, Random(1))] == [10, 10, 10, 20, 20, 20]
