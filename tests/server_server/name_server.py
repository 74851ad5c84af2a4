"""A DNS server on loopback for invented names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

TTL_S = 300


@dataclass(slots=True)
class NameServer:
    """Records by ``(name with final dot, type)``, as in a zone file; names in ``failing`` get SERVFAIL."""

    records: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0

    def add(self, name: str, kind: str, *values: str) -> None:
        self.records[(name, kind)] = list(values)

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        question = query.question[0]
        name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if name in self.failing:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif (name, kind) in self.records:
            response.answer.append(dns.rrset.from_text(name, TTL_S, "IN", kind, *self.records[(name, kind)]))
        elif not any(name == known for known, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[NameServer]:
        """Answer over UDP while the block runs."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Protocol(self), local_addr=("127.0.0.1", 0)
        )
        try:
            self.port = transport.get_extra_info("sockname")[1]
            yield self
        finally:
            transport.close()


class _Protocol(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server
        self._transport: Any = None  # the loop's own class, which is no DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        response = self._server.answer(dns.message.from_wire(data))
        self._transport.sendto(response.to_wire(), address)
