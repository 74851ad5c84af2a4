"""What a device has missed is the same whether the node still has it in memory or reads it from storage."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.api.client import Api, JsonObject, Refused, User
from tests.node import Node

ACTIONS = 120
TOKEN_EVERY = 15
NO_PRESENCE: JsonObject = {"presence": {"types": []}}
LAZY: JsonObject = {"lazy_load_members": True, "include_redundant_members": True}
QUERIES: tuple[JsonObject, ...] = (
    {},
    {"filter": {"room": {"timeline": {"limit": 2}}}},
    {"filter": {"room": {"timeline": {"limit": 2}}}, "use_state_after": True},
    {"filter": {"room": {"timeline": {"limit": 3}, "state": LAZY}}},
    {"filter": {"room": {"timeline": {"limit": 100, "types": ["m.room.message"]}}}},
    {"filter": {"room": {"timeline": {"limit": 4, "unread_thread_notifications": True}}}, "full_state": True},
)


class Doings:
    """Random things that users do, many of which the rooms' rules refuse."""

    def __init__(self, seed: int, users: list[User], rooms: list[str]) -> None:
        self.random = random.Random(seed)
        self.users = users
        self.rooms = rooms
        self.sent: dict[str, list[str]] = {room: [] for room in rooms}

    async def one(self) -> None:
        user, room = self.random.choice(self.users), self.random.choice(self.rooms)
        doing: Callable[[User, str], Awaitable[None]] = self.random.choices(
            (self.send, self.change_state, self.move, self.read, self.keep, self.redact), (5, 2, 4, 2, 1, 1)
        )[0]
        try:
            await doing(user, room)
        except Refused as refusal:
            assert refusal.status in (400, 403, 404), refusal

    def some_event(self, room: str) -> str:
        return self.random.choice(self.sent[room] or ["$nothing"])

    async def send(self, user: User, room: str) -> None:
        content: JsonObject = {"msgtype": "m.text", "body": "hello"}
        kind = self.random.choice(("plain", "m.thread", "m.replace", "m.annotation", "mention"))
        if kind == "mention":
            content["m.mentions"] = {"user_ids": [self.random.choice(self.users).user_id]}
        elif kind != "plain":
            content["m.relates_to"] = {"rel_type": kind, "event_id": self.some_event(room), "key": "x"}
            content["m.new_content"] = {"msgtype": "m.text", "body": "bye"}
        event_type = "m.reaction" if kind == "m.annotation" else "m.room.message"
        self.sent[room].append(await user.send(room, content, type=event_type))

    async def change_state(self, user: User, room: str) -> None:
        event_type, field = self.random.choice((("m.room.name", "name"), ("m.room.topic", "topic")))
        text = str(self.random.random())
        self.sent[room].append(await user.set_state(room, event_type, {field: text}))

    async def move(self, user: User, room: str) -> None:
        other = self.random.choice(self.users)
        match self.random.choice(("join", "join", "join", "leave", "invite", "kick", "ban", "unban", "name")):
            case "join":
                await user.join(room)
            case "leave":
                await user.leave(room)
            case "name":
                content = {"membership": "join", "displayname": str(self.random.random())}
                self.sent[room].append(await user.set_state(room, "m.room.member", content, user.user_id))
            case verb:
                await user.post(f"/v3/rooms/{{}}/{verb}", room, json={"user_id": other.user_id})

    async def read(self, user: User, room: str) -> None:
        kind = self.random.choice(("m.read", "m.read.private"))
        json = self.random.choice(({}, {"thread_id": "main"}))
        await user.post("/v3/rooms/{}/receipt/{}/{}", room, kind, self.some_event(room), json=json)

    async def keep(self, user: User, room: str) -> None:
        content = {"value": self.random.random()}
        if self.random.random() < 0.5:
            await user.put("/v3/user/{}/rooms/{}/account_data/{}", user.user_id, room, "test", json=content)
        else:
            await user.put("/v3/user/{}/account_data/{}", user.user_id, "test", json=content)

    async def redact(self, user: User, room: str) -> None:
        await user.redact(room, self.some_event(room))


