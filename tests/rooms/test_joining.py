"""Joining and knocking: who gets in, how, and what the member event says."""

from __future__ import annotations

import pytest

from federation.keys import SigningKey
from federation.signing import sign_json
from homeserver.errors import Forbidden, GuestAccessForbidden, InvalidParam, NotFound
from homeserver.requester import Requester
from homeserver.rooms.draft import Draft
from homeserver.rooms.room import Room
from homeserver.rooms.state_setting import DEPARTURES_AT_ONCE
from tests.rooms.conftest import SERVER_NAME, Engine

IDENTITY_KEY = SigningKey.from_seed("0", bytes(32))


def restricted_to(room: Room, rule: str = "restricted") -> dict[str, object]:
    """An `initial_state` entry that lets members of a room join."""
    allow = [{"type": "m.room_membership", "room_id": room.room_id}]
    return {"type": "m.room.join_rules", "content": {"join_rule": rule, "allow": allow}}


async def test_a_public_room_is_joined_once(engine: Engine, alice: Requester, bob: Requester) -> None:
    room = await engine.create(alice, preset="public_chat")
    assert await engine.joining.join(bob, room.room_id, reason="tea") == room.room_id
    assert await engine.joining.join(bob, room.room_id, reason="again") == room.room_id
    room = await engine.reload(room.room_id)
    assert room.content_of("m.room.member", bob.user_id) == {
        "membership": "join",
        "displayname": "Bob",
        "reason": "tea",
    }
    assert await engine.leaving.joined_rooms(bob) == [room.room_id]
    assert (await engine.stored_types(room.room_id)).count("m.room.member") == 2


async def test_join_by_alias(engine: Engine, alice: Requester, bob: Requester) -> None:
    room = await engine.create(alice, preset="public_chat", room_alias_name="by-alias")
    assert await engine.joining.join(bob, f"#by-alias:{SERVER_NAME}") == room.room_id
    with pytest.raises(NotFound):
        await engine.joining.join(bob, f"#by-no-alias:{SERVER_NAME}")
    with pytest.raises(InvalidParam):
        await engine.joining.join(bob, "by-alias")
    with pytest.raises(NotFound):
        await engine.joining.join(bob, f"!none:{SERVER_NAME}")


async def test_an_invite_room_wants_an_invite(engine: Engine, alice: Requester, bob: Requester) -> None:
    room = await engine.create(alice)
    with pytest.raises(Forbidden):
        await engine.joining.join(bob, room.room_id)
    await engine.inviting.invite(alice, room.room_id, bob.user_id)
    await engine.joining.join(bob, room.room_id)
    assert (await engine.rooms.get(room.room_id)).joined_count == 2


async def test_a_banned_user_stays_out(engine: Engine, alice: Requester, bob: Requester) -> None:
    room = await engine.create(alice, preset="public_chat")
    await engine.moderation.ban(alice, room.room_id, bob.user_id)
    with pytest.raises(Forbidden):
        await engine.joining.join(bob, room.room_id)
    await engine.moderation.unban(alice, room.room_id, bob.user_id)
    await engine.joining.join(bob, room.room_id)


@pytest.mark.parametrize("version", ["8", "10", "12"])
async def test_members_of_an_allowed_room_join_a_restricted_one(
    engine: Engine, alice: Requester, bob: Requester, version: str
) -> None:
    lobby = await engine.create(alice, preset="public_chat")
    room = await engine.create(alice, room_version=version, initial_state=[restricted_to(lobby)])
    with pytest.raises(Forbidden):
        await engine.joining.join(bob, room.room_id)
    await engine.joining.join(bob, lobby.room_id)
    await engine.joining.join(bob, room.room_id)
    content = (await engine.reload(room.room_id)).content_of("m.room.member", bob.user_id)
    assert content["join_authorised_via_users_server"] == alice.user_id


async def test_by_whose_authority_is_not_for_the_user_to_say(
    engine: Engine, alice: Requester, bob: Requester
) -> None:
    lobby = await engine.create(alice)
    room = await engine.create(alice, initial_state=[restricted_to(lobby)])
    claim = {"membership": "join", "join_authorised_via_users_server": alice.user_id}
    with pytest.raises(Forbidden):
        await engine.state.put(bob, room.room_id, "m.room.member", bob.user_id, claim)
    await engine.inviting.invite(alice, room.room_id, bob.user_id)
    await engine.state.put(bob, room.room_id, "m.room.member", bob.user_id, claim)
    content = (await engine.rooms.get(room.room_id)).content_of("m.room.member", bob.user_id)
    assert content == {"membership": "join", "displayname": "Bob"}


