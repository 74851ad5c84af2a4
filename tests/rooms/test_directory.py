"""Who may name rooms and publish them, on a real database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from homeserver.config.rooms import RoomsConfig
from homeserver.errors import Forbidden, InvalidParam, NotFound
from homeserver.requester import Requester
from homeserver.rooms.directory import ALIASES_MAX, AliasInUse, Directory
from homeserver.rooms.draft import Draft
from homeserver.rooms.room import Room
from tests.rooms.conftest import SERVER_NAME, Engine

CANONICAL_ALIAS = "m.room.canonical_alias"


@pytest.fixture
def directory(engine: Engine) -> Directory:
    return Directory(
        engine.database.pool, engine.rooms, engine.aliases, engine.publication, RoomsConfig(), SERVER_NAME
    )


@pytest.fixture
async def room(engine: Engine, alice: Requester, bob: Requester) -> Room:
    """A public room of Alice's that Bob has joined."""
    room = await engine.create(alice, preset="public_chat")
    await engine.joining.join(bob, room.room_id)
    return room


def alias_of(user: Requester, name: str = "room") -> str:
    return f"#{name}-{user.user_id[1:].partition(':')[0]}:{SERVER_NAME}"


async def test_members_name_their_room(directory: Directory, room: Room, bob: Requester) -> None:
    alias = alias_of(bob)
    await directory.set_alias(bob, alias, room.room_id)
    assert await directory.resolve(alias) == {"room_id": room.room_id, "servers": [SERVER_NAME]}
    assert await directory.local_aliases(bob, room.room_id) == [alias]


async def test_an_alias_is_given_once(
    engine: Engine, directory: Directory, room: Room, alice: Requester, bob: Requester
) -> None:
    await directory.set_alias(alice, alias_of(alice), room.room_id)
    other = await engine.create(bob)
    for target in (room, other):
        with pytest.raises(AliasInUse) as refusal:
            await directory.set_alias(bob, alias_of(alice), target.room_id)
        assert refusal.value.status == 409


async def test_strangers_and_unknown_rooms_are_refused_alike(
    engine: Engine, directory: Directory, room: Room, bob: Requester
) -> None:
    stranger = await engine.user("stranger")
    for room_id in (room.room_id, f"!none:{SERVER_NAME}"):
        with pytest.raises(Forbidden):
            await directory.set_alias(stranger, alias_of(stranger), room_id)
        with pytest.raises(Forbidden):
            await directory.local_aliases(stranger, room_id)
    administrator = replace(stranger, is_admin=True)
    await directory.set_alias(administrator, alias_of(stranger), room.room_id)
    assert await directory.local_aliases(administrator, room.room_id) == [alias_of(stranger)]


@pytest.mark.parametrize(
    "alias",
    [
        "room",
        "#room",
        "#room:elsewhere.test",
        f"#:{SERVER_NAME}",
        f"#two words:{SERVER_NAME}",
        f"#a:b:{SERVER_NAME}",
        f"#{'long' * 64}:{SERVER_NAME}",
    ],
)
async def test_foreign_and_malformed_aliases_are_invalid(
    directory: Directory, room: Room, alice: Requester, alias: str
) -> None:
    with pytest.raises(InvalidParam):
        await directory.set_alias(alice, alias, room.room_id)
    with pytest.raises(InvalidParam):
        await directory.delete_alias(alice, alias)


async def test_a_room_has_a_bounded_number_of_aliases(
    engine: Engine, directory: Directory, room: Room, alice: Requester
) -> None:
    await engine.database.pool.execute(
        "INSERT INTO room_aliases (alias, room_nid, created_ms, creator) SELECT"
        " '#' || $1::integer || '-' || n || ':veche.test', $1, n, '' FROM generate_series(1, $2::integer) n",
        room.nid,
        ALIASES_MAX,
    )
    with pytest.raises(Forbidden, match="aliases"):
        await directory.set_alias(alice, alias_of(alice), room.room_id)


