"""Requests that nobody should send: never a 5xx, a traceback, a hang, or memory that stays.

VECHE_FUZZ_REQUESTS sets how many are sent, VECHE_FUZZ_SEED repeats a run's choices.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
import orjson
import pytest
from hypothesis import HealthCheck, Phase

from tests.api.client import Api, Refused, User, http_session
from tests.conformance import LEFT_OUT, Exchanges, SpecificationViolation, shared_folder
from tests.fuzz.operations import load_operations
from tests.fuzz.requests import OVERSIZED, FuzzRequest, Known, requests
from tests.node import SHARED_SECRET, Node

REQUESTS = int(os.environ.get("VECHE_FUZZ_REQUESTS", "20000"))
WARM_UP = max(1000, REQUESTS // 5)
"""Requests before memory is first looked at: pools, caches and the code itself fill."""

BATCH = 50  # between looks at which accounts are gone
HANG_S = 15.0
FAULTS_MAX = 20
GROWTH_MAX = 1.10

# Small caches: they are full after the warm-up, so what still grows would grow for ever.
SETTINGS = {
    "limits": {
        "sync_timeout_max_ms": 50,
        "room_cache_bytes": 1_000_000,
        "tail_bytes": 500_000,
        "account_cache_bytes": 500_000,
    }
}
# The account behind such a token is gone or barred: the next request needs another one.
SPENT = frozenset({"M_UNKNOWN_TOKEN", "M_USER_LOCKED", "M_USER_DEACTIVATED", "M_USER_SUSPENDED"})
BACKUPS = "/_matrix/client/v3/room_keys/"
SEALED = {"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {}, "session_data": {}}


@dataclass(slots=True)
class Fuzzer:
    """Sends requests over one connection after the other, and notes what should not have happened."""

    node: Node
    exchanges: Exchanges
    tokens: dict[str, str]
    spent: set[str] = field(default_factory=set)
    faults: dict[str, str] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    slowest_s: float = 0.0
    connection: http.client.HTTPConnection | None = None

    def send(self, request: FuzzRequest) -> None:
        if len(self.faults) >= FAULTS_MAX:
            return
        started = time.monotonic()
        try:
            status, content_type, body = self._exchange(request)
        except TimeoutError:
            self.connection = None
            self.faults[f"{request.operation.name}: no answer within {HANG_S:.0f} s"] = str(request)
            return
        except (http.client.HTTPException, ConnectionError) as error:
            self.connection = None
            if request.body is not OVERSIZED:  # whose sending may be cut short
                self.faults[f"{request.operation.name}: {error!r}"] = str(request)
            return
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)
        self.statuses[status] = self.statuses.get(status, 0) + 1
        try:
            self.exchanges.observe(
                request.operation.method,
                request.path,
                status,
                content_type,
                as_documented(request.path, body),
            )
        except SpecificationViolation as violation:
            self.faults[str(violation)[:300]] = str(request)
        if status >= 500:
            self.faults[f"{request.operation.name}: {status}"] = f"{request}\n{body[:300]!r}"
        elif status >= 400:
            self._look_at_refusal(request, body)

    def _exchange(self, request: FuzzRequest) -> tuple[int, str, bytes]:
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.node.port, timeout=HANG_S)
        headers = {"Content-Type": "application/json"} if request.body is not None else {}
        if (token := self.tokens.get(request.sender)) is not None:
            headers["Authorization"] = f"Bearer {token}"
        self.connection.request(request.operation.method, request.path, request.body, headers)
        response = self.connection.getresponse()
        body = response.read()
        if response.will_close:
            self.connection.close()
            self.connection = None
        return response.status, response.headers.get("Content-Type", ""), body

    def _look_at_refusal(self, request: FuzzRequest, body: bytes) -> None:
        try:
            refusal = orjson.loads(body)
            # User-Interactive Authentication asks with 401 and the flows to take.
            errcode = refusal.get("errcode") if "flows" in refusal else refusal["errcode"]
        except (ValueError, KeyError, TypeError):
            self.faults[f"{request.operation.name}: a refusal without errcode"] = f"{request}\n{body[:300]!r}"
            return
        if errcode in SPENT and request.sender in self.tokens and request.sender != "garbage":
            self.spent.add(request.sender)


def as_documented(path: str, body: bytes) -> bytes:
    """The answer, with what a client has sealed in a backup replaced by what the documents know there.

    The node keeps any JSON for clients, also what this test gives it; all else in the answer is checked.
    """
    if not path.startswith(BACKUPS):
        return body
    try:
        answer = json.loads(
            body, object_hook=lambda members: members | {key: SEALED[key] for key in SEALED if key in members}
        )
    except ValueError:
        return body
    return orjson.dumps(answer)


async def new_sender(api: Api, name: str) -> User:
    """A new account in a sender's place."""
    if name == "admin":
        return await api.register_admin(SHARED_SECRET)
    if name == "guest":
        return await api.register_guest()
    return await api.register(name)


