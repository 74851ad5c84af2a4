"""What a client of sliding sync knows by its answers alone, and the world that it is held against."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.api.client import JsonObject, Refused, User
from tests.api.sliding import SlidingClient

StateKey = tuple[str, str]
MEMBER = "m.room.member"
ENCRYPTION = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}, "state_key": ""}
TRUTH_FILTER = {
    "room": {"timeline": {"limit": 100}, "include_leave": True},
    "presence": {"types": []},
}


class World:
    """What some users do in rooms, at random. ``activity`` orders the rooms as Alice's list has them."""

    def __init__(self, seed: random.Random, alice: User, others: list[User]) -> None:
        self.random = seed
        self.alice = alice
        self.others = others
        self.memberships: dict[tuple[str, str], str] = {}
        self.rooms: list[str] = []
        self.sent: dict[str, list[str]] = {}
        self.activity: dict[str, int] = {}
        self.log: list[str] = []
        self._count = 0

    def membership(self, user: User, room_id: str) -> str:
        return self.memberships.get((user.user_id, room_id), "leave")

    async def one(self) -> None:
        """One thing that somebody does, which the rooms' rules may refuse."""
        doings: list[tuple[Callable[[], Awaitable[object]], int]] = [
            (self.create, 2 if len(self.rooms) < 12 else 0),
            (self.send, 8),
            (self.set_state, 4),
            (self.come_or_go, 6),
            (self.invite_alice, 4),
            (self.remove_alice, 3),
            (self.tag, 2),
            (self.mark_direct, 1),
            (self.keep, 1),
            (self.read, 4),
            (self.redact, 2),
        ]
        [(doing, _)] = self.random.choices(doings, [weight for _, weight in doings])
        if not self.rooms:
            doing = self.create
        self._count += 1
        try:
            await doing()
        except Refused as refusal:
            assert refusal.status in (400, 403, 404), refusal

    def _touch(self, room_id: str, *, of_alice: bool = False) -> None:
        if of_alice or self.membership(self.alice, room_id) == "join":
            self.activity[room_id] = self._count

    def _become(self, user: User, room_id: str, membership: str) -> None:
        self._touch(room_id, of_alice=user is self.alice)
        self.memberships[user.user_id, room_id] = membership

    def _someone(self) -> User:
        return self.random.choice([self.alice, *self.others])

    async def create(self) -> None:
        user, choose = self._someone(), self.random.random
        options: JsonObject = {"name": f"Room {self._count}"} if choose() < 0.7 else {}
        if choose() < 0.2:
            options["initial_state"] = [ENCRYPTION]
        if choose() < 0.15:
            options["creation_content"] = {"type": "m.space"}
        invited = [each for each in (self.alice, *self.others) if each is not user and choose() < 0.3]
        options["invite"] = [each.user_id for each in invited]
        room_id = await user.create_room(**options)
        self.rooms.append(room_id)
        self.sent[room_id] = []
        self._become(user, room_id, "join")
        for each in invited:
            self._become(each, room_id, "invite")
        self.log.append(f"{user.localpart} creates {room_id} {options}")

    async def send(self) -> None:
        user, room_id = self._someone(), self.random.choice(self.rooms)
        self.log.append(f"{user.localpart} writes in {room_id}")
        self.sent[room_id].append(await user.send(room_id, f"message {self._count}"))
        self._touch(room_id)

    async def set_state(self) -> None:
        user, room_id = self._someone(), self.random.choice(self.rooms)
        type, content, key = self.random.choice(
            (
                ("m.room.name", {"name": f"Name {self._count}"}, ""),
                ("m.room.name", {"unnamed": self._count}, ""),
                ("m.room.topic", {"topic": f"Topic {self._count}"}, ""),
                ("m.room.avatar", {"url": f"mxc://example.org/{self._count}"}, ""),
                ("org.example.thing", {"n": self._count}, self.random.choice("abc")),
            )
        )
        self.log.append(f"{user.localpart} sets {type} {key} in {room_id}")
        self.sent[room_id].append(await user.set_state(room_id, type, content, key))
        self._touch(room_id)

    async def come_or_go(self) -> None:
        user, room_id = self._someone(), self.random.choice(self.rooms)
        before = self.membership(user, room_id)
        if before == "join" and self.random.random() < 0.6:
            return
        self.log.append(f"{user.localpart}, of membership {before}, comes into or leaves {room_id}")
        if before == "join" or (before == "invite" and self.random.random() < 0.3):
            await user.leave(room_id)
            self._become(user, room_id, "leave")
        else:
            await user.join(room_id)
            self._become(user, room_id, "join")

    async def invite_alice(self) -> None:
        room_id = self.random.choice(self.rooms)
        if self.membership(self.alice, room_id) == "leave":
            self.log.append(f"alice is invited to {room_id}")
            await self.random.choice(self.others).invite(room_id, self.alice.user_id)
            self._become(self.alice, room_id, "invite")

    async def remove_alice(self) -> None:
        user, room_id = self.random.choice(self.others), self.random.choice(self.rooms)
        before = self.membership(self.alice, room_id)
        how = "unban" if before == "ban" else self.random.choice(("kick", "ban"))
        if how == "kick" and before == "leave":
            return
        self.log.append(f"{user.localpart} does {how} alice, of membership {before}, in {room_id}")
        await user.post("/v3/rooms/{}/{}", room_id, how, json={"user_id": self.alice.user_id})
        self._become(self.alice, room_id, "ban" if how == "ban" else "leave")

    async def tag(self) -> None:
        room_id, tag = self.random.choice(self.rooms), self.random.choice(("u.one", "u.two"))
        self.log.append(f"alice tags {room_id} {tag}")
        path = "/v3/user/{}/rooms/{}/tags/{}"
        if self.random.random() < 0.3:
            await self.alice.delete(path, self.alice.user_id, room_id, tag)
        else:
            await self.alice.put(path, self.alice.user_id, room_id, tag, json={"order": 0.5})

    async def mark_direct(self) -> None:
        rooms = self.random.sample(self.rooms, min(len(self.rooms), 3))
        self.log.append(f"alice marks as direct {rooms}")
        direct = {self.others[0].user_id: rooms}
        await self.alice.put("/v3/user/{}/account_data/{}", self.alice.user_id, "m.direct", json=direct)

    async def keep(self) -> None:
        self.log.append("alice keeps account data")
        type = self.random.choice(("org.example.a", "org.example.b"))
        content = {"n": self._count}
        if self.random.random() < 0.5:
            await self.alice.put("/v3/user/{}/account_data/{}", self.alice.user_id, type, json=content)
        else:
            path = "/v3/user/{}/rooms/{}/account_data/{}"
            await self.alice.put(path, self.alice.user_id, self.random.choice(self.rooms), type, json=content)

    async def read(self) -> None:
        user, room_id = self._someone(), self.random.choice(self.rooms)
        event_id = self.random.choice(self.sent[room_id] or ["$none"])
        kind = self.random.choice(("m.read", "m.read", "m.read.private"))
        self.log.append(f"{user.localpart} has read {room_id} up to {event_id} ({kind})")
        await user.post("/v3/rooms/{}/receipt/{}/{}", room_id, kind, event_id, json={})

    async def redact(self) -> None:
        user, room_id = self._someone(), self.random.choice(self.rooms)
        event_id = self.random.choice(self.sent[room_id] or ["$none"])
        self.log.append(f"{user.localpart} redacts {event_id} in {room_id}")
        await user.redact(room_id, event_id)
        self._touch(room_id)


