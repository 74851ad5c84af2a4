"""Creating and upgrading rooms: Client-Server API, "Creation", "Room Upgrades"."""

from __future__ import annotations

import pytest

from tests.api.client import Api, JsonObject, User, refused, state_of

UNKNOWN_VERSION = "test.no-such-version"


async def full_state(user: User, room: str) -> dict[tuple[str, str], JsonObject]:
    """Contents by type and state key."""
    events = await user.get("/v3/rooms/{}/state", room)
    return {key: event["content"] for key, event in state_of(events).items()}


@pytest.mark.parametrize(
    ("preset", "join_rule", "guest_access"),
    [
        ("private_chat", "invite", "can_join"),
        ("trusted_private_chat", "invite", "can_join"),
        ("public_chat", "public", "forbidden"),
    ],
)
async def test_presets_set_the_first_state(
    alice: User, preset: str, join_rule: str, guest_access: str
) -> None:
    state = await full_state(alice, await alice.create_room(preset=preset))
    assert state["m.room.join_rules", ""]["join_rule"] == join_rule
    assert state["m.room.history_visibility", ""]["history_visibility"] == "shared"
    assert state.get(("m.room.guest_access", ""), {}).get("guest_access", "forbidden") == guest_access
    assert state["m.room.member", alice.user_id]["membership"] == "join"


async def test_everything_asked_for_is_in_the_state(alice: User, bob: User) -> None:
    room = await alice.create_room(
        preset="private_chat",
        name="Plans",
        topic="What to do",
        room_alias_name=f"plans-{alice.localpart}",
        creation_content={"m.federate": False, "com.example.purpose": "test"},
        initial_state=[
            {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}},
            {"type": "com.example.kept", "state_key": "key", "content": {"value": 1}},
        ],
        power_level_content_override={"events_default": 10},
        invite=[bob.user_id],
        is_direct=True,
        room_version="11",
    )
    state = await full_state(alice, room)
    alias = f"#plans-{alice.localpart}:{alice.server_name}"
    create = state["m.room.create", ""]
    assert (create["room_version"], create["m.federate"], create["com.example.purpose"]) == (
        "11",
        False,
        "test",
    )
    assert state["m.room.name", ""] == {"name": "Plans"}
    assert state["m.room.topic", ""]["topic"] == "What to do"
    assert state["m.room.canonical_alias", ""]["alias"] == alias
    assert state["m.room.history_visibility", ""] == {"history_visibility": "joined"}
    assert state["com.example.kept", "key"] == {"value": 1}
    assert state["m.room.power_levels", ""]["events_default"] == 10
    assert state["m.room.power_levels", ""]["users"] == {alice.user_id: 100}
    invite = state["m.room.member", bob.user_id]
    assert (invite["membership"], invite["is_direct"]) == ("invite", True)
    assert (await bob.get("/v3/directory/room/{}", alias))["room_id"] == room


async def test_creators_of_version_12_stand_above_all_levels(alice: User, bob: User) -> None:
    room = await alice.create_room(
        room_version="12", creation_content={"additional_creators": [bob.user_id]}, invite=[bob.user_id]
    )
    assert ":" not in room
    state = await full_state(alice, room)
    assert state["m.room.create", ""]["additional_creators"] == [bob.user_id]
    assert alice.user_id not in state["m.room.power_levels", ""].get("users", {})
    await bob.join(room)
    await bob.set_state(room, "m.room.name", {"name": "Bob may do this"})


async def test_trusted_friends_get_the_creators_power(alice: User, bob: User) -> None:
    room = await alice.create_room(preset="trusted_private_chat", invite=[bob.user_id], room_version="10")
    levels = (await full_state(alice, room))["m.room.power_levels", ""]
    assert levels["users"] == {alice.user_id: 100, bob.user_id: 100}


@pytest.mark.parametrize("version", [str(number) for number in range(1, 13)])
async def test_every_room_version_carries_a_chat(alice: User, bob: User, version: str) -> None:
    room = await alice.create_room(room_version=version)
    await bob.join(room)
    message = await bob.send(room, "hello")
    redaction = await bob.redact(room, message)
    assert (await alice.event(room, message))["content"] == {}
    redacting = await alice.event(room, redaction)
    assert message in (redacting.get("redacts"), redacting["content"].get("redacts"))


async def test_what_cannot_be_created_is_refused(alice: User, bob: User) -> None:
    with refused(400, "M_UNSUPPORTED_ROOM_VERSION"):
        await alice.create_room(room_version=UNKNOWN_VERSION)
    name = f"taken-{alice.localpart}"
    await alice.create_room(room_alias_name=name)
    with refused(400, "M_ROOM_IN_USE"):
        await bob.create_room(room_alias_name=name)
    with refused(400, "M_BAD_JSON"):
        await alice.create_room(initial_state="none")
    with refused(400, "M_BAD_JSON"):
        await alice.create_room(preset="secret_chat")


async def test_an_upgrade_leads_over_to_the_new_room(api: Api, alice: User, bob: User) -> None:
    old = await alice.create_room(
        name="Plans", topic="What to do", room_version="10", room_alias_name=f"moving-{alice.localpart}"
    )
    await bob.join(old)
    banned = await api.register("alice")
    await alice.post("/v3/rooms/{}/ban", old, json={"user_id": banned.user_id})
    with refused(403, "M_FORBIDDEN"):
        await bob.post("/v3/rooms/{}/upgrade", old, json={"new_version": "12"})
    with refused(404, "M_NOT_FOUND"):
        await alice.post("/v3/rooms/{}/upgrade", "!fail:unknown", json={"new_version": "12"})
    with refused(400, "M_UNSUPPORTED_ROOM_VERSION"):
        await alice.post("/v3/rooms/{}/upgrade", old, json={"new_version": UNKNOWN_VERSION})
    new = (await alice.post("/v3/rooms/{}/upgrade", old, json={"new_version": "12"}))["replacement_room"]

    assert (await alice.state(old, "m.room.tombstone"))["replacement_room"] == new
    with refused(403, "M_FORBIDDEN"):
        await bob.send(old, "is anybody here?")
    state = await full_state(alice, new)
    assert state["m.room.create", ""]["room_version"] == "12"
    assert state["m.room.create", ""]["predecessor"]["room_id"] == old
    assert state["m.room.name", ""] == {"name": "Plans"}
    assert state["m.room.topic", ""]["topic"] == "What to do"
    assert state["m.room.member", banned.user_id]["membership"] == "ban"
    alias = f"#moving-{alice.localpart}:{alice.server_name}"
    assert (await bob.get("/v3/directory/room/{}", alias))["room_id"] == new
    await bob.join(new)


async def test_a_room_cannot_be_replaced_by_itself(alice: User) -> None:
    room = await alice.create_room()
    with refused(400, "M_INVALID_PARAM"):
        await alice.set_state(room, "m.room.tombstone", {"body": "Moved", "replacement_room": room})
    await alice.set_state(
        room, "m.room.tombstone", {"body": "Closed", "replacement_room": "!other:veche.test"}
    )
