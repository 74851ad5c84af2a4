"""The peer speaks rooms: it answers as a resident server does, joins rooms of others, and sends events.

What it answers can be replaced by name, so that it lies: ``rooms.lies["state_ids"] = …``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

import orjson
from aiohttp import web

from federation.building import build_event
from federation.canonical import JsonObject
from federation.event import PDU
from federation.room_versions import ROOM_VERSIONS, room_version
from homeserver.clock import now_ms
from tests.server_server.peer import Answer, Peer
from tests.server_server.peer_room import MEMBER, PeerRoom

V1, V2 = "/_matrix/federation/v1", "/_matrix/federation/v2"
MISSING_MAX = 20

Lie = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
_PATH = re.compile(r"/_matrix/federation/v[12]/([a-z_]+)/([^/?]+)(?:/([^/?]+))?")


def jsons(pdus: Iterable[PDU]) -> list[JsonObject]:
    """Events as they are sent."""
    return [pdu.json for pdu in pdus]


def said(json: object) -> Lie:
    """Always the same answer."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(json)

    return answer


@dataclass(slots=True)
class RoomPeer:
    """The rooms of one peer, and the nodes that it talks to."""

    peer: Peer
    ports: dict[str, int]
    """Of the nodes, by server name."""
    rooms: dict[str, PeerRoom] = field(default_factory=dict)
    lies: dict[str, Lie] = field(default_factory=dict)
    """Other answers, by the name of the endpoint, such as ``state_ids``."""
    asked: list[str] = field(default_factory=list)
    """The names of the endpoints that were asked."""
    transactions: list[JsonObject] = field(default_factory=list)
    """What nodes have sent."""
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def create(self, creator: str, version: str = "12", **options: Any) -> PeerRoom:
        """A new room of the peer's."""
        room = PeerRoom.create(self.peer.server_name, self.peer.key, creator, version, **options)
        self.rooms[room.room_id] = room
        return room

    def user(self, name: str) -> str:
        return f"@{name}:{self.peer.server_name}"

    # -- asking nodes

    async def join(self, server: str, room_id: str, user_id: str) -> PeerRoom:
        """Join a room in which ``server`` is, as one of the peer's users."""
        query = "&".join(f"ver={each}" for each in ROOM_VERSIONS)
        target = f"{V1}/make_join/{_segment(room_id)}/{_segment(user_id)}?{query}"
        template = await self._ask(server, "GET", target)
        join = self._signed(template, room_id)
        target = f"{V2}/send_join/{_segment(room_id)}/{_segment(join.event_id)}"
        answer = await self._ask(server, "PUT", target, join.json)
        event = answer.get("event", join.json)
        room = PeerRoom.joined(self.peer.server_name, self.peer.key, join.version.id, answer, event)
        self.rooms[room_id] = room
        return room

    async def transmit(self, server: str, *pdus: PDU | JsonObject, edus: Sequence[JsonObject] = ()) -> Answer:
        """One transaction with these events, whatever they are."""
        events = [pdu.json if isinstance(pdu, PDU) else pdu for pdu in pdus]
        content: JsonObject = {
            "origin": self.peer.server_name,
            "origin_server_ts": now_ms(),
            "pdus": events,
            "edus": list(edus),
        }
        target = f"{V1}/send/{next(self._numbers)}-{now_ms()}"
        return await self.peer.send(server, self.ports[server], "PUT", target, content)

    async def _ask(self, server: str, method: str, target: str, content: JsonObject | None = None) -> Any:
        answer = await self.peer.send(server, self.ports[server], method, target, content)
        assert answer.status == 200, f"{method} {target}: {answer.status} {answer.json}"
        return answer.json

    def _signed(self, template: JsonObject, room_id: str) -> PDU:
        """The event that ``make_join`` proposes, hashed and signed."""
        version = room_version(template.get("room_version", "1"))
        event = template["event"]
        prev_events, auth_events = event["prev_events"], event["auth_events"]
        hashes: dict[str, str] = {}
        if not version.event_id_is_hash:
            hashes = {event_id: each["sha256"] for event_id, each in (*prev_events, *auth_events)}
            prev_events, auth_events = ([each[0] for each in ids] for ids in (prev_events, auth_events))
        pdu, _ = build_event(
            version=version,
            room_id=room_id,
            type=event["type"],
            state_key=event["state_key"],
            sender=event["sender"],
            content=event["content"],
            prev_events=prev_events,
            auth_events=auth_events,
            depth=event["depth"],
            origin_server_ts=now_ms(),
            server_name=self.peer.server_name,
            key=self.peer.key,
            reference_hashes=hashes,
        )
        return pdu

    # -- being asked by nodes

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse | None:
        """Answer a request about rooms, or None where the peer has nothing to say."""
        matched = _PATH.fullmatch(request.rel_url.raw_path)
        if matched is None:
            return None
        name, first, second = (unquote(part or "") for part in matched.groups())
        self.asked.append(name)
        if (lie := self.lies.get(name)) is not None:
            return await lie(request)
        if name == "send":
            return await self._receive(request)
        if name == "event":
            return self._event(first)
        room = self.rooms.get(first)
        handler = _ANSWERS.get(name)
        if room is None or handler is None:
            return None
        json = handler(room, second, await _asked(request))
        return None if json is None else web.json_response(json)

    async def _receive(self, request: web.BaseRequest) -> web.Response:
        """Take a transaction in, as it comes."""
        transaction = orjson.loads(await request.read())
        self.transactions.append(transaction)
        results: JsonObject = {}
        for json in transaction["pdus"]:
            room = self.rooms.get(json.get("room_id", ""))
            if room is not None:
                results[room.hear(json).event_id] = {}
        return web.json_response({"pdus": results})

    def _event(self, event_id: str) -> web.Response | None:
        for room in self.rooms.values():
            if event_id in room.events:
                return web.json_response(_transaction(room, [room.events[event_id]]))
        return None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What else stands in a request."""

    query: Mapping[str, str]
    ids: Sequence[str]
    """``v`` of the query, which may be given many times."""
    body: JsonObject


async def _asked(request: web.BaseRequest) -> _Asked:
    body = orjson.loads(await request.read() or b"{}")
    return _Asked(request.query, request.query.getall("v", []), body)


def _transaction(room: PeerRoom, pdus: Iterable[PDU]) -> JsonObject:
    return {"origin": room.server_name, "origin_server_ts": now_ms(), "pdus": jsons(pdus)}


def _make_join(room: PeerRoom, user_id: str, asked: _Asked) -> JsonObject:
    join = room.build(user_id, MEMBER, {"membership": "join"}, user_id).json
    event = {key: join[key] for key in join if key not in ("signatures", "hashes", "event_id")}
    return {"room_version": room.version.id, "event": event}


def _send_join(room: PeerRoom, event_id: str, asked: _Asked) -> JsonObject:
    state = list(room.state.values())
    join = room.hear(asked.body)
    return {
        "origin": room.server_name,
        "event": join.json,
        "state": jsons(state),
        "auth_chain": jsons(room.auth_chain([*state, join])),
        "members_omitted": False,
    }


def _state(room: PeerRoom, _: str, asked: _Asked) -> JsonObject | None:
    state = room.states.get(asked.query.get("event_id", ""))
    if state is None:
        return None
    return {"pdus": jsons(state.values()), "auth_chain": jsons(room.auth_chain(state.values()))}


def _state_ids(room: PeerRoom, _: str, asked: _Asked) -> JsonObject | None:
    state = room.states.get(asked.query.get("event_id", ""))
    if state is None:
        return None
    chain = room.auth_chain(state.values())
    return {
        "pdu_ids": [pdu.event_id for pdu in state.values()],
        "auth_chain_ids": [pdu.event_id for pdu in chain],
    }


def _event_auth(room: PeerRoom, event_id: str, asked: _Asked) -> JsonObject | None:
    pdu = room.events.get(event_id)
    return None if pdu is None else {"auth_chain": jsons(room.auth_chain([pdu]))}


def _backfill(room: PeerRoom, _: str, asked: _Asked) -> JsonObject:
    return _transaction(room, room.before(asked.ids, int(asked.query["limit"])))


def _missing(room: PeerRoom, _: str, asked: _Asked) -> JsonObject:
    body = asked.body
    latest = [event_id for event_id in body["latest_events"] if event_id in room.events]
    start = [event_id for each in latest for event_id in room.events[each].prev_events]
    limit = min(body.get("limit", 10), MISSING_MAX)
    return {"events": jsons(reversed(room.before(start, limit, body["earliest_events"])))}


_ANSWERS: Mapping[str, Callable[[PeerRoom, str, _Asked], JsonObject | None]] = {
    "make_join": _make_join,
    "send_join": _send_join,
    "state": _state,
    "state_ids": _state_ids,
    "event_auth": _event_auth,
    "backfill": _backfill,
    "get_missing_events": _missing,
}


def _segment(text: str) -> str:
    return quote(text, safe="")