async def settle(api: Api) -> tuple[Known, dict[str, str]]:
    """Users, rooms and events to ask about, and the senders' tokens."""
    users = {name: await new_sender(api, name) for name in ("alice", "bob", "admin", "guest")}
    alice, bob = users["alice"], users["bob"]
    rooms, events = [], []
    for number in range(3):
        room = await alice.create_room(
            room_alias_name=f"room-{number}",
            visibility="public",
            initial_state=[{"type": "m.room.guest_access", "content": {"guest_access": "can_join"}}],
        )
        if number < 2:
            await bob.join(room)
        events.append(await alice.send(room, "hello"))
        thread = {"m.relates_to": {"rel_type": "m.thread", "event_id": events[-1]}}
        events.append(await alice.send(room, {"msgtype": "m.text", "body": "in a thread", **thread}))
        rooms.append(room)
    sync = await alice.sync()
    page = await alice.messages(rooms[0], limit=2)
    known = Known(
        rooms=tuple(rooms),
        users=tuple(user.user_id for user in users.values()),
        events=tuple(events),
        aliases=tuple(f"#room-{number}:{api.server_name}" for number in range(3)),
        tokens=(sync["next_batch"], page["end"]),
        devices=(alice.device_id, bob.device_id),
    )
    tokens = {name: user.token or "" for name, user in users.items()}
    return known, {**tokens, "garbage": "not a token"}


async def run(fuzzer: Fuzzer, api: Api, known: Known, count: int, spec: Path, rng: random.Random) -> None:
    """Send ``count`` requests, and replace senders whose accounts were logged out or barred by them."""
    strategy = requests(load_operations(spec), known)
    settings = hypothesis.settings(
        max_examples=BATCH,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    for _ in range(0, count, BATCH):
        hypothesis.seed(rng.randrange(2**32))(settings(hypothesis.given(strategy)(fuzzer.send)))()
        for name in sorted(fuzzer.spent):
            user = await new_sender(api, name)
            fuzzer.tokens[name] = user.token or ""
            for room in known.rooms:
                with suppress(Refused):  # a room may be closed by now
                    await user.join(room)
        fuzzer.spent.clear()


@pytest.mark.slow
async def test_bad_input_is_refused_and_leaves_nothing_behind(
    node: Node, exchanges: Exchanges, figures: list[str]
) -> None:
    if (shared := shared_folder()) is None:
        pytest.skip(LEFT_OUT)
    async with http_session() as http:
        api = Api(http, node.url, node.server_name, exchanges)
        known, tokens = await settle(api)
        fuzzer = Fuzzer(node, exchanges, tokens)
        seed = int(os.environ.get("VECHE_FUZZ_SEED") or random.randrange(2**32))
        print(f"VECHE_FUZZ_SEED={seed}")
        rng = random.Random(seed)
        await run(fuzzer, api, known, WARM_UP, shared / "spec", rng)
        before_bytes, started = node.rss_bytes(), time.monotonic()
        await run(fuzzer, api, known, REQUESTS, shared / "spec", rng)
        seconds, after_bytes = time.monotonic() - started, node.rss_bytes()
    figures.append(
        f"bad input: {REQUESTS} requests after {WARM_UP} to warm up, {REQUESTS / seconds:.0f} a second, "
        f"the slowest answered in {fuzzer.slowest_s:.2f} s; memory {before_bytes / 1e6:.1f} MB before, "
        f"{after_bytes / 1e6:.1f} MB after; statuses {dict(sorted(fuzzer.statuses.items()))}; "
        f"VECHE_FUZZ_SEED={seed}"
    )
    assert not fuzzer.faults, "\n".join(f"{what}\n    {request}" for what, request in fuzzer.faults.items())
    assert not node.faults()
    assert after_bytes <= before_bytes * GROWTH_MAX