@dataclass(slots=True)
class KnownRoom:
    """A room as the client knows it."""

    fields: JsonObject = field(default_factory=dict)
    state: dict[StateKey, JsonObject] = field(default_factory=dict)
    timeline: list[str] = field(default_factory=list)
    receipts: dict[tuple[str, str], str] = field(default_factory=dict)
    account_data: dict[str, JsonObject] = field(default_factory=dict)

    def take(self, news: JsonObject, configs: list[JsonObject], user_id: str) -> None:
        """Take in what an answer says of the room, as the proposal tells clients to: at a gap in the
        timeline, members that were loaded lazily are forgotten. ``configs`` are those that it matches."""
        if news.get("initial"):
            self.fields, self.state, self.timeline = {}, {}, []
        if news.get("limited") or news.get("unstable_expanded_timeline"):
            self.timeline = []
        if news.get("limited"):
            self.state = {
                key: event
                for key, event in self.state.items()
                if key[0] != MEMBER or any(wants(config, key, user_id) for config in configs)
            }
        for event in news.get("required_state", []):
            self.state[event["type"], event["state_key"]] = event
        self.timeline += [event["event_id"] for event in news.get("timeline", [])]
        self.fields |= {
            name: value for name, value in news.items() if name not in ("required_state", "timeline")
        }