def comparable(answer: Any) -> Any:
    """The answer without what depends on the moment, and without the order that means nothing."""
    if isinstance(answer, list):
        return [comparable(each) for each in answer]
    if not isinstance(answer, dict):
        return answer
    found = {key: comparable(value) for key, value in answer.items() if key != "age"}
    for name in ("next_batch", "prev_batch"):
        if name in found:
            found[name] = found[name].partition("_")[0]
    for name in ("state", "state_after", "account_data"):
        if name in found:
            found[name] = {(event["type"], event.get("state_key")): event for event in found[name]["events"]}
    if "ephemeral" in found:
        found["ephemeral"] = sorted(
            (event_id, kind, user_id, str(receipt))
            for event in found["ephemeral"]["events"]
            for event_id, kinds in event["content"].items()
            for kind, users in kinds.items()
            for user_id, receipt in users.items()
        )
    return found


def differences(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """Where two answers differ, and how."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}, key=str):
            yield from differences(before.get(key), after.get(key), f"{place}/{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (left, right) in enumerate(zip(before, after, strict=True)):
            yield from differences(left, right, f"{place}/{number}")
    elif before != after:
        yield f"{place}: {before} in memory, {after} in storage"


@pytest.mark.parametrize("seed", range(2))
async def test_memory_and_storage_say_the_same(node: Node, api: Api, seed: int) -> None:
    users = [await api.register("alice"), await api.register("bob"), await api.register("bob")]
    rooms = [await user.create_room() for user in users]
    rooms.append(await users[0].create_room(initial_state=[
        {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    ]))  # fmt: skip
    doings = Doings(seed, users, rooms)
    tokens: list[str] = []
    for number in range(ACTIONS):
        if number % TOKEN_EVERY == 0:
            tokens.append((await users[0].sync())["next_batch"])
        await doings.one()

    async def look() -> list[tuple[object, Any]]:
        return [
            (
                (number, token, query),
                comparable(
                    await user.sync(token, **{**query, "filter": {**NO_PRESENCE, **query.get("filter", {})}})
                ),
            )
            for number, user in enumerate(users)
            for token in (None, *tokens)
            for query in QUERIES
        ]

    from_memory = await look()
    await node.stop()
    await node.start()
    from_storage = await look()
    for (case, before), (_, after) in zip(from_memory, from_storage, strict=True):
        assert not list(differences(before, after)), (seed, case)


class Follower:
    """A client that learns the state of rooms from sync alone."""

    def __init__(self, user: User, query: JsonObject) -> None:
        self.user = user
        self.query = query
        self.since: str | None = None
        self.state: dict[str, dict[tuple[str, str], str]] = {}

    async def follow(self) -> None:
        answer = await self.user.sync(self.since, **self.query)
        self.since = answer["next_batch"]
        sections = answer.get("rooms", {})
        for room in (*sections.get("leave", {}), *sections.get("invite", {})):
            self.state.pop(room, None)
        for room, section in sections.get("join", {}).items():
            events = section["state_after"]["events"] if "state_after" in section else [
                *section["state"]["events"], *section["timeline"]["events"]
            ]  # fmt: skip
            known = self.state.setdefault(room, {})
            known |= {(e["type"], e["state_key"]): e["event_id"] for e in events if "state_key" in e}


@pytest.mark.parametrize("seed", range(2))
async def test_who_follows_sync_knows_the_state(api: Api, seed: int) -> None:
    users = [await api.register("alice"), await api.register("bob"), await api.register("bob")]
    rooms = [await user.create_room() for user in users]
    doings = Doings(seed, users, rooms)
    short = {"room": {"timeline": {"limit": 2}}}
    messages = {"room": {"timeline": {"limit": 2, "types": ["m.room.message"]}}}
    followers = [
        Follower(user, {"filter": filter, "use_state_after": after})
        for user in users
        for filter in (short, messages)
        for after in (False, True)
    ]
    for number in range(ACTIONS):
        await doings.one()
        for follower in followers:
            if doings.random.random() < 0.1 or number == ACTIONS - 1:
                await follower.follow()
    for follower in followers:
        joined = set((await follower.user.get("/v3/joined_rooms"))["joined_rooms"])
        assert set(follower.state) == joined, (seed, follower.query)
        for room, known in follower.state.items():
            events = await follower.user.get("/v3/rooms/{}/state", room)
            expected = {(event["type"], event["state_key"]): event["event_id"] for event in events}
            assert known == expected, (seed, follower.query)
