"""Leaving, forgetting, inviting, kicking and banning."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from homeserver.errors import (
    BadState,
    CannotLeaveServerNoticeRoom,
    Forbidden,
    InvalidParam,
    InviteBlocked,
    NotFound,
    Unknown,
)
from homeserver.requester import Requester
from homeserver.rooms.room import Room
from tests.rooms.conftest import Engine


@pytest.fixture
async def room(engine: Engine, alice: Requester, bob: Requester) -> Room:
    """A public room of Alice's that Bob has joined."""
    room = await engine.create(alice, preset="public_chat")
    await engine.joining.join(bob, room.room_id)
    return room


async def test_leaving_and_coming_back(engine: Engine, room: Room, bob: Requester) -> None:
    await engine.leaving.leave(bob, room.room_id, reason="tea time")
    await engine.leaving.leave(bob, room.room_id)  # again does no harm
    room = await engine.reload(room.room_id)
    assert room.content_of("m.room.member", bob.user_id) == {"membership": "leave", "reason": "tea time"}
    assert await engine.leaving.joined_rooms(bob) == []
    await engine.joining.join(bob, room.room_id)
    assert await engine.leaving.joined_rooms(bob) == [room.room_id]


async def test_who_comes_back_meanwhile_has_not_forgotten(engine: Engine, room: Room, bob: Requester) -> None:
    await engine.leaving.leave(bob, room.room_id)
    await engine.joining.join(bob, room.room_id)
    await engine.user_rooms.forget(bob.user_id, room.nid)
    assert not (await engine.user_rooms.get(bob.user_id))[room.nid].forgotten
    stored = await engine.database.pool.fetchval(
        "SELECT forgotten FROM memberships JOIN users ON users.nid = user_nid WHERE user_id = $1", bob.user_id
    )
    assert stored is False


async def test_leaving_twice_at_once_is_answered_when_it_is_durable(
    engine: Engine, room: Room, bob: Requester
) -> None:
    async def leave() -> bool:
        await engine.leaving.leave(bob, room.room_id)
        member = room.member(bob.user_id)
        return member is not None and engine.rooms.is_durable(member)

    before = await engine.stored_types(room.room_id)
    assert all(await asyncio.gather(leave(), leave(), leave()))
    assert len(await engine.stored_types(room.room_id)) == len(before) + 1


async def test_only_who_is_there_can_leave(engine: Engine, room: Room, alice: Requester) -> None:
    stranger = await engine.user("stranger")
    with pytest.raises(Forbidden):
        await engine.leaving.leave(stranger, room.room_id)
    with pytest.raises(NotFound):
        await engine.leaving.leave(stranger, "!none:veche.test")
    await engine.moderation.ban(alice, room.room_id, stranger.user_id)
    with pytest.raises(Forbidden):
        await engine.leaving.leave(stranger, room.room_id)


async def test_forgetting_comes_after_leaving(
    engine: Engine, room: Room, alice: Requester, bob: Requester
) -> None:
    with pytest.raises(Unknown):
        await engine.leaving.forget(bob, room.room_id)
    await engine.leaving.leave(bob, room.room_id)
    await engine.leaving.forget(bob, room.room_id)
    memberships = await engine.user_rooms.get(bob.user_id)
    assert memberships[room.nid].forgotten
    await engine.inviting.invite(alice, room.room_id, bob.user_id)
    assert not (await engine.user_rooms.get(bob.user_id))[room.nid].forgotten
    with pytest.raises(Unknown):
        await engine.leaving.forget(bob, room.room_id)
    await engine.moderation.ban(alice, room.room_id, bob.user_id)
    await engine.leaving.forget(bob, room.room_id)
    with pytest.raises(Unknown):
        await engine.leaving.forget(bob, "!none:veche.test")


async def test_leaving_everything(engine: Engine, alice: Requester, bob: Requester) -> None:
    rooms = [await engine.create(alice, preset="public_chat") for _ in range(40)]
    for room in rooms[:35]:
        await engine.joining.join(bob, room.room_id)
    for room in rooms[35:]:
        await engine.inviting.invite(alice, room.room_id, bob.user_id)
    await engine.leaving.leave_all(bob.user_id)
    await engine.leaving.leave_all(bob.user_id)
    memberships = await engine.user_rooms.get(bob.user_id)
    assert {row.membership for row in memberships.values()} == {"leave"} and len(memberships) == 40


