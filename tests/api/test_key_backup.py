"""Backups of room keys: Client-Server API, "Server-side key backups"."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from tests.api.client import PASSWORD, Api, User, refused

JsonObject = dict[str, Any]
ALGORITHM = "m.megolm_backup.v1.curve25519-aes-sha2"
ROOM, OTHER_ROOM = "!plans:veche.test", "!cakes:veche.test"
SETTINGS = {"listeners": {"purposes": ["client", "metrics"]}}
VERSION = "/v3/room_keys/version"
KEYS = "/v3/room_keys/keys"
PIECE_BYTES = 256 * 1024


def session(first: int = 0, forwarded: int = 0, verified: bool = False, text: str = "sealed") -> JsonObject:
    return {
        "first_message_index": first,
        "forwarded_count": forwarded,
        "is_verified": verified,
        "session_data": {"ephemeral": "e", "ciphertext": text, "mac": "m"},
    }


async def make_backup(user: User, **auth_data: object) -> str:
    body = {"algorithm": ALGORITHM, "auth_data": {"public_key": "abcdefg", **auth_data}}
    version: str = (await user.post(VERSION, json=body))["version"]
    return version


async def put(user: User, version: str, room: str, session_id: str, data: object) -> JsonObject:
    answer: JsonObject = await user.put(
        f"{KEYS}/{{}}/{{}}", room, session_id, json=data, query={"version": version}
    )
    return answer


async def keys(user: User, version: str) -> JsonObject:
    """All sessions, by room and id."""
    answer = await user.get(KEYS, query={"version": version})
    return {room: backup["sessions"] for room, backup in answer["rooms"].items()}


async def test_a_backup_is_made_described_and_changed(alice: User, bob: User) -> None:
    with refused(404, "M_NOT_FOUND"):
        await alice.get(VERSION)
    version = await make_backup(alice)
    described = {
        "algorithm": ALGORITHM,
        "auth_data": {"public_key": "abcdefg"},
        "count": 0,
        "etag": "0",
        "version": version,
    }
    assert await alice.get(VERSION) == await alice.get(f"{VERSION}/{{}}", version) == described
    changed = {"public_key": "abcdefg", "signatures": {alice.user_id: {"ed25519:PHONE": "signature"}}}
    body = {"algorithm": ALGORITHM, "auth_data": changed, "version": version}
    assert await alice.put(f"{VERSION}/{{}}", version, json=body) == {}
    assert (await alice.get(VERSION))["auth_data"] == changed
    with refused(404, "M_NOT_FOUND"):
        await bob.get(f"{VERSION}/{{}}", version)


@pytest.mark.parametrize(
    ("change", "errcode"),
    [
        ({"algorithm": "m.other"}, "M_INVALID_PARAM"),
        ({"version": "99"}, "M_INVALID_PARAM"),
        ({"algorithm": None}, "M_INVALID_PARAM"),
        ({"algorithm": 1}, "M_BAD_JSON"),
    ],
)
async def test_only_auth_data_can_be_changed(alice: User, change: JsonObject, errcode: str) -> None:
    version = await make_backup(alice)
    body = {"algorithm": ALGORITHM, "auth_data": {"public_key": "b"}, "version": version, **change}
    with refused(400, errcode):
        await alice.put(f"{VERSION}/{{}}", version, json=body)
    assert (await alice.get(VERSION))["auth_data"] == {"public_key": "abcdefg"}


@pytest.mark.parametrize(
    ("change", "status", "errcode"),
    [
        ({"algorithm": ""}, 400, "M_INVALID_PARAM"),
        ({"algorithm": "ß" * 128}, 400, "M_INVALID_PARAM"),
        ({"algorithm": {}}, 400, "M_BAD_JSON"),
        ({"auth_data": {"public_key": "k" * 65_536}}, 413, "M_TOO_LARGE"),
        ({"auth_data": "k" * 65_536}, 413, "M_TOO_LARGE"),
    ],
)
async def test_a_backup_that_is_not_described_is_refused(
    alice: User, change: JsonObject, status: int, errcode: str
) -> None:
    body = {"algorithm": ALGORITHM, "auth_data": {"public_key": "abcdefg"}}
    with refused(status, errcode):
        await alice.post(VERSION, json=body | change)
    for name in body:
        with refused(400, "M_MISSING_PARAM"):
            await alice.post(VERSION, json={key: body[key] for key in body if key != name})
    version = await make_backup(alice)
    for name in body:
        with refused(400, "M_MISSING_PARAM"):
            await alice.put(f"{VERSION}/{{}}", version, json={key: body[key] for key in body if key != name})
    assert (await alice.get(VERSION))["auth_data"] == body["auth_data"]


async def test_what_clients_seal_comes_back_whatever_it_holds(alice: User) -> None:
    unknown = {"of": ["a", {"later": None}, 0.5, -(2**53), "\x00", "🙂"], "algorithm": {}}
    version = await make_backup(alice, **unknown)
    assert (await alice.get(VERSION))["auth_data"] == {"public_key": "abcdefg", **unknown}
    body = {"algorithm": ALGORITHM, "auth_data": unknown}
    await alice.put(f"{VERSION}/{{}}", version, json=body)
    assert (await alice.get(f"{VERSION}/{{}}", version))["auth_data"] == unknown
    await put(alice, version, ROOM, "s", {**session(), "session_data": unknown})
    assert await keys(alice, version) == {ROOM: {"s": {**session(), "session_data": unknown}}}


@pytest.mark.parametrize("sealed", ["opaque", "", 1, 0.5, True, None, ["a"], {}])
async def test_what_clients_seal_need_not_be_an_object(alice: User, sealed: object) -> None:
    # Only written here: the documents know no answer with such data. tests/engine/test_key_backups.py reads.
    body = {"algorithm": "org.example.backup", "auth_data": sealed}
    version = (await alice.post(VERSION, json=body))["version"]
    await alice.put(f"{VERSION}/{{}}", version, json=body)
    with refused(400, "M_INVALID_PARAM"):
        await alice.put(f"{VERSION}/{{}}", version, json={**body, "algorithm": ALGORITHM})
    assert (await put(alice, version, ROOM, "s", {**session(), "session_data": sealed}))["count"] == 1
    many = {"sessions": {"s": session(), "t": {**session(), "session_data": sealed}}}
    assert (await alice.put(f"{KEYS}/{{}}", ROOM, json=many, query={"version": version}))["count"] == 2


@pytest.mark.parametrize("version", ["0", "99", "one", "-1", "1e1", "9" * 30, "²"])
async def test_an_unknown_version_is_not_found(alice: User, version: str) -> None:
    await make_backup(alice)
    body = {"algorithm": ALGORITHM, "auth_data": {}}
    for request in (
        alice.get(f"{VERSION}/{{}}", version),
        alice.put(f"{VERSION}/{{}}", version, json=body),
        alice.delete(f"{VERSION}/{{}}", version),
        alice.get(KEYS, query={"version": version}),
        alice.get(f"{KEYS}/{{}}", ROOM, query={"version": version}),
        alice.get(f"{KEYS}/{{}}/{{}}", ROOM, "s", query={"version": version}),
        alice.delete(KEYS, query={"version": version}),
        put(alice, version, ROOM, "s", session()),
    ):
        with refused(404, "M_NOT_FOUND"):
            await request


async def test_a_deleted_backup_is_gone_and_its_version_does_not_come_again(alice: User) -> None:
    first = await make_backup(alice)
    await put(alice, first, ROOM, "s", session())
    second = await make_backup(alice)
    for _ in range(2):  # "the call should succeed rather than returning an error"
        assert await alice.delete(f"{VERSION}/{{}}", second) == {}
    assert (await alice.get(VERSION))["version"] == first
    assert await alice.delete(f"{VERSION}/{{}}", first) == {}
    with refused(404, "M_NOT_FOUND"):
        await alice.get(VERSION)
    with refused(404, "M_NOT_FOUND"):
        await keys(alice, first)
    third = await make_backup(alice)
    assert third not in (first, second)
    assert await keys(alice, third) == {}
    assert await alice.delete(f"{VERSION}/{{}}", second) == {}


async def test_keys_are_stored_and_read_one_by_one_by_room_and_all(alice: User) -> None:
    version = await make_backup(alice)
    query = {"version": version}
    assert await alice.get(KEYS, query=query) == {"rooms": {}}
    assert await alice.get(f"{KEYS}/{{}}", ROOM, query=query) == {"sessions": {}}
    one = await put(alice, version, ROOM, "a/b", session(text="1"))
    assert one == {"count": 1, "etag": one["etag"]}
    room = {"sessions": {"c": session(text="2"), "d": session(text="3")}}
    by_room = await alice.put(f"{KEYS}/{{}}", ROOM, json=room, query=query)
    everything = {
        "rooms": {OTHER_ROOM: {"sessions": {"e": session(text="4")}}, ROOM: {"sessions": {"f": session()}}}
    }
    every = await alice.put(KEYS, json=everything, query=query)
    assert (by_room["count"], every["count"]) == (3, 5)
    assert len({one["etag"], by_room["etag"], every["etag"]}) == 3
    assert (await alice.get(VERSION))["count"] == 5

    stored = {**room["sessions"], "a/b": session(text="1"), "f": session()}
    assert await keys(alice, version) == {ROOM: stored, OTHER_ROOM: {"e": session(text="4")}}
    assert await alice.get(f"{KEYS}/{{}}", ROOM, query=query) == {"sessions": stored}
    assert await alice.get(f"{KEYS}/{{}}/{{}}", ROOM, "a/b", query=query) == session(text="1")
    with refused(404, "M_NOT_FOUND"):
        await alice.get(f"{KEYS}/{{}}/{{}}", ROOM, "e", query=query)


async def test_keys_are_deleted_one_by_one_by_room_and_all(alice: User) -> None:
    version = await make_backup(alice)
    query = {"version": version}
    rooms = {
        ROOM: {"sessions": {"a": session(), "b": session(), "c": session()}},
        OTHER_ROOM: {"sessions": {"a": session()}},
    }
    before = await alice.put(KEYS, json={"rooms": rooms}, query=query)
    one = await alice.delete(f"{KEYS}/{{}}/{{}}", ROOM, "a", query=query)
    assert one["count"] == 3 and one["etag"] != before["etag"]
    again = await alice.delete(f"{KEYS}/{{}}/{{}}", ROOM, "a", query=query)
    assert again == one
    by_room = await alice.delete(f"{KEYS}/{{}}", ROOM, query=query)
    assert by_room["count"] == 1
    assert await keys(alice, version) == {OTHER_ROOM: {"a": session()}}
    assert (await alice.delete(KEYS, query=query))["count"] == 0
    assert await keys(alice, version) == {}


BETTER_LAST = [
    session(first=3, forwarded=0, verified=False, text="0"),
    session(first=2, forwarded=7, verified=False, text="1"),
    session(first=2, forwarded=1, verified=False, text="2"),
    session(first=9, forwarded=9, verified=True, text="3"),
    session(first=8, forwarded=9, verified=True, text="4"),
    session(first=8, forwarded=5, verified=True, text="5"),
]


@pytest.mark.parametrize(("known", "new"), list(itertools.permutations(range(len(BETTER_LAST)), 2)))
async def test_the_better_key_is_kept(backup: tuple[User, str], known: int, new: int) -> None:
    alice, version = backup
    session_id = f"{known}-{new}"
    before = await put(alice, version, ROOM, session_id, BETTER_LAST[known])
    after = await put(alice, version, ROOM, session_id, BETTER_LAST[new])
    kept = await alice.get(f"{KEYS}/{{}}/{{}}", ROOM, session_id, query={"version": version})
    assert kept == BETTER_LAST[max(known, new)]
    assert after["count"] == before["count"]
    assert (after["etag"] == before["etag"]) == (known > new)


@pytest.fixture
async def backup(api: Api) -> tuple[User, str]:
    user = await api.register("alice")
    return user, await make_backup(user)


async def test_an_equal_key_changes_nothing(alice: User) -> None:
    version = await make_backup(alice)
    before = await put(alice, version, ROOM, "s", session(text="first"))
    assert await put(alice, version, ROOM, "s", session(text="second")) == before
    stored = await keys(alice, version)
    assert stored[ROOM]["s"]["session_data"]["ciphertext"] == "first"


async def test_keys_go_into_the_current_backup_only(alice: User) -> None:
    old = await make_backup(alice)
    await put(alice, old, ROOM, "s", session())
    new = await make_backup(alice)
    for body, path in (
        (session(), (f"{KEYS}/{{}}/{{}}", ROOM, "t")),
        ({"sessions": {"t": session()}}, (f"{KEYS}/{{}}", ROOM)),
        ({"rooms": {}}, (KEYS,)),
    ):
        with refused(403, "M_WRONG_ROOM_KEYS_VERSION") as refusal:
            await alice.put(*path, json=body, query={"version": old})
        assert refusal.value.json["current_version"] == new
    assert await keys(alice, old) == {ROOM: {"s": session()}}
    assert (await alice.delete(KEYS, query={"version": old}))["count"] == 0


WRONG_SESSIONS: list[tuple[object, str]] = [
    ([], "M_BAD_JSON"),
    ({}, "M_MISSING_PARAM"),
    ({**session(), "is_verified": 1}, "M_BAD_JSON"),
    ({**session(), "first_message_index": -1}, "M_BAD_JSON"),
    ({**session(), "first_message_index": 1.5}, "M_BAD_JSON"),
    ({**session(), "first_message_index": True}, "M_BAD_JSON"),
    ({**session(), "forwarded_count": 2**53}, "M_BAD_JSON"),
    ({**session(), "forwarded_count": None}, "M_BAD_JSON"),
    *(
        ({key: value for key, value in session().items() if key != name}, "M_MISSING_PARAM")
        for name in session()
    ),
]


@pytest.mark.parametrize(("wrong", "errcode"), WRONG_SESSIONS)
async def test_a_wrong_session_is_refused_with_all_others(alice: User, wrong: object, errcode: str) -> None:
    version = await make_backup(alice)
    many = {f"s{number}": session() for number in range(1500)}
    with refused(400, errcode):
        await put(alice, version, ROOM, "s", wrong)
    with refused(400, errcode):
        body = {"sessions": {**many, "wrong": wrong}}
        await alice.put(f"{KEYS}/{{}}", ROOM, json=body, query={"version": version})
    assert await keys(alice, version) == {}
    assert (await alice.get(VERSION))["etag"] == "0"


GOOD = orjson.dumps(session())


def sealed(data: bytes) -> bytes:
    """A body with one session, with this JSON in its `session_data`."""
    known = orjson.dumps(session()["session_data"])
    return b'{"rooms":{"!r:x":{"sessions":{"s":' + GOOD.replace(known, data) + b"}}}}"


@pytest.mark.parametrize(
    ("body", "status", "errcode"),
    [
        (b"", 400, "M_BAD_JSON"),
        (b"[]", 400, "M_BAD_JSON"),
        (b"{}", 400, "M_MISSING_PARAM"),
        (b'{"rooms":[]}', 400, "M_BAD_JSON"),
        (b'{"rooms":{"!r:x":{}}}', 400, "M_MISSING_PARAM"),
        (b'{"rooms":{"r":{"sessions":{}}}}', 400, "M_INVALID_PARAM"),
        (b'{"rooms":{"!r:x":{"sessions":{"":' + GOOD + b"}}}}", 400, "M_INVALID_PARAM"),
        (b'{"rooms":{"!r:x":{"sessions":{"\\u0000":' + GOOD + b"}}}}", 400, "M_INVALID_PARAM"),
        (b'{"rooms":{"!r:x":{"sessions":{"\\ud800":' + GOOD + b"}}}}", 400, "M_INVALID_PARAM"),
        (b'{"rooms":{"!r:x":{"sessions":{"s":' + GOOD + b"}}}", 400, "M_NOT_JSON"),
        (b'{"rooms":{"!r:x":{"sessions":{"s":' + GOOD + b"}}}} x", 400, "M_NOT_JSON"),
        (b'{"rooms":{"!r:x":{"sessions":{"s" ' + GOOD + b"}}}}", 400, "M_NOT_JSON"),
        (b'{"rooms":{},}', 400, "M_NOT_JSON"),
        (b'{"rooms":{}"a":1}', 400, "M_NOT_JSON"),
        (b'{"rooms":{"\xff":1}}', 400, "M_NOT_JSON"),
        (b'{"rooms":{},"x":NaN}', 400, "M_NOT_JSON"),
        (b'{"rooms":{},"x":' + b"[" * 60_000 + b"]" * 5000 + b"}", 400, "M_BAD_JSON"),
        (b'{"rooms":{},"x":"' + b"x" * 70_000 + b'"}', 400, "M_BAD_JSON"),
        (sealed(b'"%s"' % (b"x" * 20_000)), 413, "M_TOO_LARGE"),
        (sealed(b"12345678901234567890123"), 400, "M_BAD_JSON"),
        (sealed(b"1e400"), 400, "M_NOT_JSON"),
        (sealed(b'"\\ud800"'), 400, "M_BAD_JSON"),
        (sealed(b"[" * 500 + b"]" * 500), 400, "M_BAD_JSON"),
    ],
)
async def test_a_wrong_body_is_refused(alice: User, body: bytes, status: int, errcode: str) -> None:
    version = await make_backup(alice)
    answer = await alice.exchange("PUT", f"/_matrix/client{KEYS}?version={version}", body=body)
    assert (answer.status, answer.json["errcode"]) == (status, errcode)
    assert await keys(alice, version) == {}


async def test_white_space_unknown_members_and_the_last_of_two_alike(alice: User) -> None:
    version = await make_backup(alice)
    second = orjson.dumps(session(text="zweite, größer als ein Blick: " + "ß" * 3000))
    body = b'\n{ "x" : [1, {}] , "rooms" :\t{ "!r:x" : {"y":null,"sessions": {"s": %s ,\r\n"s" : %s } } } }\n'
    path = f"/_matrix/client{KEYS}?version={version}"
    answer = await alice.exchange("PUT", path, body=body % (GOOD, second))
    assert answer.json["count"] == 1
    assert await keys(alice, version) == {"!r:x": {"s": orjson.loads(second)}}


async def test_devices_that_upload_at_once_lose_nothing(alice: User) -> None:
    version = await make_backup(alice)
    answers = await asyncio.gather(
        *(put(alice, version, ROOM, f"s{number}", session()) for number in range(40))
    )
    assert sorted(answer["count"] for answer in answers) == list(range(1, 41))
    assert len({answer["etag"] for answer in answers}) == 40


async def test_a_user_has_so_many_backups_at_most(alice: User) -> None:
    versions = [await make_backup(alice) for _ in range(20)]
    with refused(413, "M_TOO_LARGE"):
        await make_backup(alice)
    await alice.delete(f"{VERSION}/{{}}", versions[3])
    assert await make_backup(alice) not in versions


async def test_who_ends_the_account_leaves_no_backup(alice: User, database_url: str) -> None:
    import asyncpg

    version = await make_backup(alice)
    await put(alice, version, ROOM, "s", session(text="of whoever leaves"))
    identifier = {"type": "m.id.user", "user": alice.user_id}
    auth = {"type": "m.login.password", "identifier": identifier, "password": PASSWORD}
    await alice.post("/v3/account/deactivate", json={"auth": auth})
    connection = await asyncpg.connect(database_url)
    try:
        count = await connection.fetchval(
            "SELECT count(*) FROM key_backup_sessions WHERE session_data = $1",
            orjson.dumps(session(text="of whoever leaves")["session_data"]),
        )
    finally:
        await connection.close()
    assert count == 0


@pytest.mark.slow
async def test_a_hundred_thousand_keys_in_one_request(alice: User, bob: User, figures: list[str]) -> None:
    version = await make_backup(alice)
    sealed = orjson.dumps(session(text="x" * 800))
    count = 100_000
    rooms = [
        b'"!room%d:veche.test":{"sessions":{%s}}'
        % (room, b",".join(b'"%043d":%s' % (number, sealed) for number in range(room, count, 50)))
        for room in range(50)
    ]
    body = b'{"rooms":{' + b",".join(rooms) + b"}}"
    del rooms
    loop = asyncio.get_running_loop()
    path = f"{alice.url}/_matrix/client{KEYS}?version={version}"
    headers = {"Authorization": f"Bearer {alice.token}", "Content-Type": "application/json"}
    longest = 0.0

    async def pieces() -> AsyncIterator[bytes]:  # whole, it would hold up this event loop
        for start in range(0, len(body), PIECE_BYTES):
            yield body[start : start + PIECE_BYTES]

    upload_headers = headers | {"Content-Length": str(len(body))}

    async def upload() -> JsonObject:
        async with alice.http.put(path, data=pieces(), headers=upload_headers) as response:
            answer: JsonObject = await response.json()
            return answer

    started = loop.time()
    uploading = asyncio.ensure_future(upload())
    while not uploading.done():  # others are answered meanwhile
        asked = loop.time()
        await bob.get("/v3/account/whoami")
        longest = max(longest, loop.time() - asked)
    uploaded = loop.time() - started
    assert (await uploading)["count"] == count
    started, received = loop.time(), 0
    async with alice.http.get(path, headers=headers) as response:
        async for chunk in response.content.iter_any():
            received += len(chunk)
    async with alice.http.get(f"{alice.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    [stall] = [float(line.split()[1]) for line in lines if line.startswith("event_loop_stall_max_seconds ")]
    figures.append(
        f"key backup: {count} keys of {len(body) // count} bytes uploaded in {uploaded:.1f} s, read in "
        f"{loop.time() - started:.1f} s; others waited {longest * 1000:.0f} ms at most, "
        f"the event loop {stall * 1000:.0f} ms"
    )
    assert received == len(body)
    async with alice.http.get(path, headers=headers) as response:
        await response.content.readany()  # and go away: nothing of it is a fault in the node's log
    assert longest < 2.0
    assert (await put(alice, version, "!room7:veche.test", f"{7:043}", session(verified=True)))[
        "count"
    ] == count