async def test_nobody_who_may_invite_here_means_nobody_lets_in(
    engine: Engine, alice: Requester, bob: Requester
) -> None:
    lobby = await engine.create(alice, preset="public_chat")
    room = await engine.create(alice, initial_state=[restricted_to(lobby)])
    await engine.joining.join(bob, lobby.room_id)
    await engine.leaving.leave(alice, room.room_id)
    with pytest.raises(Forbidden):
        await engine.joining.join(bob, room.room_id)


async def test_knocking(engine: Engine, alice: Requester, bob: Requester) -> None:
    rule = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
    room = await engine.create(alice, initial_state=[rule])
    assert await engine.joining.knock(bob, room.room_id, reason="hello") == room.room_id
    assert room.content_of("m.room.member", bob.user_id)["reason"] == "hello"
    with pytest.raises(Forbidden):
        await engine.joining.join(bob, room.room_id)
    await engine.inviting.invite(alice, room.room_id, bob.user_id)
    with pytest.raises(Forbidden):
        await engine.joining.knock(bob, room.room_id)
    await engine.joining.join(bob, room.room_id)
    await engine.leaving.leave(bob, room.room_id)
    await engine.joining.knock(bob, room.room_id)
    await engine.leaving.leave(bob, room.room_id)
    assert (await engine.rooms.get(room.room_id)).membership(bob.user_id) == "leave"


@pytest.mark.parametrize("version", ["6", "12"])
async def test_no_knocks_where_the_room_takes_none(
    engine: Engine, alice: Requester, bob: Requester, version: str
) -> None:
    room = await engine.create(alice, room_version=version)
    with pytest.raises(Forbidden):
        await engine.joining.knock(bob, room.room_id)


async def test_knock_restricted_takes_members_and_knocks(
    engine: Engine, alice: Requester, bob: Requester
) -> None:
    lobby = await engine.create(alice, preset="public_chat")
    room = await engine.create(alice, initial_state=[restricted_to(lobby, "knock_restricted")])
    await engine.joining.knock(bob, room.room_id)
    with pytest.raises(Forbidden):
        await engine.joining.join(bob, room.room_id)
    await engine.joining.join(bob, lobby.room_id)
    await engine.joining.join(bob, room.room_id)
    assert (await engine.rooms.get(room.room_id)).membership(bob.user_id) == "join"


async def test_guests_join_where_they_may_and_go_when_they_may_not(engine: Engine, alice: Requester) -> None:
    guest = await engine.user("guest", is_guest=True)
    room = await engine.create(alice, preset="public_chat")
    with pytest.raises(GuestAccessForbidden):
        await engine.joining.join(guest, room.room_id)
    access = "m.room.guest_access"
    await engine.state.put(alice, room.room_id, access, "", {"guest_access": "can_join"})
    await engine.joining.join(guest, room.room_id)
    event_id = await engine.state.put(alice, room.room_id, access, "", {"guest_access": "forbidden"})
    room = await engine.reload(room.room_id)
    assert room.membership(guest.user_id) == "leave"
    assert room.membership(alice.user_id) == "join"
    current = room.state_event(access)
    assert current is not None and current.event_id == event_id


async def test_however_many_guests_there_are_all_of_them_go(engine: Engine, alice: Requester) -> None:
    guests = [await engine.user("guest", is_guest=True) for _ in range(DEPARTURES_AT_ONCE + 5)]
    room = await engine.create(alice, preset="public_chat")
    access = "m.room.guest_access"
    await engine.state.put(alice, room.room_id, access, "", {"guest_access": "can_join"})
    for guest in guests:
        await engine.joining.join(guest, room.room_id)
    await engine.state.put(alice, room.room_id, access, "", {"guest_access": "forbidden"})
    assert {room.membership(guest.user_id) for guest in guests} == {"leave"}


async def test_a_third_party_invite_lets_in_who_proves_to_be_meant(
    engine: Engine, alice: Requester, bob: Requester
) -> None:
    room = await engine.create(alice)
    public_key = IDENTITY_KEY.verify_key.base64
    invite = {
        "display_name": "b…@example.org",
        "key_validity_url": "https://example.org/valid",
        "public_key": public_key,
        "public_keys": [{"public_key": public_key}],
    }
    await engine.rooms.send(
        room.room_id,
        Draft(sender=alice.user_id, type="m.room.third_party_invite", state_key="token", content=invite),
    )
    whole = {"mxid": bob.user_id, "sender": alice.user_id, "token": "token"}
    proof = sign_json(whole, "example.org", IDENTITY_KEY)
    forged = {**proof, "signatures": {"example.org": {"ed25519:0": "A" * 86}}}
    with pytest.raises(Forbidden):
        await engine.joining.join(bob, room.room_id, third_party_signed=forged)
    assert room.membership(bob.user_id) == "leave"
    await engine.joining.join(bob, room.room_id, third_party_signed=proof)
    room = await engine.reload(room.room_id)
    assert room.membership(bob.user_id) == "join"
    assert (await engine.stored_types(room.room_id))[-2:] == ["m.room.member", "m.room.member"]
