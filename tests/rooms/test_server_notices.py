"""The server speaks to its users."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from federation.room_versions import room_version
from homeserver.accounts.profiles import Profiles
from homeserver.config.people import ServerNoticesConfig
from homeserver.errors import CannotLeaveServerNoticeRoom, Forbidden, InvalidParam, NotFound
from homeserver.requester import Requester
from homeserver.rooms.room import Room
from homeserver.rooms.server_notices import Notice, ServerNotices
from homeserver.storage import notice_rooms
from homeserver.storage.accounts import insert_account
from tests.rooms.conftest import NOTICES, SERVER_NAME, Engine

HELLO = Notice(content={"msgtype": "m.text", "body": "The server moves tonight"})


@pytest.fixture
def notices(engine: Engine) -> ServerNotices:
    pool = engine.database.pool
    return ServerNotices(
        pool,
        engine.rooms,
        Profiles(pool),
        engine.tags,
        ServerNoticesConfig(),
        SERVER_NAME,
        room_version("12"),
    )


async def room_of(engine: Engine, user: Requester) -> Room:
    room_id = await notice_rooms.fetch(engine.database.pool, user.user_nid)
    assert room_id is not None
    return await engine.reload(room_id)


@pytest.mark.parametrize("version", ["12", "11", "6"])
async def test_a_notice_invites_its_user_into_a_marked_room(
    engine: Engine, notices: ServerNotices, alice: Requester, version: str
) -> None:
    await replace(notices, version=room_version(version)).send(alice.user_id, HELLO)
    room = await room_of(engine, alice)
    assert room.version.id == version
    assert room.membership(alice.user_id) == "invite"
    assert room.content_of("m.room.member", NOTICES)["displayname"] == "Server notices"
    assert room.text_of("m.room.name", "name") == "Server notices"
    assert list(await engine.tags.get(alice, room.room_id)) == ["m.server_notice"]
    assert (await engine.stored_types(room.room_id))[-1] == "m.room.message"


async def test_a_user_has_one_room_of_notices(
    engine: Engine, notices: ServerNotices, alice: Requester, bob: Requester
) -> None:
    await asyncio.gather(*(notices.send(alice.user_id, HELLO) for _ in range(5)))
    await notices.send(bob.user_id, HELLO)
    room = await room_of(engine, alice)
    assert (await engine.stored_types(room.room_id)).count("m.room.message") == 5
    memberships = await engine.user_rooms.get(alice.user_id)
    assert [row.room_id for row in memberships.values()] == [room.room_id]
    assert (await room_of(engine, bob)).room_id != room.room_id


async def test_the_invite_cannot_be_turned_down(
    engine: Engine, notices: ServerNotices, alice: Requester
) -> None:
    await notices.send(alice.user_id, HELLO)
    room = await room_of(engine, alice)
    with pytest.raises(CannotLeaveServerNoticeRoom):
        await engine.leaving.leave(alice, room.room_id)


async def test_who_joined_can_leave_and_is_invited_again(
    engine: Engine, notices: ServerNotices, alice: Requester
) -> None:
    await notices.send(alice.user_id, HELLO)
    room = await room_of(engine, alice)
    await engine.joining.join(alice, room.room_id)
    await engine.leaving.leave(alice, room.room_id)
    await engine.tags.delete(alice, room.room_id, "m.server_notice")
    await notices.send(alice.user_id, HELLO)
    again = await room_of(engine, alice)
    assert again.room_id == room.room_id
    assert again.membership(alice.user_id) == "invite"
    assert list(await engine.tags.get(alice, room.room_id)) == ["m.server_notice"]


@pytest.mark.parametrize("version", ["12", "11"])
async def test_users_only_read_there(
    engine: Engine, notices: ServerNotices, alice: Requester, bob: Requester, version: str
) -> None:
    await replace(notices, version=room_version(version)).send(alice.user_id, HELLO)
    room = await room_of(engine, alice)
    await engine.joining.join(alice, room.room_id)
    with pytest.raises(Forbidden):
        await engine.sending.send(alice, room.room_id, "m.room.message", "txn", {"body": "why?"})
    with pytest.raises(Forbidden):
        await engine.inviting.invite(alice, room.room_id, bob.user_id)


async def test_guests_can_come_in_too(engine: Engine, notices: ServerNotices) -> None:
    guest = await engine.user("guest", is_guest=True)
    await notices.send(guest.user_id, HELLO)
    await engine.joining.join(guest, (await room_of(engine, guest)).room_id)


async def test_a_transaction_is_sent_once(
    engine: Engine, notices: ServerNotices, alice: Requester, bob: Requester
) -> None:
    notice = replace(HELLO, device_nid=bob.device_nid, txn_id="t1")
    assert await notices.send(alice.user_id, notice) == await notices.send(alice.user_id, notice)


async def test_a_notice_can_be_state(engine: Engine, notices: ServerNotices, alice: Requester) -> None:
    pinned = Notice(content={"pinned": ["$event"]}, type="m.room.pinned_events", state_key="")
    await notices.send(alice.user_id, pinned)
    assert (await room_of(engine, alice)).content_of("m.room.pinned_events") == {"pinned": ["$event"]}


@pytest.mark.parametrize(
    ("user_id", "error"),
    [
        ("@someone:elsewhere.test", InvalidParam),
        ("someone", InvalidParam),
        (NOTICES, InvalidParam),
        (f"@nobody:{SERVER_NAME}", NotFound),
    ],
)
async def test_only_users_of_this_server_are_told(
    notices: ServerNotices, user_id: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await notices.send(user_id, HELLO)


async def test_nobodys_account_speaks_for_the_server(
    engine: Engine, notices: ServerNotices, alice: Requester
) -> None:
    await insert_account(engine.database.pool, f"@taken:{SERVER_NAME}", 0, None)
    taken = replace(notices, config=ServerNoticesConfig(localpart="taken"))
    with pytest.raises(InvalidParam, match="localpart"):
        await taken.send(alice.user_id, HELLO)
