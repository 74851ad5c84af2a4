"""Invites that somebody does not want: Client-Server API, "Invite permission", "Ignoring Users"."""

from __future__ import annotations

from tests.api.client import User, refused

PERMISSION = "m.invite_permission_config"


async def set_account_data(user: User, type: str, content: object) -> None:
    await user.put("/v3/user/{}/account_data/{}", user.user_id, type, json=content)


async def invites(user: User) -> set[str]:
    return set((await user.sync()).get("rooms", {}).get("invite", {}))


async def test_who_blocks_invites_gets_none_and_sees_none(alice: User, bob: User) -> None:
    before = await alice.create_room(invite=[bob.user_id])
    room = await alice.create_room()
    await set_account_data(bob, PERMISSION, {"default_action": "block"})
    assert await invites(bob) == set()
    with refused(403, "M_INVITE_BLOCKED"):
        await alice.post("/v3/rooms/{}/invite", room, json={"user_id": bob.user_id})
    with refused(403, "M_INVITE_BLOCKED"):
        await alice.post("/v3/createRoom", json={"invite": [bob.user_id]})
    with refused(403, "M_INVITE_BLOCKED"):
        await alice.put(
            "/v3/rooms/{}/state/m.room.member/{}", room, bob.user_id, json={"membership": "invite"}
        )
    await set_account_data(bob, PERMISSION, {})
    await alice.post("/v3/rooms/{}/invite", room, json={"user_id": bob.user_id})
    assert await invites(bob) == {before, room}


async def test_invites_of_ignored_users_are_not_shown(alice: User, bob: User) -> None:
    await set_account_data(bob, "m.ignored_user_list", {"ignored_users": {alice.user_id: {}}})
    room = await alice.create_room(invite=[bob.user_id])
    assert await invites(bob) == set()
    await set_account_data(bob, "m.ignored_user_list", {"ignored_users": {}})
    assert await invites(bob) == {room}


async def test_invites_by_address_are_refused(alice: User, bob: User) -> None:
    room = await alice.create_room()
    address = {
        "id_server": "id.example.org",
        "id_access_token": "token",
        "medium": "email",
        "address": "carol@example.org",
    }
    with refused(403, "M_SERVER_NOT_TRUSTED"):
        await alice.post("/v3/rooms/{}/invite", room, json=address)
    with refused(403, "M_FORBIDDEN"):
        await bob.post("/v3/rooms/{}/invite", room, json=address)
    with refused(403, "M_SERVER_NOT_TRUSTED"):
        await alice.post("/v3/createRoom", json={"invite_3pid": [address]})