async def test_aliases_are_removed_by_who_made_them_or_may_name_the_room(
    engine: Engine, directory: Directory, room: Room, alice: Requester, bob: Requester
) -> None:
    carol = await engine.user("carol")
    await engine.joining.join(carol, room.room_id)
    await directory.set_alias(bob, alias_of(bob), room.room_id)
    with pytest.raises(Forbidden):
        await directory.delete_alias(carol, alias_of(bob))
    await directory.delete_alias(bob, alias_of(bob))
    with pytest.raises(NotFound):
        await directory.delete_alias(bob, alias_of(bob))
    await directory.set_alias(bob, alias_of(bob), room.room_id)
    await directory.delete_alias(alice, alias_of(bob))
    await directory.set_alias(bob, alias_of(bob), room.room_id)
    await directory.delete_alias(replace(carol, is_admin=True), alias_of(bob))
    with pytest.raises(NotFound):
        await directory.resolve(alias_of(bob))


async def test_a_removed_alias_leaves_the_rooms_state(
    engine: Engine, directory: Directory, room: Room, alice: Requester, bob: Requester
) -> None:
    main, other = alias_of(alice, "main"), alias_of(alice, "other")
    for alias in (main, other):
        await directory.set_alias(alice, alias, room.room_id)
    content = {"alias": main, "alt_aliases": [other, "#kept:elsewhere.test"]}
    await engine.rooms.send(
        room.room_id, Draft(sender=alice.user_id, type=CANONICAL_ALIAS, state_key="", content=content)
    )
    await directory.delete_alias(alice, other)
    room = await engine.reload(room.room_id)
    assert room.content_of(CANONICAL_ALIAS) == {"alias": main, "alt_aliases": ["#kept:elsewhere.test"]}
    await directory.delete_alias(alice, main)
    assert (await engine.reload(room.room_id)).content_of(CANONICAL_ALIAS) == {
        "alt_aliases": ["#kept:elsewhere.test"]
    }


async def test_an_alias_goes_even_if_its_creator_may_not_change_the_rooms_state(
    engine: Engine, directory: Directory, room: Room, alice: Requester, bob: Requester
) -> None:
    await directory.set_alias(bob, alias_of(bob), room.room_id)
    content = {"alias": alias_of(bob)}
    await engine.rooms.send(
        room.room_id, Draft(sender=alice.user_id, type=CANONICAL_ALIAS, state_key="", content=content)
    )
    await directory.delete_alias(bob, alias_of(bob))
    assert (await engine.reload(room.room_id)).content_of(CANONICAL_ALIAS) == content


async def test_world_readable_rooms_show_their_aliases(engine: Engine, directory: Directory) -> None:
    alice, stranger = await engine.user("alice"), await engine.user("stranger")
    room = await engine.create(
        alice,
        initial_state=[
            {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}
        ],
    )
    await directory.set_alias(alice, alias_of(alice), room.room_id)
    assert await directory.local_aliases(stranger, room.room_id) == [alias_of(alice)]


async def test_rooms_are_published_by_who_may_name_them(
    directory: Directory, room: Room, alice: Requester, bob: Requester
) -> None:
    with pytest.raises(Forbidden):
        await directory.set_published(bob, room.room_id, True)
    await directory.set_published(alice, room.room_id, True)
    assert await directory.is_published(room.room_id)
    await directory.set_published(replace(bob, is_admin=True), room.room_id, False)
    assert not await directory.is_published(room.room_id)
    with pytest.raises(NotFound):
        await directory.is_published(f"!none:{SERVER_NAME}")
    with pytest.raises(NotFound):
        await directory.set_published(alice, f"!none:{SERVER_NAME}", True)


async def test_publishing_can_be_left_to_administrators(
    directory: Directory, room: Room, alice: Requester
) -> None:
    strict = replace(directory, config=RoomsConfig(publication="admins"))
    await directory.set_published(alice, room.room_id, True)
    await strict.set_published(alice, room.room_id, False)  # hiding one's own room is always possible
    with pytest.raises(Forbidden, match="administrators"):
        await strict.set_published(alice, room.room_id, True)
    await strict.set_published(replace(alice, is_admin=True), room.room_id, True)
    assert await directory.is_published(room.room_id)


async def test_a_publication_moves_to_a_rooms_successor(
    engine: Engine, directory: Directory, alice: Requester
) -> None:
    old, new, other = [await engine.create(alice) for _ in range(3)]
    await engine.publication.move(old.nid, new.nid)
    assert not await directory.is_published(new.room_id)  # nothing was there to move
    await directory.set_published(alice, old.room_id, True)
    await engine.publication.move(old.nid, new.nid)
    published = [await directory.is_published(room.room_id) for room in (old, new, other)]
    assert published == [False, True, False]