class Model:
    """A client that keeps what it is told."""

    def __init__(self, connection: SlidingClient) -> None:
        self.connection = connection
        self.rooms: dict[str, KnownRoom] = {}
        self.account_data: dict[str, JsonObject] = {}
        self.lists: dict[str, int] = {}

    def take(self, answer: JsonObject) -> None:
        """Take in an answer."""
        self.connection.take(answer)
        self.lists = {name: each["count"] for name, each in answer["lists"].items()}
        for room_id, news in answer["rooms"].items():
            assert news.get("initial") or room_id in self.rooms, f"{room_id} is not told from the start"
            configs = [self.connection.lists[name] for name in news.get("lists", [])]
            if room_id in self.connection.subscriptions:
                configs.append(self.connection.subscriptions[room_id])
            self.rooms.setdefault(room_id, KnownRoom()).take(news, configs, self.connection.user.user_id)
        extensions = answer["extensions"]
        data = extensions.get("account_data", {})
        self.account_data |= {event["type"]: event["content"] for event in data.get("global", [])}
        for room_id, events in data.get("rooms", {}).items():
            self.rooms[room_id].account_data |= {event["type"]: event["content"] for event in events}
        for room_id, event in extensions.get("receipts", {}).get("rooms", {}).items():
            self.rooms[room_id].receipts |= receipts_in(event)


def receipts_in(event: JsonObject) -> dict[tuple[str, str], str]:
    """By user and type, the event that an ``m.receipt`` event names."""
    return {
        (user_id, type): event_id
        for event_id, types in event["content"].items()
        for type, users in types.items()
        for user_id in users
    }


def wants(config: JsonObject, key: StateKey, user_id: str) -> bool:
    """Whether a list's or subscription's `required_state` names a piece of state, lazy members aside."""
    pairs = [tuple(pair) for pair in config["required_state"]]
    lazy = (MEMBER, "$LAZY") in pairs
    for type, state_key in pairs:
        if state_key == "$ME":
            state_key = user_id
        if lazy and key[0] == MEMBER and state_key == "*":
            continue
        if type in ("*", key[0]) and state_key in ("*", key[1]):
            return True
    return False


@dataclass(slots=True)
class Truth:
    """What the ordinary API says: the answer of an initial /sync on another device."""

    sync: JsonObject
    states: dict[str, dict[StateKey, JsonObject]]
    tags: dict[str, Any] = field(default_factory=dict)

    def membership(self, room_id: str) -> str | None:
        """Alice's; None if she never had anything to do with the room, or has forgotten it."""
        rooms = self.sync["rooms"]
        if room_id in rooms.get("join", {}):
            return "join"
        return "invite" if room_id in rooms.get("invite", {}) else None

    def account_data(self, room_id: str) -> dict[str, JsonObject]:
        room = self.sync["rooms"]["join"][room_id]
        return {event["type"]: event["content"] for event in room["account_data"]["events"]}

    def passes(self, room_id: str, filters: JsonObject) -> bool:
        """Whether a joined room passes the filters that the test uses."""
        direct = {each for rooms in self.global_data().get("m.direct", {}).values() for each in rooms}
        state = self.states[room_id]
        tags = self.account_data(room_id).get("m.tag", {}).get("tags", {})
        create = state["m.room.create", ""]["content"]
        checks = {
            "is_dm": lambda wanted: wanted == (room_id in direct),
            "is_encrypted": lambda wanted: wanted == (("m.room.encryption", "") in state),
            "is_invite": lambda wanted: not wanted,
            "not_room_types": lambda wanted: create.get("type") not in wanted,
            "tags": lambda wanted: bool(set(wanted) & set(tags)),
            "not_tags": lambda wanted: not set(wanted) & set(tags),
        }
        return all(checks[name](wanted) for name, wanted in filters.items())

    def global_data(self) -> dict[str, JsonObject]:
        return {event["type"]: event["content"] for event in self.sync["account_data"]["events"]}


async def read_truth(device: User) -> Truth:
    sync = {"rooms": {}, **await device.sync(filter=TRUTH_FILTER)}
    states: dict[str, dict[StateKey, JsonObject]] = {}
    for room_id in sync["rooms"].get("join", {}):
        events = await device.get("/v3/rooms/{}/state", room_id)
        states[room_id] = {(event["type"], event["state_key"]): event for event in events}
    return Truth(sync, states)
