"""Who is shown what of a room from outside."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.errors import InvalidParam, NotFound
from homeserver.requester import Requester
from homeserver.rooms.room import Room
from homeserver.rooms.room_summaries import RoomSummaries, is_visible, room_summary
from tests.rooms.alone import Alone
from tests.rooms.conftest import SERVER_NAME, Engine


@pytest.fixture
def summaries(engine: Engine) -> RoomSummaries:
    alone = Alone(engine.aliases)
    return RoomSummaries(engine.database.pool, engine.user_rooms, alone, alone)


async def ruled(engine: Engine, creator: Requester, join_rule: str, **body: Any) -> Room:
    """A room with a join rule, and content for it under `rule`."""
    content = {"join_rule": join_rule, **body.pop("rule", {})}
    state = [{"type": "m.room.join_rules", "content": content}, *body.pop("initial_state", [])]
    return await engine.create(creator, initial_state=state, **body)


async def visible(summaries: RoomSummaries, requester: Requester | None, room: Room) -> bool:
    try:
        await summaries.get(requester, "", room.room_id, [])
    except NotFound:
        return False
    return True


async def test_a_summary_says_what_the_room_is(
    engine: Engine, summaries: RoomSummaries, alice: Requester, bob: Requester
) -> None:
    other = await engine.create(alice)
    room = await ruled(
        engine,
        alice,
        "restricted",
        name="Plans",
        topic="What to do",
        rule={"allow": [{"type": "m.room_membership", "room_id": other.room_id}]},
        initial_state=[{"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}],
        invite=[bob.user_id],
    )
    assert await summaries.get(bob, "", room.room_id, []) == {
        "room_id": room.room_id,
        "name": "Plans",
        "topic": "What to do",
        "join_rule": "restricted",
        "allowed_room_ids": [other.room_id],
        "encryption": "m.megolm.v1.aes-sha2",
        "room_version": "12",
        "num_joined_members": 1,
        "world_readable": False,
        "guest_can_join": True,
        "membership": "invite",
    }
    assert (await summaries.get(alice, "", room.room_id, []))["membership"] == "join"


@pytest.mark.parametrize(
    ("join_rule", "anonymous", "stranger"),
    [
        ("public", True, True),
        ("knock", True, True),
        ("knock_restricted", True, True),
        ("restricted", False, False),
        ("invite", False, False),
        ("private", False, False),
    ],
)
async def test_join_rules_open_summaries(
    engine: Engine, summaries: RoomSummaries, alice: Requester, bob: Requester, join_rule: str,
    anonymous: bool, stranger: bool,
) -> None:  # fmt: skip
    room = await ruled(engine, alice, join_rule)
    assert await visible(summaries, None, room) is anonymous
    assert await visible(summaries, bob, room) is stranger
    assert await visible(summaries, alice, room)


@pytest.mark.parametrize(("version", "expected"), [("6", False), ("7", True)])
async def test_a_join_rule_that_the_version_does_not_know_opens_nothing(
    engine: Engine, summaries: RoomSummaries, alice: Requester, bob: Requester, version: str, expected: bool
) -> None:
    room = await ruled(engine, alice, "knock", room_version=version)
    assert await visible(summaries, bob, room) is expected
    assert await visible(summaries, None, room) is expected


async def test_members_of_an_allowed_room_see_a_restricted_one(
    engine: Engine, summaries: RoomSummaries, alice: Requester, bob: Requester
) -> None:
    team = await engine.create(alice, preset="public_chat")
    allow = [{"type": "m.room_membership", "room_id": team.room_id}]
    room = await ruled(engine, alice, "restricted", rule={"allow": allow})
    assert not await visible(summaries, bob, room)
    await engine.joining.join(bob, team.room_id)
    assert await visible(summaries, bob, room)
    await engine.leaving.leave(bob, team.room_id)
    assert not await visible(summaries, bob, room)


async def test_everybody_sees_what_the_world_may_read(
    engine: Engine, summaries: RoomSummaries, alice: Requester, bob: Requester
) -> None:
    readable = [{"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}]
    room = await ruled(engine, alice, "invite", initial_state=readable)
    assert "membership" not in await summaries.get(None, "", room.room_id, [])
    assert (await summaries.get(bob, "", room.room_id, []))["membership"] == "leave"


async def test_who_is_banned_sees_no_summary(
    engine: Engine, summaries: RoomSummaries, alice: Requester, bob: Requester
) -> None:
    room = await ruled(engine, alice, "public")
    await engine.moderation.ban(alice, room.room_id, bob.user_id)
    assert not await visible(summaries, bob, room)


async def test_an_alias_stands_for_its_room(
    engine: Engine, summaries: RoomSummaries, alice: Requester
) -> None:
    name = f"sum-{alice.user_id[1:].partition(':')[0]}"
    room = await engine.create(alice, room_alias_name=name)
    summary = await summaries.get(alice, "", f"#{name}:{SERVER_NAME}", [])
    assert (summary["room_id"], summary["canonical_alias"]) == (room.room_id, f"#{name}:{SERVER_NAME}")


@pytest.mark.parametrize(
    ("named", "error"),
    [(f"!none:{SERVER_NAME}", NotFound), (f"#none:{SERVER_NAME}", NotFound), ("none", InvalidParam)],
)
async def test_unknown_rooms_have_none(
    summaries: RoomSummaries, alice: Requester, named: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await summaries.get(alice, "", named, [])


def test_what_anybody_may_write_into_a_room_is_shown_in_the_specified_form_or_not_at_all() -> None:
    stored = {
        "room_id": "!a",
        "avatar_url": "https://tracker.test/pixel",
        "canonical_alias": "no alias",
        "encryption": "rot13",
        "allowed_room_ids": ["no room"],
        "search": "folded",
    }
    assert room_summary(stored) == {"room_id": "!a"}


def test_a_room_without_a_summary_is_shown_to_nobody() -> None:
    assert not is_visible({}, None)
    assert not is_visible({}, {})
