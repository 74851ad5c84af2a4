"""A thin client of the Client-Server API for tests: every response passes through `tests.conformance`."""

from __future__ import annotations

import hashlib
import hmac
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import orjson
import pytest
from yarl import URL

from tests.conformance import Observer

JsonObject = dict[str, Any]
Query = Mapping[str, object]

PREFIX = "/_matrix/client"
PASSWORD = "correct horse battery"
REQUEST_TIMEOUT_S = 60.0
_numbers = itertools.count(1)


class Refused(Exception):
    """A response with a status of 400 or more."""

    def __init__(self, method: str, path: str, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        super().__init__(f"{method} {path}: {status} {body[:500].decode(errors='replace')}")
        self.status = status
        self.headers = headers
        self.json: JsonObject = orjson.loads(body) if body.startswith(b"{") else {}
        self.errcode: str = self.json.get("errcode", "")


@contextmanager
def refused(status: int, errcode: str) -> Iterator[pytest.ExceptionInfo[Refused]]:
    """The block ends in a refusal with this status and errcode."""
    with pytest.raises(Refused) as caught:
        yield caught
    assert (caught.value.status, caught.value.errcode) == (status, errcode), str(caught.value)


@dataclass(frozen=True, slots=True)
class Answer:
    """One response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


def http_session() -> aiohttp.ClientSession:
    """A session for many users at once, which keeps nothing between requests but connections."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
    )


def path_of(template: str, segments: Sequence[str]) -> str:
    """The percent-encoded path for a template such as ``/v3/rooms/{}/send/{}/{}``."""
    prefix = "" if template.startswith(("/_", "/.well-known", "/livekit/")) else PREFIX
    return prefix + template.format(*(quote(segment, safe="") for segment in segments))


def _query_string(query: Query | None) -> str:
    pairs: list[tuple[str, str]] = []
    for name, value in (query or {}).items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, bool):
                pairs.append((name, "true" if each else "false"))
            elif isinstance(each, dict):
                pairs.append((name, orjson.dumps(each).decode()))
            elif each is not None:
                pairs.append((name, str(each)))
    return f"?{urlencode(pairs)}" if pairs else ""


