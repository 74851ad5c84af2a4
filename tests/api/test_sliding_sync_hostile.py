"""Requests of sliding sync that no client would make are refused, or answered, and cost little."""

from __future__ import annotations

import copy
import json
import random
import time
from typing import Any

from tests.api.client import JsonObject, User, refused
from tests.api.sliding import PATH, STABLE_PATH, listing, wanting

REQUESTS = 300
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 2**53, 2**63, 10**30, "", "\x00", "*", "$ME", "$LAZY", "x" * 300,
    "é" * 200, [], {}, [[]], [{}], {"": ""}, [None], [["*", "*"]] * 600, [[0, 2**53]], {"enabled": True},
    "s1_1_1_1",
)  # fmt: skip


def body(user: User, room_id: str) -> JsonObject:
    """A request with everything in it."""
    filters = {
        "is_dm": False, "spaces": [room_id], "is_encrypted": False, "is_invite": False, "room_types": [None],
        "not_room_types": ["m.space"], "room_name_like": "a", "tags": ["u.a"], "not_tags": ["u.b"],
    }  # fmt: skip
    stable = {"include": [{"type": "m.room.name", "state_key": ""}], "exclude": [{}], "lazy_members": True}
    return {
        "conn_id": "hostile",
        "txn_id": "1",
        "timeout": 0,
        "set_presence": "online",
        "lists": {
            "a": listing((0, 9), ("m.room.name", ""), ("*", "*"), timeline_limit=3, filters=filters),
            "b": {"range": [0, 1], "timeline_limit": 1, "required_state": stable},
        },
        "room_subscriptions": {room_id: wanting(("m.room.member", "$LAZY"))},
        "extensions": {
            "to_device": {"enabled": True, "since": "d1", "limit": 5},
            "e2ee": {"enabled": True},
            "account_data": {"enabled": True, "lists": ["a"], "rooms": [room_id]},
            "receipts": {"enabled": True, "rooms": ["*"]},
            "typing": {"enabled": True},
            "thread_subscriptions": {"enabled": True, "limit": 1},
            "io.element.msc4308.thread_subscriptions": {"enabled": True, "limit": 1},
        },
    }


def spoil(seed: random.Random, whole: JsonObject) -> None:
    """Put a value where it does not belong, or take one away."""
    place: Any = whole
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = seed.choice(keys)
        if isinstance(place[key], dict | list) and place[key] and seed.random() < 0.75:
            place = place[key]
            continue
        if seed.random() < 0.15:
            del place[key]
        else:
            place[key] = seed.choice(VALUES)
        return


async def test_spoiled_requests_are_refused_or_answered(alice: User) -> None:
    room_id = await alice.create_room()
    seed = random.Random(4186)
    answered = 0
    for number in range(REQUESTS):
        spoiled = copy.deepcopy(body(alice, room_id))
        if number % 2:  # in the form of the other path
            spoiled["lists"].pop("b" if number % 4 == 1 else "a")
        for _ in range(seed.choice((0, 1, 1, 2))):
            spoil(seed, spoiled)
        path = PATH if number % 4 < 2 else STABLE_PATH
        answer = await alice.exchange("POST", "/_matrix/client" + path, body=json.dumps(spoiled).encode())
        assert answer.status in (200, 400), (answer.status, answer.body[:300], spoiled)
        answered += answer.status == 200
    assert answered


async def test_a_request_as_large_as_can_be_is_answered_soon(alice: User) -> None:
    rooms = [await alice.create_room() for _ in range(5)]
    pairs = [(f"t{n}", "*") for n in range(40)] + [("*", f"k{n}") for n in range(40)]
    lists = {
        f"list{number}": listing(
            (number, 10_000 + number), *pairs[number % 80 :], filters={"not_tags": [str(number)]}
        )
        for number in range(100)
    }
    started = time.monotonic()
    answer = await alice.post(PATH, json={"lists": lists})
    assert set(answer["rooms"]) <= set(rooms) and time.monotonic() - started < 20
    with refused(413, "M_TOO_LARGE"):
        await alice.post(PATH, json={"lists": {"a": listing((0, 1), *([("a" * 200, "b" * 200)] * 1000))}})
    excluding = {"include": [{}], "exclude": [{"type": "a"}]}
    with refused(400, "M_INVALID_PARAM"):
        many = {
            str(n): {"timeline_limit": 1, "required_state": excluding | {"exclude": [{"type": f"t{n}"}]}}
            for n in range(30)
        }
        await alice.post(STABLE_PATH, json={"lists": many})


async def test_a_device_has_a_bounded_number_of_connections(alice: User) -> None:
    await alice.create_room()
    first = await alice.post(PATH, json={"conn_id": "first", "lists": {"all": listing((0, 9))}})
    query = {"pos": first["pos"]}
    for number in range(15):
        await alice.post(PATH, json={"conn_id": f"c{number}", "lists": {"all": listing((0, 9))}})
    await alice.post(PATH, json={"conn_id": "first", "lists": {"all": listing((0, 9))}}, query=query)
    for number in range(15, 40):
        await alice.post(PATH, json={"conn_id": f"c{number}", "lists": {"all": listing((0, 9))}})
    await alice.create_room()  # so that the connection has something to store, and finds that it is gone
    with refused(400, "M_UNKNOWN_POS"):
        await alice.post(PATH, json={"conn_id": "first", "lists": {"all": listing((0, 9))}}, query=query)
