"""Walking spaces: order, access, bounds, loops and pages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from homeserver.errors import Forbidden, InvalidParam, LimitExceeded
from homeserver.requester import Requester
from homeserver.rooms import space_hierarchy
from homeserver.rooms.described_rooms import DescribedRoom
from homeserver.rooms.draft import Draft
from homeserver.rooms.room import Room
from homeserver.rooms.space_hierarchy import HierarchyQuery, SpaceHierarchy
from tests.rooms.alone import Alone
from tests.rooms.conftest import SERVER_NAME, Engine

SPACE = {"type": "m.space"}
VIA = [SERVER_NAME]


@pytest.fixture
def hierarchy(engine: Engine) -> SpaceHierarchy:
    return SpaceHierarchy(engine.database.pool, engine.rooms, engine.user_rooms, Alone(engine.aliases))


async def space(engine: Engine, creator: Requester, **body: Any) -> Room:
    return await engine.create(creator, **{"preset": "public_chat", "creation_content": SPACE, **body})


async def link(
    engine: Engine,
    creator: Requester,
    parent: Room,
    child: Room | str,
    *,
    ts: int | None = None,
    **content: Any,
) -> None:
    child_id = child if isinstance(child, str) else child.room_id
    content = {"via": VIA, **content}
    draft = Draft(
        sender=creator.user_id, type="m.space.child", state_key=child_id, content=content, origin_server_ts=ts
    )
    await engine.rooms.send(parent.room_id, draft)


async def walk(hierarchy: SpaceHierarchy, requester: Requester, root: Room, **query: Any) -> list[str]:
    page = await hierarchy.page(requester, root.room_id, HierarchyQuery(**query))
    return [entry["room_id"] for entry in page["rooms"]]


async def test_children_are_ordered_as_the_specification_has_it(
    engine: Engine, hierarchy: SpaceHierarchy, alice: Requester
) -> None:
    """The example of "Ordering of children within a space", and what its rules leave to tell."""
    root = await space(engine, alice)
    rooms = {name: await engine.create(alice) for name in "abcdefgh"}
    for name, ts, content in (
        ("b", 1640341000000, {"order": " "}),
        ("a", 1640141000000, {"order": "aaaa"}),
        ("c", 1640841000000, {"order": "first"}),
        ("e", 1640641000000, {}),
        ("d", 1640741000000, {}),
        ("f", 1640941000000, {"order": "first"}),
        ("g", 1640841000001, {"order": "é"}),
        ("h", 1640841000002, {"order": "x" * 51}),
    ):
        await link(engine, alice, root, rooms[name], ts=ts, **content)
    by_id = {room.room_id: name for name, room in rooms.items()}
    found = await walk(hierarchy, alice, root)
    assert [by_id[room_id] for room_id in found[1:]] == list("bacfedgh")


async def test_same_order_and_time_leave_it_to_the_room_ids(
    engine: Engine, hierarchy: SpaceHierarchy, alice: Requester
) -> None:
    root = await space(engine, alice)
    children = [await engine.create(alice) for _ in range(4)]
    for child in children:
        await link(engine, alice, root, child, ts=1640000000000)
    assert (await walk(hierarchy, alice, root))[1:] == sorted(child.room_id for child in children)


async def test_the_walk_goes_depth_first_and_shows_each_rooms_children(
    engine: Engine, hierarchy: SpaceHierarchy, alice: Requester
) -> None:
    root, inner = await space(engine, alice, name="Root"), await space(engine, alice)
    deep, last = await engine.create(alice), await engine.create(alice)
    await link(engine, alice, root, inner, order="1", suggested=True, ts=1640000000000)
    await link(engine, alice, root, last, order="2")
    await link(engine, alice, inner, deep)
    page = await hierarchy.page(alice, root.room_id, HierarchyQuery())
    assert [entry["room_id"] for entry in page["rooms"]] == [
        room.room_id for room in (root, inner, deep, last)
    ]
    assert "next_batch" not in page
    entry = page["rooms"][0]
    assert (entry["name"], entry["room_type"], entry["room_version"]) == ("Root", "m.space", "12")
    assert "search" not in entry
    assert entry["children_state"][0] == {
        "type": "m.space.child",
        "state_key": inner.room_id,
        "sender": alice.user_id,
        "content": {"via": VIA, "order": "1", "suggested": True},
        "origin_server_ts": 1640000000000,
    }
    assert page["rooms"][2]["children_state"] == []


async def test_a_room_that_is_no_space_has_no_children(
    engine: Engine, hierarchy: SpaceHierarchy, alice: Requester
) -> None:
    room, child = await engine.create(alice), await engine.create(alice)
    await link(engine, alice, room, child)
    page = await hierarchy.page(alice, room.room_id, HierarchyQuery())
    assert [(entry["room_id"], entry["children_state"]) for entry in page["rooms"]] == [(room.room_id, [])]


@pytest.mark.parametrize("via", [None, [], "veche.test", [1]])
async def test_children_without_a_valid_via_are_none(
    engine: Engine, hierarchy: SpaceHierarchy, alice: Requester, via: Any
) -> None:
    root, child = await space(engine, alice), await engine.create(alice)
    await link(engine, alice, root, child, via=via)
    await link(engine, alice, root, "no room id")
    await link(engine, alice, root, f"!unknown:{SERVER_NAME}")
    page = await hierarchy.page(alice, root.room_id, HierarchyQuery())
    assert [entry["room_id"] for entry in page["rooms"]] == [root.room_id]
    children = [event["state_key"] for event in page["rooms"][0]["children_state"]]
    assert children == [f"!unknown:{SERVER_NAME}"]


async def test_loops_end_and_no_room_comes_twice(
    engine: Engine, hierarchy: SpaceHierarchy, alice: Requester
) -> None:
    root, inner, other = [await space(engine, alice) for _ in range(3)]
    shared = await engine.create(alice)
    for parent, child in ((root, inner), (inner, root), (inner, inner), (root, other)):
        await link(engine, alice, parent, child)
    for parent in (inner, other):
        await link(engine, alice, parent, shared)
    found = await walk(hierarchy, alice, root)
    assert found == [room.room_id for room in (root, inner, shared, other)]


async def test_depth_is_bounded_as_asked(engine: Engine, hierarchy: SpaceHierarchy, alice: Requester) -> None:
    levels = [await space(engine, alice) for _ in range(4)]
    for parent, child in pairwise(levels):
        await link(engine, alice, parent, child)
    for depth in range(4):
        found = await walk(hierarchy, alice, levels[0], max_depth=depth)
        assert found == [room.room_id for room in levels[: depth + 1]]


async def test_only_suggested_rooms_are_followed_if_asked(
    engine: Engine, hierarchy: SpaceHierarchy, alice: Requester
) -> None:
    root, inner = await space(engine, alice), await space(engine, alice)
    rooms = [await engine.create(alice) for _ in range(3)]
    await link(engine, alice, root, inner, suggested=True)
    await link(engine, alice, root, rooms[0])
    await link(engine, alice, inner, rooms[1], suggested=True)
    await link(engine, alice, inner, rooms[2], suggested="yes")
    found = await walk(hierarchy, alice, root, suggested_only=True)
    assert found == [room.room_id for room in (root, inner, rooms[1])]


async def test_pages_join_up_and_their_tokens_hold_for_the_same_question_only(
    engine: Engine, hierarchy: SpaceHierarchy, alice: Requester
) -> None:
    root = await space(engine, alice)
    for _ in range(5):
        await link(engine, alice, root, await engine.create(alice))
    whole = await walk(hierarchy, alice, root)
    pages, since = [], None
    while True:
        page = await hierarchy.page(alice, root.room_id, HierarchyQuery(limit=2, since=since))
        pages += [entry["room_id"] for entry in page["rooms"]]
        since = page.get("next_batch")
        if since is None:
            break
    assert pages == whole
    since = (await hierarchy.page(alice, root.room_id, HierarchyQuery(limit=2)))["next_batch"]
    for query in (
        HierarchyQuery(since=since, suggested_only=True),
        HierarchyQuery(since=since, max_depth=1),
        HierarchyQuery(since="h2_20_2"),
        HierarchyQuery(since="nonsense"),
    ):
        with pytest.raises(InvalidParam):
            await hierarchy.page(alice, root.room_id, query)


async def test_pages_and_spaces_are_bounded_in_bytes(
    engine: Engine, hierarchy: SpaceHierarchy, alice: Requester, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = await space(engine, alice)
    for _ in range(3):
        inner = await space(engine, alice)
        await link(engine, alice, root, inner)
        for number in range(3):
            await link(engine, alice, inner, f"!{number}:veche.test", padding="x" * 4000)
    whole = await walk(hierarchy, alice, root)
    assert len(whole) == 4
    monkeypatch.setattr(space_hierarchy, "PAGE_BYTES_MAX", 20_000)
    pages, since = [], None
    while True:
        page = await hierarchy.page(alice, root.room_id, HierarchyQuery(since=since))
        pages.append([entry["room_id"] for entry in page["rooms"]])
        since = page.get("next_batch")
        if since is None:
            break
    assert [room_id for each in pages for room_id in each] == whole
    assert len(pages) == 3
    monkeypatch.setattr(space_hierarchy, "CHILDREN_BYTES_MAX", 10_000)
    page = await hierarchy.page(alice, whole[1], HierarchyQuery())
    assert len(page["rooms"][0]["children_state"]) == 2


async def test_a_tree_is_walked_to_a_bound(
    engine: Engine, hierarchy: SpaceHierarchy, alice: Requester, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = await space(engine, alice)
    for _ in range(4):
        await link(engine, alice, root, await engine.create(alice))
    monkeypatch.setattr(space_hierarchy, "ROOMS_MAX", 3)
    assert len(await walk(hierarchy, alice, root)) == 3
    monkeypatch.setattr(space_hierarchy, "CHILDREN_MAX", 1)
    assert len(await walk(hierarchy, alice, root)) == 2


async def test_closed_rooms_hide_themselves_and_what_is_behind_them(
    engine: Engine, hierarchy: SpaceHierarchy, alice: Requester, bob: Requester
) -> None:
    root = await space(engine, alice)
    closed = await space(engine, alice, preset="private_chat")
    behind = await engine.create(alice, preset="public_chat")
    await link(engine, alice, root, closed)
    await link(engine, alice, closed, behind)
    assert await walk(hierarchy, bob, root) == [root.room_id]
    with pytest.raises(Forbidden):
        await walk(hierarchy, bob, closed)
    with pytest.raises(Forbidden):
        await hierarchy.page(bob, f"!unknown:{SERVER_NAME}", HierarchyQuery())
    await engine.inviting.invite(alice, closed.room_id, bob.user_id)
    assert await walk(hierarchy, bob, root) == [room.room_id for room in (root, closed, behind)]


async def test_who_is_banned_sees_nothing(
    engine: Engine, hierarchy: SpaceHierarchy, alice: Requester, bob: Requester
) -> None:
    root = await space(engine, alice)
    await engine.moderation.ban(alice, root.room_id, bob.user_id)
    with pytest.raises(Forbidden):
        await walk(hierarchy, bob, root)


@dataclass(frozen=True, slots=True)
class Elsewhere(Alone):
    """Another server, which knows rooms by the names in their ids: `limited`, `silent`, and others."""

    async def describe(
        self, room_id: str, via: Sequence[str], asker: str, *, suggested_only: bool = False
    ) -> DescribedRoom | None:
        if "limited" in room_id:
            raise LimitExceeded(1000)
        if "silent" in room_id:
            await asyncio.Event().wait()
        return DescribedRoom({"room_id": room_id, "world_readable": True, "num_joined_members": 1})


async def test_what_other_servers_cannot_be_asked_for_is_left_out(
    engine: Engine, alice: Requester, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Elsewhere(engine.aliases)
    hierarchy = SpaceHierarchy(engine.database.pool, engine.rooms, engine.user_rooms, elsewhere)
    root = await space(engine, alice)
    for name in ("a-known", "b-limited", "c-silent", "d-known"):
        await link(engine, alice, root, f"!{name}:elsewhere.test")
    monkeypatch.setattr(space_hierarchy, "OUTSIDE_S", 0.5)
    known = ["!a-known:elsewhere.test", "!d-known:elsewhere.test"]
    assert await walk(hierarchy, alice, root) == [root.room_id, *known]
