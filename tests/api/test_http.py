"""HTTP itself: what is no request is refused in the standard form, and leaves no traceback."""

from __future__ import annotations

import asyncio
import json

from tests.node import Node


async def _raw(node: Node, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """The status, headers and body of the answer to some bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    try:
        writer.write(request)
        async with asyncio.timeout(10):
            answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(status.split()[1]), headers, body


async def test_a_request_that_cannot_be_parsed_is_refused_in_the_standard_form(node: Node) -> None:
    status, headers, body = await _raw(node, b"GET /\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status == 400
    assert headers["content-type"].startswith("application/json")
    assert json.loads(body)["errcode"] == "M_UNKNOWN"


async def test_too_long_headers_are_refused(node: Node) -> None:
    request = b"GET /_matrix/client/versions HTTP/1.1\r\nHost: localhost\r\nX-Long: %b\r\n\r\n" % (
        b"x" * 20_000
    )
    status, _, body = await _raw(node, request)
    assert status == 400
    assert "errcode" in json.loads(body)
