"""Creating rooms: what the first events are, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.errors import (
    BadJson,
    InvalidParam,
    InvalidRoomState,
    InviteBlocked,
    MissingParam,
    NotFound,
    RoomInUse,
    ServerNotTrusted,
    UnsupportedRoomVersion,
)
from homeserver.requester import Requester
from tests.rooms.conftest import SERVER_NAME, Engine

ASKS = {"id_server": "id.test", "id_access_token": "t", "medium": "email", "address": "b@example.org"}


@pytest.mark.parametrize(
    ("preset", "join_rule", "guest_access", "invite"),
    [
        ("private_chat", "invite", "can_join", 0),
        ("trusted_private_chat", "invite", "can_join", 0),
        ("public_chat", "public", "forbidden", 50),
    ],
)
async def test_presets(
    engine: Engine, alice: Requester, preset: str, join_rule: str, guest_access: str, invite: int
) -> None:
    room = await engine.create(alice, preset=preset)
    assert room.content_of("m.room.join_rules") == {"join_rule": join_rule}
    assert room.content_of("m.room.history_visibility") == {"history_visibility": "shared"}
    assert room.content_of("m.room.guest_access").get("guest_access", "forbidden") == guest_access
    assert room.content_of("m.room.power_levels")["invite"] == invite


async def test_visibility_names_the_preset_and_publishes(engine: Engine, alice: Requester) -> None:
    public, private = await engine.create(alice, visibility="public"), await engine.create(alice)
    assert public.join_rule == "public" and private.join_rule == "invite"
    assert await engine.publication.is_published(public.nid)
    assert not await engine.publication.is_published(private.nid)


@pytest.mark.parametrize("version", [str(number) for number in range(1, 13)])
async def test_every_version_can_be_created_and_read_back(
    engine: Engine, alice: Requester, bob: Requester, version: str
) -> None:
    room = await engine.create(
        alice, room_version=version, name="Tea", topic="Green", invite=[bob.user_id], is_direct=True
    )
    before = {key: event.event_id for key, event in room.state.items()}
    room = await engine.reload(room.room_id)
    assert {key: event.event_id for key, event in room.state.items()} == before
    assert room.version.id == version
    assert room.content_of("m.room.create").get("creator") == (
        alice.user_id if room.version.creator_in_content else None
    )
    assert (":" in room.room_id) is not room.version.room_id_is_create_hash
    assert room.content_of("m.room.topic")["m.topic"]["m.text"][0]["body"] == "Green"
    assert room.content_of("m.room.member", bob.user_id) == {
        "membership": "invite",
        "displayname": "Bob",
        "is_direct": True,
    }
    assert room.content_of("m.room.member", alice.user_id) == {"membership": "join", "displayname": "Alice"}


async def test_events_come_in_the_specified_order(engine: Engine, alice: Requester, bob: Requester) -> None:
    room = await engine.create(
        alice,
        room_alias_name="in-order",
        initial_state=[
            {"type": "m.room.name", "content": {"name": "Overridden"}},
            {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},
            {"type": "m.room.join_rules", "content": {"join_rule": "knock"}},
        ],
        name="Tea",
        topic="Green",
        invite=[bob.user_id],
    )
    assert await engine.stored_types(room.room_id) == [
        "m.room.create",
        "m.room.member",
        "m.room.power_levels",
        "m.room.canonical_alias",
        "m.room.history_visibility",
        "m.room.guest_access",
        "m.room.encryption",
        "m.room.join_rules",
        "m.room.name",
        "m.room.topic",
        "m.room.member",
    ]
    assert room.join_rule == "knock"
    assert room.content_of("m.room.name") == {"name": "Tea"}
    alias = f"#in-order:{SERVER_NAME}"
    assert room.content_of("m.room.canonical_alias") == {"alias": alias}
    assert await engine.aliases.lookup(alias) == room.room_id


async def test_creators_of_version_12_have_no_level(engine: Engine, alice: Requester, bob: Requester) -> None:
    room = await engine.create(
        alice,
        preset="trusted_private_chat",
        room_version="12",
        invite=[bob.user_id],
        creation_content={"additional_creators": [f"@carol:{SERVER_NAME}", bob.user_id]},
    )
    content = room.content_of("m.room.create")
    assert content["additional_creators"] == [f"@carol:{SERVER_NAME}", bob.user_id]
    levels = room.content_of("m.room.power_levels")
    assert levels["users"] == {}
    assert levels["events"]["m.room.tombstone"] > levels["state_default"]


async def test_trusted_invitees_of_version_11_have_the_creators_level(
    engine: Engine, alice: Requester, bob: Requester
) -> None:
    room = await engine.create(alice, preset="trusted_private_chat", room_version="11", invite=[bob.user_id])
    assert room.content_of("m.room.power_levels")["users"] == {alice.user_id: 100, bob.user_id: 100}


async def test_tombstones_stay_above_an_overridden_state_default(engine: Engine, alice: Requester) -> None:
    room = await engine.create(alice, power_level_content_override={"state_default": 300, "events": {}})
    assert room.content_of("m.room.power_levels")["events"] == {"m.room.tombstone": 301}


async def test_creation_content_is_kept_but_for_what_the_server_sets(
    engine: Engine, alice: Requester
) -> None:
    room = await engine.create(
        alice, creation_content={"type": "m.space", "m.federate": False, "creator": "x", "room_version": "1"}
    )
    assert room.content_of("m.room.create") == {"type": "m.space", "m.federate": False, "room_version": "12"}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"preset": "no_such_chat"}, BadJson),
        ({"name": 1}, BadJson),
        ({"invite": "@alice:veche.test"}, BadJson),
        ({"invite": ["alice"]}, InvalidParam),
        ({"invite": [f"@nobody:{SERVER_NAME}"]}, NotFound),
        ({"initial_state": [{"type": "m.room.name"}]}, BadJson),
        ({"initial_state": [{"type": "m.room.create", "content": {}}]}, InvalidRoomState),
        ({"creation_content": {"additional_creators": ["nobody"]}}, BadJson),
        ({"creation_content": {"m.federate": "no"}}, BadJson),
        ({"room_version": "13"}, UnsupportedRoomVersion),
        ({"room_alias_name": "with:colon"}, InvalidParam),
        ({"power_level_content_override": {"users": 5}}, InvalidRoomState),
        (
            {"room_version": "11", "name": "Tea", "power_level_content_override": {"users": {}}},
            InvalidRoomState,
        ),
        ({"initial_state": [{"type": "t", "content": {"number": 1.5}}]}, BadJson),
        ({"invite_3pid": [ASKS]}, ServerNotTrusted),
        ({"invite_3pid": [ASKS | {"medium": "pigeon"}]}, InvalidParam),
        ({"invite_3pid": [{"medium": "email"}]}, MissingParam),
    ],
)
async def test_refusals(
    engine: Engine, alice: Requester, body: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await engine.create(alice, **body)
    assert await engine.leaving.joined_rooms(alice) == []


async def test_a_creator_among_the_users_of_version_12_is_refused(engine: Engine, alice: Requester) -> None:
    with pytest.raises(InvalidRoomState):
        await engine.create(alice, power_level_content_override={"users": {alice.user_id: 100}})


async def test_an_alias_is_taken_once_and_free_again_after_a_failure(
    engine: Engine, alice: Requester
) -> None:
    with pytest.raises(InvalidRoomState):
        await engine.create(alice, room_alias_name="once", power_level_content_override={"users": 5})
    room = await engine.create(alice, room_alias_name="once")
    with pytest.raises(RoomInUse):
        await engine.create(alice, room_alias_name="once")
    assert await engine.aliases.lookup(f"#once:{SERVER_NAME}") == room.room_id


async def test_nothing_is_created_if_an_invitee_takes_no_invites(
    engine: Engine, alice: Requester, bob: Requester
) -> None:
    await engine.account_data.put(bob, "m.invite_permission_config", {"default_action": "block"})
    with pytest.raises(InviteBlocked):
        await engine.create(alice, invite=[bob.user_id])
    assert await engine.leaving.joined_rooms(alice) == []


async def test_a_room_begins_with_as_much_state_as_is_allowed(engine: Engine, alice: Requester) -> None:
    pieces = [{"type": "com.example.piece", "state_key": str(n), "content": {"n": n}} for n in range(200)]
    room = await engine.create(alice, initial_state=pieces)
    stored = await engine.reload(room.room_id)
    assert [stored.content_of("com.example.piece", str(n)) for n in range(200)] == [
        {"n": n} for n in range(200)
    ]
    assert (await engine.stored_types(room.room_id)).count("com.example.piece") == 200
