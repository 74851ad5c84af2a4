"""What tests against hostile servers share: a room with a liar in it, and what has to go on nevertheless."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from federation.canonical import JsonObject
from federation.event import PDU, parse_pdu
from federation.signing import hash_and_sign_event
from tests.api.client import Refused, User, timeline_of
from tests.server_server.conftest import ACME, Network
from tests.server_server.peer_room import PeerRoom
from tests.server_server.room_peer import RoomPeer

DEADLINE_S = 20.0
WAITING = 'queue_depth{queue="waiting_events"}'
ANSWER_MAX_S = 5.0
"""A node that is busy with a liar still answers its own users within this time."""


@dataclass(slots=True)
class Scene:
    """Alice's room on the first company's node; Mallory is in it, from a server that lies."""

    network: Network
    rooms: RoomPeer
    alice: User
    room: PeerRoom
    mallory: str

    @classmethod
    async def made(cls, network: Network, rooms: RoomPeer, alice: User) -> Scene:
        """A new room."""
        mallory = rooms.user("mallory")
        room = await rooms.join(ACME, await alice.create_room(), mallory)
        return cls(network, rooms, alice, room, mallory)

    @property
    def room_id(self) -> str:
        return self.room.room_id

    def forged(self, **fields: Any) -> PDU:
        """A message of Mallory's with these fields, hashed and signed as it stands; None drops a field."""
        json = {**self.room.build(self.mallory).json, **fields}
        json = {name: value for name, value in json.items() if value is not None}
        for name in ("hashes", "signatures"):
            del json[name]
        signed = hash_and_sign_event(json, self.room.version, self.room.server_name, self.room.key)
        return parse_pdu(signed, self.room.version)

    async def send(self, *pdus: PDU | JsonObject) -> Mapping[str, JsonObject]:
        """The node's results, by event ID."""
        answer = await self.rooms.transmit(ACME, *pdus)
        assert answer.status == 200, answer
        results: JsonObject = answer.json["pdus"]
        return results

    async def refused(self, *pdus: PDU) -> None:
        """Send events that the node refuses, each with a reason, and shows to nobody."""
        results = await self.send(*pdus)
        for pdu in pdus:
            assert results[pdu.event_id].get("error"), (pdu.type, results)
        await self.unseen(*pdus)

    async def unseen(self, *pdus: PDU) -> None:
        """None of these events is shown to Alice."""
        for pdu in pdus:
            try:
                await self.alice.event(self.room_id, pdu.event_id)
            except Refused as refusal:
                assert refusal.status == 404, refusal
            else:
                raise AssertionError(f"{pdu} is shown")

    async def seen(self, event_id: str) -> JsonObject:
        """The event as Alice's sync brings it."""
        since: str | None = None
        async with asyncio.timeout(DEADLINE_S):
            while True:
                answer = await self.alice.sync(since, timeout_ms=1000 if since else 0)
                since = answer["next_batch"]
                for event in timeline_of(answer, self.room_id):
                    if event["event_id"] == event_id:
                        return event

    async def usable(self) -> None:
        """The node answers quickly, its users can talk, and what the liar says truly still arrives."""
        started = time.monotonic()
        said = await self.alice.send(self.room_id, "Is everything all right?")
        assert time.monotonic() - started < ANSWER_MAX_S
        await self.seen(said)
        honest = self.room.make(self.mallory, content={"msgtype": "m.text", "body": "Of course"})
        results = await self.send(honest)
        assert results == {honest.event_id: {}}
        assert (await self.seen(honest.event_id))["content"] == honest.content

    @asynccontextmanager
    async def counted(self, reason: str, count: int = 1) -> AsyncIterator[None]:
        """The block makes the node refuse so many events for this reason, and count them."""
        line = f'federation_events_refused_total{{reason="{reason}"}}'
        before = await self.metric(line)
        yield
        assert await self.metric(line) - before >= count, reason

    @asynccontextmanager
    async def came_to(self, outcome: str, count: int = 1) -> AsyncIterator[None]:
        """So many events of the block come to this outcome, and are counted."""
        line = f'federation_events_received_total{{outcome="{outcome}"}}'
        before = await self.metric(line)
        yield
        assert await self.metric(line) - before >= count, outcome

    @asynccontextmanager
    async def worked_off(self) -> AsyncIterator[None]:
        """What the block sends, and the node has to fetch something for, comes to an end."""
        before = await self.metric(WAITING)
        yield
        async with asyncio.timeout(DEADLINE_S):
            while await self.metric(WAITING) > before:
                await self.alice.sync()

    async def was_asked(self, *names: str) -> None:
        """Return when the node has asked the liar for all of these."""
        async with asyncio.timeout(DEADLINE_S):
            while not set(names) <= set(self.rooms.asked):
                await self.alice.sync()

    async def metric(self, line: str) -> float:
        """A value of the node's metrics."""
        return await self.network.metric(self.network.acme, line)


def forever(chunk: bytes, ended: asyncio.Event) -> Any:
    """An answer that has no end; ``ended`` is set when the node has enough of it."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            await response.prepare(request)
            await response.write(b'{"events": [')
            while True:
                await response.write(chunk)
        except ConnectionError:
            return response
        finally:
            ended.set()

    return answer


def never(asked: asyncio.Event, release: asyncio.Event) -> Any:
    """An answer that does not come until ``release`` is set."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.set()
        await release.wait()
        return web.json_response({}, status=500)

    return answer


def unknown_id(number: int) -> str:
    """The ID of an event that nobody has."""
    return "$" + f"{number}".rjust(43, "A")


def references(count: int, start: int = 0) -> Sequence[str]:
    """So many IDs of events that nobody has."""
    return [unknown_id(start + number) for number in range(count)]