@dataclass(slots=True)
class Api:
    """Requests to one node, with an access token or without.

    Paths are templates relative to ``/_matrix/client``, their placeholders are filled with percent-encoded
    ``segments``. Query values that are dicts are sent as JSON, lists as repeated parameters, None not at all.
    """

    http: aiohttp.ClientSession
    url: str
    server_name: str
    exchanges: Observer
    token: str | None = None

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request, with a percent-encoded path; whatever the status, the answer is returned."""
        sent = {"Content-Type": "application/json"} if body is not None else {}
        if self.token is not None:
            sent["Authorization"] = f"Bearer {self.token}"
        sent |= headers or {}
        url = URL(self.url + path, encoded=True)
        async with self.http.request(method, url, data=body, headers=sent, allow_redirects=False) as response:
            received = await response.read()
            content_type = response.headers.get("Content-Type", "")
            if method != "HEAD":
                self.exchanges.observe(method, path, response.status, content_type, received)
            return Answer(response.status, response.headers, received)

    async def call(
        self, method: str, template: str, *segments: str, json: object = None, query: Query | None = None
    ) -> Any:
        """The parsed body of a successful answer. Raises Refused for a status of 400 or more."""
        path = path_of(template, segments) + _query_string(query)
        body = None if json is None else orjson.dumps(json)
        answer = await self.exchange(method, path, body=body)
        if answer.status >= 400:
            raise Refused(method, path, answer.status, answer.body, answer.headers)
        return answer.json if answer.body else None

    async def get(self, template: str, *segments: str, query: Query | None = None) -> Any:
        return await self.call("GET", template, *segments, query=query)

    async def put(self, template: str, *segments: str, json: object, query: Query | None = None) -> Any:
        return await self.call("PUT", template, *segments, json=json, query=query)

    async def post(
        self, template: str, *segments: str, json: object | None = None, query: Query | None = None
    ) -> Any:
        return await self.call("POST", template, *segments, json={} if json is None else json, query=query)

    async def delete(self, template: str, *segments: str, query: Query | None = None) -> Any:
        return await self.call("DELETE", template, *segments, query=query)

    def with_token(self, token: str | None) -> Api:
        """The same node, asked with another token."""
        return Api(self.http, self.url, self.server_name, self.exchanges, token)

    # --- accounts

    async def register(self, name: str = "alice", **options: object) -> User:
        """A new user whose localpart begins with ``name``, through open registration."""
        username = f"{name}-{next(_numbers)}"
        answer = await self.post(
            "/v3/register",
            json={"username": username, "password": PASSWORD, "auth": {"type": "m.login.dummy"}, **options},
        )
        return self._user(answer)

    async def register_guest(self) -> User:
        """A new guest."""
        return self._user(await self.post("/v3/register", query={"kind": "guest"}))

    async def register_admin(self, secret: str, name: str = "admin") -> User:
        """A new administrator of the node, through the shared secret."""
        username = f"{name}-{next(_numbers)}"
        path = "/_synapse/admin/v1/register"
        nonce = (await self.get(path))["nonce"]
        signed = "\0".join((nonce, username, PASSWORD, "admin"))
        mac = hmac.new(secret.encode(), signed.encode(), hashlib.sha1)
        body = {"nonce": nonce, "username": username, "password": PASSWORD, "admin": True}
        return self._user(await self.post(path, json={**body, "mac": mac.hexdigest()}))

    async def login(self, user_id: str, password: str = PASSWORD, **options: object) -> User:
        """The user on a new device."""
        identifier = {"type": "m.id.user", "user": user_id}
        body = {"type": "m.login.password", "identifier": identifier, "password": password, **options}
        return self._user(await self.post("/v3/login", json=body))

    def _user(self, answer: JsonObject) -> User:
        return User(
            self.http,
            self.url,
            self.server_name,
            self.exchanges,
            answer["access_token"],
            user_id=answer["user_id"],
            device_id=answer["device_id"],
        )


@dataclass(slots=True)
class User(Api):
    """One user on one device, with the requests that most tests make."""

    user_id: str = ""
    device_id: str = ""
    _transactions: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def localpart(self) -> str:
        return self.user_id[1:].partition(":")[0]

    def next_txn_id(self) -> str:
        return f"t{next(self._transactions)}"

    async def create_room(self, **options: object) -> str:
        """The ID of a new room; by default a public one, so that others can join."""
        answer = await self.post("/v3/createRoom", json={"preset": "public_chat", **options})
        room_id: str = answer["room_id"]
        return room_id

    async def join(self, room_id: str) -> None:
        await self.post("/v3/join/{}", room_id)

    async def leave(self, room_id: str) -> None:
        await self.post("/v3/rooms/{}/leave", room_id)

    async def invite(self, room_id: str, user_id: str) -> None:
        await self.post("/v3/rooms/{}/invite", room_id, json={"user_id": user_id})

    async def send(
        self, room_id: str, content: str | JsonObject, *, type: str = "m.room.message", txn_id: str = ""
    ) -> str:
        """The ID of a new event; a string stands for a text message."""
        if isinstance(content, str):
            content = {"msgtype": "m.text", "body": content}
        txn_id = txn_id or self.next_txn_id()
        answer = await self.put("/v3/rooms/{}/send/{}/{}", room_id, type, txn_id, json=content)
        event_id: str = answer["event_id"]
        return event_id

    async def set_state(self, room_id: str, type: str, content: JsonObject, state_key: str = "") -> str:
        """The ID of a new state event."""
        answer = await self.put("/v3/rooms/{}/state/{}/{}", room_id, type, state_key, json=content)
        event_id: str = answer["event_id"]
        return event_id

    async def state(self, room_id: str, type: str, state_key: str = "") -> JsonObject:
        """The content of a state event."""
        content: JsonObject = await self.get("/v3/rooms/{}/state/{}/{}", room_id, type, state_key)
        return content

    async def give_power(self, room_id: str, *users: User, level: int = 50) -> str:
        """Raise others to a power level; the ID of the new state event."""
        levels = await self.state(room_id, "m.room.power_levels")
        levels["users"] = {**levels.get("users", {}), **{user.user_id: level for user in users}}
        return await self.set_state(room_id, "m.room.power_levels", levels)

    async def redact(self, room_id: str, event_id: str, reason: str | None = None) -> str:
        """The ID of the redaction."""
        json = {} if reason is None else {"reason": reason}
        answer = await self.put("/v3/rooms/{}/redact/{}/{}", room_id, event_id, self.next_txn_id(), json=json)
        redaction: str = answer["event_id"]
        return redaction

    async def event(self, room_id: str, event_id: str) -> JsonObject:
        event: JsonObject = await self.get("/v3/rooms/{}/event/{}", room_id, event_id)
        return event

    async def sync(
        self,
        since: str | None = None,
        *,
        timeout_ms: int = 0,
        filter: JsonObject | None = None,
        **query: object,
    ) -> JsonObject:
        """One sync; with a timeout it waits for news."""
        answer: JsonObject = await self.get(
            "/v3/sync", query={"since": since, "timeout": timeout_ms, "filter": filter, **query}
        )
        return answer

    async def messages(self, room_id: str, **query: object) -> JsonObject:
        """One page of history, newest first unless ``dir`` says otherwise."""
        page: JsonObject = await self.get("/v3/rooms/{}/messages", room_id, query={"dir": "b", **query})
        return page

    async def history(self, room_id: str, *, limit: int = 100) -> list[JsonObject]:
        """All events of the room that this user may see, newest first."""
        events: list[JsonObject] = []
        start: str | None = None
        while True:
            page = await self.messages(room_id, limit=limit, **{"from": start})
            events += page["chunk"]
            start = page.get("end")
            if start is None:
                return events

    async def on_new_device(self) -> User:
        """The same user, logged in again."""
        return await self.with_token(None).login(self.user_id)


def timeline_of(sync: JsonObject, room_id: str) -> list[JsonObject]:
    """The timeline of a joined room in a sync; empty if the room is not in it."""
    joined: JsonObject = sync.get("rooms", {}).get("join", {})
    events: list[JsonObject] = joined.get(room_id, {}).get("timeline", {}).get("events", [])
    return events


def state_of(events: list[JsonObject]) -> dict[tuple[str, str], JsonObject]:
    """State events by type and state key; later ones win."""
    return {(event["type"], event["state_key"]): event for event in events if "state_key" in event}