async def test_invites_of_the_server_stay(engine: Engine, bob: Requester) -> None:
    notices = replace(await engine.user("notices"), user_id="@notices:veche.test")
    await engine.database.pool.execute(
        "UPDATE users SET user_id = $1 WHERE nid = $2", notices.user_id, notices.user_nid
    )
    room = await engine.create(notices, invite=[bob.user_id])
    with pytest.raises(CannotLeaveServerNoticeRoom):
        await engine.leaving.leave(bob, room.room_id)
    await engine.joining.join(bob, room.room_id)
    await engine.leaving.leave(bob, room.room_id)


async def test_inviting(engine: Engine, room: Room, alice: Requester, bob: Requester) -> None:
    carol = await engine.user("carol")
    with pytest.raises(Forbidden):  # 50 is wanted in a public room
        await engine.inviting.invite(bob, room.room_id, carol.user_id)
    with pytest.raises(Forbidden):
        await engine.inviting.invite(carol, room.room_id, carol.user_id)
    await engine.inviting.invite(alice, room.room_id, carol.user_id, reason="tea")
    await engine.inviting.invite(alice, room.room_id, carol.user_id, reason="tea")
    assert room.content_of("m.room.member", carol.user_id) == {
        "membership": "invite",
        "displayname": "Carol",
        "reason": "tea",
    }
    for user_id, error in (
        (bob.user_id, Forbidden),
        ("bob", InvalidParam),
        ("@bob:other.test", Forbidden),
        ("@nobody:veche.test", NotFound),
    ):
        with pytest.raises(error):
            await engine.inviting.invite(alice, room.room_id, user_id)


async def test_who_takes_no_invites_is_not_invited(engine: Engine, room: Room, alice: Requester) -> None:
    carol = await engine.user("carol")
    setting = "m.invite_permission_config"
    await engine.account_data.put(carol, setting, {"default_action": "block"})
    with pytest.raises(InviteBlocked):
        await engine.inviting.invite(alice, room.room_id, carol.user_id)
    with pytest.raises(InviteBlocked):
        await engine.state.put(alice, room.room_id, "m.room.member", carol.user_id, {"membership": "invite"})
    await engine.account_data.put(carol, setting, {})
    await engine.inviting.invite(alice, room.room_id, carol.user_id)


async def test_kicking(engine: Engine, room: Room, alice: Requester, bob: Requester) -> None:
    with pytest.raises(Forbidden):
        await engine.moderation.kick(bob, room.room_id, alice.user_id)
    await engine.moderation.kick(alice, room.room_id, bob.user_id, reason="tea")
    assert room.content_of("m.room.member", bob.user_id) == {"membership": "leave", "reason": "tea"}
    with pytest.raises(Forbidden):
        await engine.moderation.kick(alice, room.room_id, bob.user_id)
    with pytest.raises(Forbidden):
        await engine.moderation.kick(bob, room.room_id, alice.user_id)


async def test_banning(engine: Engine, room: Room, alice: Requester, bob: Requester) -> None:
    with pytest.raises(Forbidden):
        await engine.moderation.ban(bob, room.room_id, alice.user_id)
    with pytest.raises(BadState):
        await engine.moderation.unban(alice, room.room_id, bob.user_id)
    with pytest.raises(InvalidParam):
        await engine.moderation.ban(alice, room.room_id, "bob")
    await engine.moderation.ban(alice, room.room_id, bob.user_id, reason="tea")
    await engine.moderation.ban(alice, room.room_id, "@somebody:other.test")
    with pytest.raises(Forbidden):
        await engine.inviting.invite(alice, room.room_id, bob.user_id)
    room = await engine.reload(room.room_id)
    assert room.content_of("m.room.member", bob.user_id) == {"membership": "ban", "reason": "tea"}
    await engine.moderation.unban(alice, room.room_id, bob.user_id)
    assert (await engine.rooms.get(room.room_id)).membership(bob.user_id) == "leave"


async def test_memberships_by_way_of_state(
    engine: Engine, room: Room, alice: Requester, bob: Requester
) -> None:
    def member(user: Requester) -> tuple[str, str, str]:
        return room.room_id, "m.room.member", user.user_id

    await engine.state.put(bob, *member(bob), {"membership": "join", "displayname": "Robert"})
    assert room.content_of("m.room.member", bob.user_id)["displayname"] == "Robert"
    with pytest.raises(Forbidden):
        await engine.state.put(bob, *member(alice), {"membership": "leave"})
    with pytest.raises(Forbidden):
        carol = await engine.user("carol")
        await engine.state.put(alice, *member(carol), {"membership": "join"})
    await engine.state.put(bob, *member(bob), {"membership": "leave"})
    await engine.state.put(bob, *member(bob), {"membership": "join"})
    assert room.content_of("m.room.member", bob.user_id) == {"membership": "join", "displayname": "Bob"}
    await engine.state.put(alice, *member(bob), {"membership": "ban"})
    assert room.membership(bob.user_id) == "ban"
