"""Runs of a model client of sliding sync: random doings and wishes, and after every answer a comparison."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

from tests.api.client import Api, JsonObject, User
from tests.api.sliding import SlidingClient
from tests.api.sliding_model import MEMBER, Model, Truth, World, read_truth, receipts_in, wants
from tests.node import Node

STEPS = 70
PAUSES = 6
DOINGS = 12
STATES: tuple[list[list[str]], ...] = (
    [],
    [["m.room.name", ""], ["m.room.topic", ""], [MEMBER, "$ME"]],
    [["m.room.create", ""], ["org.example.thing", "*"], [MEMBER, "$LAZY"]],
    [["*", "a"], ["m.room.avatar", ""], [MEMBER, "$LAZY"], [MEMBER, "$ME"]],
    [["*", "*"]],
    [[MEMBER, "*"]],
    [["*", "*"], [MEMBER, "$LAZY"]],
)
FILTERS: tuple[JsonObject, ...] = (
    {"is_dm": True},
    {"is_dm": False, "not_room_types": ["m.space"]},
    {"is_encrypted": True},
    {"tags": ["u.one"]},
    {"not_tags": ["u.one", "u.two"], "is_invite": False},
)


class Wishes:
    """What the client asks for, which it changes now and then."""

    def __init__(self, seed: random.Random, world: World, connection: SlidingClient) -> None:
        self.random = seed
        self.world = world
        self.connection = connection
        self.change()

    def change(self) -> None:
        choose = self.random
        lists: dict[str, JsonObject] = {"all": self._config(ranges=True)}
        if choose.random() < 0.5:
            lists["some"] = self._config(ranges=True) | {"filters": choose.choice(FILTERS)}
        rooms = choose.sample(self.world.rooms, min(len(self.world.rooms), choose.randrange(3)))
        self.connection.lists = lists
        self.connection.subscriptions = {room_id: self._config() for room_id in rooms}
        self.connection.extensions = {
            name: {"enabled": True} for name in ("account_data", "receipts") if choose.random() < 0.7
        }

    def _config(self, *, ranges: bool = False) -> JsonObject:
        choose = self.random
        config: dict[str, Any] = {
            "timeline_limit": choose.choice((0, 1, 1, 2, 5, 20)),
            "required_state": choose.choice(STATES),
        }
        if ranges:
            config["ranges"] = [[0, choose.choice((0, 1, 2, 4, 50))]]
        return config


def eligible(model: Model, world: World, truth: Truth) -> dict[str, list[JsonObject]]:
    """The joined rooms that lists and subscriptions ask for, and their configs; holds the counts as well."""
    found: dict[str, list[JsonObject]] = {}
    kicked = {
        room_id
        for room_id in world.rooms
        if room_id in truth.sync["rooms"].get("leave", {}) and room_id in world.activity
    }
    for name, config in model.connection.lists.items():
        filters = config.get("filters", {})
        joined = [room for room in truth.states if truth.passes(room, filters)]
        unsure = len(kicked) if kicked else 0  # whether they are listed depends on who removed her
        invited = [
            room
            for room in truth.sync["rooms"].get("invite", {})
            if not filters or filters.get("is_invite", True) is not False
        ]
        if filters:
            invited_most, invited_least = len(invited), 0
        else:
            invited_most = invited_least = len(invited)
        count = model.lists[name]
        assert len(joined) + invited_least <= count <= len(joined) + invited_most + unsure, (name, count)
        # Rooms that are not joined may stand before a joined one, and push it out by one place each.
        slack = invited_most + unsure
        joined.sort(key=lambda room: world.activity[room], reverse=True)
        end = config["ranges"][0][1]
        for room in joined[: max(0, end + 1 - slack)]:
            found.setdefault(room, []).append(config)
    for room_id, config in model.connection.subscriptions.items():
        if room_id in truth.states:
            found.setdefault(room_id, []).append(config)
    return found


def check_room(model: Model, truth: Truth, room_id: str, configs: list[JsonObject], user_id: str) -> None:
    """The client's room is the true one."""
    known, told, state = model.rooms[room_id], truth.sync["rooms"]["join"][room_id], truth.states[room_id]
    fields = known.fields
    assert fields["membership"] == "join"
    name = state.get(("m.room.name", ""), {"content": {}})["content"].get("name")
    assert fields.get("name") == name
    avatar = state.get(("m.room.avatar", ""), {"content": {}})["content"].get("url")
    assert fields.get("avatar") == avatar
    if name is None:
        heroes = told["summary"].get("m.heroes", [])
        assert [hero["user_id"] for hero in fields["heroes"]] == heroes
    assert fields["joined_count"] == told["summary"]["m.joined_member_count"]
    assert fields["invited_count"] == told["summary"]["m.invited_member_count"]
    direct = {each for rooms in truth.global_data().get("m.direct", {}).values() for each in rooms}
    assert fields.get("is_dm", False) == (room_id in direct)
    counts = {name: fields[name] for name in ("notification_count", "highlight_count")}
    assert counts == told["unread_notifications"]
    for key, event in state.items():
        if any(wants(config, key, user_id) for config in configs):
            assert key in known.state, key
            assert known.state[key]["event_id"] == event["event_id"], key
            assert known.state[key]["content"] == event["content"], key
    timeline = [event["event_id"] for event in told["timeline"]["events"]]
    limit = max(config["timeline_limit"] for config in configs)
    assert known.timeline[-len(timeline) :] == timeline[max(0, len(timeline) - len(known.timeline)) :]
    assert len(known.timeline) >= min(limit, len(timeline))
    if any([MEMBER, "$LAZY"] in config["required_state"] for config in configs):
        senders = {event["sender"] for event in told["timeline"]["events"][-limit:]} if limit else set()
        for sender in senders:
            assert known.state[MEMBER, sender]["event_id"] == state[MEMBER, sender]["event_id"]
    extensions = model.connection.extensions
    if "account_data" in extensions:
        assert known.account_data == truth.account_data(room_id)
    if "receipts" in extensions:
        true: dict[tuple[str, str], str] = {}
        for event in told["ephemeral"]["events"]:
            if event["type"] == "m.receipt":
                true |= receipts_in(event)
        assert known.receipts.items() <= true.items()
        own = {key: event_id for key, event_id in true.items() if key[0] == user_id}
        assert own.items() <= known.receipts.items()


