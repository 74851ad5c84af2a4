"""What comes of a request when the other server is well, and when it is not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import Random

import pytest
import pytest_asyncio
from aiohttp import web

from federation.backoff import DELAY_MIN_MS
from federation.canonical import JsonObject
from federation.keys import SigningKey
from federation.request_auth import parse_authorization, verify_request
from federation.transport.address_guard import AddressGuard
from federation.transport.client import FederationClient, path_of
from federation.transport.connecting import Connections, trust
from federation.transport.discovery import Discovery
from federation.transport.dns import Dns
from federation.transport.errors import (
    BackingOff,
    BadResponse,
    ForbiddenAddress,
    NotPermitted,
    Refused,
    RequestFailed,
    Unreachable,
)
from tests.node import free_port
from tests.server_server.certificates import Authority

OURS, THEIRS, IMPOSTOR, DEAD = "a.test", "b.test", "c.test", "dead.test"
KEY = SigningKey.generate("k1")
NOW_MS = 1_700_000_000_000
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class World:
    """A client, and a server whose next answer is ``handler``'s."""

    client: FederationClient
    handler: Handler
    asked: list[web.BaseRequest] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    now_ms: int = NOW_MS

    def answer(self, status: int = 200, body: bytes = b"{}", **headers: str) -> None:
        async def fixed(request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(status=status, body=body, headers=headers)

        self.handler = fixed

    async def ask(self, server: str = THEIRS, **options: object) -> JsonObject:
        return await self.client.request(server, "GET", "/_matrix/test", **options)  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def world(authority: Authority) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        port = free_port()
        dns = Dns((["127.0.0.1"], 9))  # nobody answers there: all names are configured
        connections = Connections(dns, AddressGuard(), trust(str(authority.ca_file)), "test")
        hosts = dict.fromkeys((THEIRS, IMPOSTOR), f"127.0.0.1:{port}")
        hosts[DEAD] = f"127.0.0.1:{free_port()}"
        client = FederationClient(
            OURS,
            KEY,
            connections,
            Discovery(connections, dns, hosts, lambda: world.now_ms, Random(1)),
            permits=lambda server: server != "stranger.test",
            clock=lambda: world.now_ms,
            random=Random(1),
            observe=lambda outcome: world.outcomes.update((outcome,)),
        )
        stack.push_async_callback(client.close)

        async def serve(request: web.BaseRequest) -> web.StreamResponse:
            world.asked.append(request)
            return await world.handler(request)

        world = World(client, serve)
        world.answer()
        runner = web.ServerRunner(web.Server(serve, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        tls = authority.certificate(THEIRS).tls()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
        yield world


async def test_a_request_arrives_as_it_was_signed(world: World) -> None:
    received: list[tuple[str, str, str, bytes]] = []

    async def echo(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        received.append((request.method, request.raw_path, request.headers["Authorization"], body))
        return web.json_response({"host": request.headers["Host"]})

    world.handler = echo
    path = path_of("/_matrix/test/{}/{}", "#a/b:c.test", "ä%")
    query = {"q": ["1", "2&3"], "x": "é +"}
    answer = await world.client.request(THEIRS, "PUT", path, query, {"b": [1.5], "a": "ü"})
    assert answer == {"host": THEIRS}
    ((method, uri, header, body),) = received
    assert uri == "/_matrix/test/%23a%2Fb%3Ac.test/%C3%A4%25?q=1&q=2%263&x=%C3%A9+%2B"
    credentials = parse_authorization(header)
    assert (credentials.origin, credentials.destination) == (OURS, THEIRS)
    verify_request(credentials, method, uri, THEIRS, body, {KEY.key_id: KEY.verify_key})


async def test_one_connection_serves_many_requests_of_one_server(world: World) -> None:
    for _ in range(3):
        await world.ask()
    assert len({request.transport for request in world.asked}) == 1
    assert world.outcomes == {"ok": 3}


async def test_a_server_without_its_certificate_is_told_nothing(world: World) -> None:
    with pytest.raises(Unreachable, match="certificate"):
        await world.ask(IMPOSTOR)
    await world.ask()
    with pytest.raises(Unreachable):  # nor over the other server's connection, to the same address
        await world.ask(IMPOSTOR, despite_backoff=True)
    assert len(world.asked) == 1


async def test_a_server_that_is_not_permitted_is_not_asked(world: World) -> None:
    with pytest.raises(NotPermitted) as failure:
        await world.ask("stranger.test")
    assert not failure.value.may_retry


@pytest.mark.parametrize("server", ["127.0.0.1:8008", "[::1]:8448", "10.0.0.1", "169.254.169.254:80"])
async def test_addresses_inside_are_not_contacted(world: World, server: str) -> None:
    with pytest.raises(ForbiddenAddress):
        await world.ask(server)


@pytest.mark.parametrize(
    ("status", "may_retry"),
    [(302, False), (400, False), (403, False), (404, False), (429, True), (502, True)],
)
async def test_a_refusal_carries_what_the_server_said(world: World, status: int, may_retry: bool) -> None:
    world.answer(status, b'{"errcode": "M_X", "error": "Not\\u0007 now", "retry_after_ms": 5000}')
    with pytest.raises(Refused) as failure:
        await world.ask()
    refused = failure.value
    assert (refused.status, refused.errcode, refused.message) == (status, "M_X", "Not now")
    assert refused.may_retry is may_retry
    assert (world.client.backoffs.get(THEIRS) is not None) is may_retry


async def test_a_refusal_may_say_nothing_at_all(world: World) -> None:
    for body in (b"", b"<html>", b"[]", b'{"errcode": 1}', b"x" * 100_000):
        world.answer(404, body)
        with pytest.raises(Refused) as failure:
            await world.ask()
        assert (failure.value.errcode, failure.value.message) == ("", "")


async def test_a_server_that_fails_is_left_alone_until_it_is_due_or_heard_from(world: World) -> None:
    with pytest.raises(Unreachable):
        await world.ask(DEAD)
    with pytest.raises(BackingOff) as failure:
        await world.ask(DEAD)
    assert world.now_ms < failure.value.retry_at_ms <= world.now_ms + DELAY_MIN_MS
    with pytest.raises(Unreachable):
        await world.ask(DEAD, despite_backoff=True)
    world.client.backoffs.succeeded(DEAD)
    with pytest.raises(Unreachable):
        await world.ask(DEAD)
    world.now_ms += DELAY_MIN_MS
    with pytest.raises(Unreachable):
        await world.ask(DEAD)
    state = world.client.backoffs.get(DEAD)
    assert state is not None and state.failures == 2


async def test_a_server_asks_for_time_by_its_header(world: World) -> None:
    world.answer(429, b"{}", **{"Retry-After": "30"})
    with pytest.raises(Refused) as failure:
        await world.ask()
    assert failure.value.retry_after_ms == 30_000
    assert world.client.backoffs.retry_at_ms(THEIRS, world.now_ms) == world.now_ms + 30_000
    world.answer()
    await world.ask(despite_backoff=True)
    assert world.client.backoffs.get(THEIRS) is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"a":' * 1030 + b"1" + b"}" * 1030, b'{"a":"\xff"}'], ids=len
)
async def test_an_answer_that_is_no_object_of_bounded_depth_is_refused(world: World, body: bytes) -> None:
    world.answer(200, body)
    with pytest.raises(BadResponse):
        await world.ask()


async def test_the_entries_of_a_large_list_come_unread(world: World) -> None:
    world.answer(200, b'{"events": [{"a": 1}, "text", [ ]], "else": [2]}')
    answer = await world.ask(unread_lists=("events", "not there"))
    assert [bytes(entry) for entry in answer["events"]] == [b'{"a": 1}', b'"text"', b"[ ]"]
    assert answer["else"] == [2]


@pytest.mark.parametrize(
    "body",
    [b"[]", b'{"events": {}}', b'{"events": [1}', b'{"events": [' + b"[" * 1030 + b"]" * 1031 + b"}"],
    ids=len,
)
async def test_an_answer_without_the_list_that_it_should_hold_is_refused(world: World, body: bytes) -> None:
    world.answer(200, body)
    with pytest.raises(BadResponse):
        await world.ask(unread_lists=("events",))


async def test_an_answer_without_end_is_cut_off(world: World) -> None:
    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65536)

    world.handler = endless
    with pytest.raises(BadResponse, match="more than 100000 bytes"):
        await world.ask(response_bytes_max=100_000)


async def test_a_compressed_answer_is_bounded_by_what_it_unpacks_to(world: World) -> None:
    async def bomb(request: web.BaseRequest) -> web.StreamResponse:
        response = web.Response(body=b'{"a":"' + b" " * 5_000_000 + b'"}')
        response.enable_compression(web.ContentCoding.gzip)
        return response

    world.handler = bomb
    with pytest.raises(BadResponse):
        await world.ask(response_bytes_max=1_000_000)
    assert len((await world.ask(response_bytes_max=6_000_000))["a"]) == 5_000_000


@pytest.mark.parametrize("after_head", [False, True])
async def test_an_answer_that_does_not_come_ends_in_time(world: World, after_head: bool) -> None:
    gone = asyncio.Event()

    async def silent(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        if after_head:
            await response.prepare(request)
            await response.write(b"{")
        await gone.wait()
        return response

    world.handler = silent
    with pytest.raises(Unreachable, match="in time"):
        await world.ask(timeout_s=0.2)
    gone.set()


async def test_a_connection_that_breaks_off_is_a_failure_to_reach(world: World) -> None:
    async def broken(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"{")
        assert request.transport is not None
        request.transport.abort()
        return response

    world.handler = broken
    with pytest.raises(RequestFailed) as failure:
        await world.ask()
    assert isinstance(failure.value, Unreachable) and failure.value.may_retry
