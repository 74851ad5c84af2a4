"""Bounds that hold whoever asks: connections, what a user may store, and how addresses are counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from homeserver.accounts.account_data import BYTES_MAX, CONTENT_BYTES_MAX
from tests.api.client import User, refused
from tests.node import Node

CONNECTIONS_MAX = 8
SETTINGS = {
    "limits": {"max_connections": CONNECTIONS_MAX},
    "listeners": {"trusted_proxies": ["127.0.0.1/32"]},
}
REQUEST = b"GET /_matrix/client/versions HTTP/1.1\r\nHost: localhost\r\n\r\n"
PATIENCE_S = 10.0


@asynccontextmanager
async def _connection(node: Node) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, bytes]:
    """The status and head of the answer to a request."""
    writer.write(REQUEST)
    async with asyncio.timeout(PATIENCE_S):
        head = await reader.readuntil(b"\r\n\r\n")
    return int(head.split()[1]), head


async def test_connections_beyond_the_limit_are_refused_in_the_standard_form(node: Node) -> None:
    async with AsyncExitStack() as held:
        for _ in range(CONNECTIONS_MAX):
            reader, writer = await held.enter_async_context(_connection(node))
            status, _ = await _ask(reader, writer)
            assert status == 200
        async with _connection(node) as (reader, writer):
            status, head = await _ask(reader, writer)
            assert status == 503
            assert b"Retry-After" in head
            async with asyncio.timeout(PATIENCE_S):
                body = await reader.read()
            assert json.loads(body)["errcode"] == "M_UNKNOWN"
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with _connection(node) as (reader, writer):
                status, _ = await _ask(reader, writer)
            if status == 200:
                break


async def test_a_user_stores_so_much_account_data_and_no_more(alice: User) -> None:
    padding = "x" * (CONTENT_BYTES_MAX - 100)
    for number in range(BYTES_MAX // CONTENT_BYTES_MAX):
        path = ("/v3/user/{}/account_data/{}", alice.user_id, f"com.example.{number}")
        await alice.put(*path, json={"padding": padding})
    with refused(413, "M_TOO_LARGE"):
        await alice.put(
            "/v3/user/{}/account_data/{}", alice.user_id, "com.example.more", json={"padding": padding}
        )
    await alice.put("/v3/user/{}/account_data/{}", alice.user_id, "com.example.0", json={"padding": "less"})


async def test_a_client_cannot_make_its_address_up_before_a_trusted_proxy(node: Node, alice: User) -> None:
    assert alice.token is not None
    async with _connection(node) as (reader, writer):
        writer.write(
            b"GET /_matrix/client/v3/account/whoami HTTP/1.1\r\nHost: localhost\r\n"
            b"Authorization: Bearer %b\r\nX-Forwarded-For: 192.0.2.66\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n"
            % alice.token.encode()
        )
        async with asyncio.timeout(PATIENCE_S):
            assert b" 200 " in await reader.readuntil(b"\r\n")
    [device] = (await alice.get("/v3/devices"))["devices"]
    assert device["last_seen_ip"] == "192.0.2.7"