def check(model: Model, world: World, truth: Truth) -> None:
    """All that the client asks for is known, and true; and it knows of no membership that is over."""
    for room_id, configs in eligible(model, world, truth).items():
        assert room_id in model.rooms, f"{room_id} was not sent"
        check_room(model, truth, room_id, configs, world.alice.user_id)
    for room_id, known in model.rooms.items():
        is_over = truth.membership(room_id) is None
        assert known.fields["membership"] in ("leave", "ban") or not is_over, (
            f"{room_id}: the end was not told"
        )
    if "account_data" in model.connection.extensions:
        assert model.account_data == truth.global_data()


async def begin(api: Api, choose: random.Random) -> tuple[User, World, Model, Wishes]:
    """Alice on another device, a few rooms of hers and her friends', and the client that is to follow."""
    alice, bob, carol = [await api.register(name) for name in ("alice", "bob", "carol")]
    watcher = await alice.on_new_device()
    world = World(choose, alice, [bob, carol])
    for _ in range(6):
        await world.one()
    model = Model(SlidingClient(alice))
    return watcher, world, model, Wishes(choose, world, model.connection)


async def run(api: Api, seed: int, node: Node | None) -> None:
    """One run. With a node, it is killed now and then."""
    choose = random.Random(seed)
    watcher, world, model, wishes = await begin(api, choose)
    for step in range(STEPS):
        try:
            for _ in range(choose.choice((0, 1, 1, 2, 4))):
                await world.one()
            if choose.random() < 0.3:
                wishes.change()
                world.log.append(f"wishes {model.connection.lists} {model.connection.subscriptions}")
            while choose.random() < 0.25:
                world.log.append("an answer is lost")
                await model.connection.ask()
                if choose.random() < 0.3:
                    wishes.change()
                    world.log.append(f"wishes {model.connection.lists} {model.connection.subscriptions}")
            if node is not None and choose.random() < 0.1:
                world.log.append("the node is killed")
                await node.kill()
                await node.start()
            if choose.random() < 0.04:
                world.log.append("a new connection")
                model = Model(model.connection)
                model.connection.pos = None
            answer = await model.connection.ask()
            world.log.append(f"an answer is taken: {sorted(answer['rooms'])}")
            model.take(answer)
            check(model, world, await read_truth(watcher))
        except BaseException:
            print(f"seed {seed}, step {step}:", *world.log[-40:], sep="\n  ")
            raise


async def run_beside(api: Api, seed: int) -> None:
    """A run in which users do things while the client asks; it is compared whenever they pause."""
    choose = random.Random(seed)
    watcher, world, model, wishes = await begin(api, choose)
    for pause in range(PAUSES):
        wishes.change()
        model.connection.lists["all"]["ranges"] = [[0, 50]]

        async def do() -> None:
            for _ in range(DOINGS):
                await world.one()

        doing = asyncio.gather(do(), do(), do())
        while not doing.done():
            model.take(await model.connection.ask(timeout_ms=20))
            if choose.random() < 0.2:
                await model.connection.ask()
        await doing
        model.take(await model.connection.ask())
        try:
            check(model, world, await read_truth(watcher))
        except BaseException:
            print(f"seed {seed}, pause {pause}:", *world.log[-60:], sep="\n  ")
            raise


def seeds(count: int, first: int) -> list[int]:
    replayed = os.environ.get("VECHE_SLIDING_SEED")
    return [int(replayed)] if replayed else list(range(first, first + count))
