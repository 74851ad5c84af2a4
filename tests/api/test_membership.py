"""Joining, inviting, leaving, kicking, banning, knocking: Client-Server API, "Room membership"."""

from __future__ import annotations

import pytest

from tests.api.client import Api, User, refused


async def test_a_public_room_is_joined_by_id_and_alias(alice: User, bob: User) -> None:
    name = f"open-{alice.localpart}"
    room = await alice.create_room(room_alias_name=name)
    alias = f"#{name}:{alice.server_name}"
    assert await bob.post("/v3/join/{}", alias) == {"room_id": room}
    assert await bob.post("/v3/rooms/{}/join", room) == {"room_id": room}
    assert (await bob.get("/v3/joined_rooms"))["joined_rooms"] == [room]


async def test_a_join_may_carry_what_is_the_clients_own(alice: User, bob: User) -> None:
    room = await alice.create_room()
    given = {
        "org.example": {"from": "a link"},
        "reason": "tea",
        "membership": "ban",
        "join_authorised_via_users_server": alice.user_id,
    }
    await bob.post("/v3/join/{}", room, json=given)
    content = await bob.state(room, "m.room.member", bob.user_id)
    kept = {"org.example": {"from": "a link"}, "reason": "tea", "membership": "join"}
    assert content | kept == content
    assert "join_authorised_via_users_server" not in content


async def test_a_private_room_is_joined_by_invitation(alice: User, bob: User) -> None:
    room = await alice.create_room(preset="private_chat", name="Plans")
    with refused(403, "M_FORBIDDEN"):
        await bob.join(room)
    await alice.post("/v3/rooms/{}/invite", room, json={"user_id": bob.user_id, "reason": "Lunch"})
    invited = (await bob.sync())["rooms"]["invite"][room]["invite_state"]["events"]
    assert {event["type"] for event in invited} >= {"m.room.create", "m.room.name", "m.room.join_rules"}
    own = next(
        event for event in invited if event["type"] == "m.room.member" and event["state_key"] == bob.user_id
    )
    assert own["content"]["membership"] == "invite"
    assert own["content"]["reason"] == "Lunch"
    await bob.join(room)
    with refused(403, "M_FORBIDDEN"):
        await alice.invite(room, bob.user_id)


async def test_an_invitation_can_be_rejected_and_taken_back(alice: User, bob: User) -> None:
    room = await alice.create_room(preset="private_chat")
    await alice.invite(room, bob.user_id)
    since = (await bob.sync())["next_batch"]
    await bob.leave(room)
    assert room in (await bob.sync(since))["rooms"]["leave"]
    await alice.invite(room, bob.user_id)
    await alice.post("/v3/rooms/{}/kick", room, json={"user_id": bob.user_id})
    with refused(403, "M_FORBIDDEN"):
        await bob.join(room)


async def test_strangers_cannot_invite(alice: User, bob: User) -> None:
    room = await alice.create_room()
    with refused(403, "M_FORBIDDEN"):
        await bob.invite(room, bob.user_id)
    with refused(403, "M_FORBIDDEN"):
        await bob.invite("!nowhere:veche.test", alice.user_id)


async def test_leaving_and_forgetting(alice: User, bob: User) -> None:
    room = await alice.create_room()
    await bob.join(room)
    with refused(400, "M_UNKNOWN"):
        await bob.post("/v3/rooms/{}/forget", room)
    await bob.post("/v3/rooms/{}/leave", room, json={"reason": "Done"})
    with refused(403, "M_FORBIDDEN"):
        await bob.send(room, "still here?")
    filter = {"room": {"include_leave": True}}
    assert room in (await bob.sync(filter=filter))["rooms"]["leave"]
    await bob.post("/v3/rooms/{}/forget", room)
    assert room not in (await bob.sync(filter=filter)).get("rooms", {}).get("leave", {})
    with refused(403, "M_FORBIDDEN"):
        await bob.messages(room)
    await bob.join(room)
    assert (await bob.messages(room))["chunk"]


async def test_kicking_needs_power(alice: User, bob: User) -> None:
    room = await alice.create_room()
    await bob.join(room)
    with refused(403, "M_FORBIDDEN"):
        await bob.post("/v3/rooms/{}/kick", room, json={"user_id": alice.user_id})
    await alice.post("/v3/rooms/{}/kick", room, json={"user_id": bob.user_id, "reason": "Enough"})
    member = await alice.state(room, "m.room.member", bob.user_id)
    assert (member["membership"], member["reason"]) == ("leave", "Enough")
    await bob.join(room)


async def test_a_ban_holds_until_it_is_lifted(alice: User, bob: User) -> None:
    room = await alice.create_room()
    await bob.join(room)
    with refused(403, "M_FORBIDDEN"):
        await bob.post("/v3/rooms/{}/ban", room, json={"user_id": alice.user_id})
    await alice.post("/v3/rooms/{}/ban", room, json={"user_id": bob.user_id, "reason": "Enough"})
    for _ in range(2):
        with refused(403, "M_FORBIDDEN"):
            await bob.join(room)
        with refused(403, "M_FORBIDDEN"):
            await alice.invite(room, bob.user_id)
    await alice.post("/v3/rooms/{}/unban", room, json={"user_id": bob.user_id})
    await bob.join(room)


async def test_knocking_asks_for_an_invitation(alice: User, bob: User) -> None:
    room = await alice.create_room(
        preset="private_chat",
        initial_state=[{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}],
    )
    with refused(403, "M_FORBIDDEN"):
        await bob.join(room)
    assert await bob.post("/v3/knock/{}", room, json={"reason": "Please"}) == {"room_id": room}
    assert room in (await bob.sync())["rooms"]["knock"]
    assert (await alice.state(room, "m.room.member", bob.user_id))["membership"] == "knock"
    await alice.invite(room, bob.user_id)
    await bob.join(room)


async def test_knocking_where_it_is_not_wanted(alice: User, bob: User) -> None:
    room = await alice.create_room(preset="private_chat")
    with refused(403, "M_FORBIDDEN"):
        await bob.post("/v3/knock/{}", room)


@pytest.mark.parametrize(
    ("rule", "version"), [("restricted", "8"), ("restricted", "12"), ("knock_restricted", "10")]
)
async def test_members_of_another_room_may_join(alice: User, bob: User, rule: str, version: str) -> None:
    club = await alice.create_room()
    allow = [{"type": "m.room_membership", "room_id": club}]
    room = await alice.create_room(
        preset="private_chat",
        room_version=version,
        initial_state=[{"type": "m.room.join_rules", "content": {"join_rule": rule, "allow": allow}}],
    )
    with refused(403, "M_FORBIDDEN"):
        await bob.join(room)
    await bob.join(club)
    await bob.join(room)
    assert (await alice.state(room, "m.room.member", bob.user_id))["membership"] == "join"


async def test_guests_join_where_they_may(api: Api, alice: User) -> None:
    guest = await api.register_guest()
    closed = await alice.create_room()
    access = {"type": "m.room.guest_access", "content": {"guest_access": "can_join"}}
    opened = await alice.create_room(initial_state=[access])
    with refused(403, "M_GUEST_ACCESS_FORBIDDEN"):
        await guest.join(closed)
    await guest.join(opened)
    await guest.send(opened, "hello from outside")


async def test_an_unknown_room_cannot_be_joined(alice: User) -> None:
    with refused(404, "M_NOT_FOUND"):
        await alice.post("/v3/join/{}", f"#no-such-room:{alice.server_name}")
    with refused(400, "M_INVALID_PARAM"):
        await alice.post("/v3/join/{}", "not a room")
    with refused(404, "M_NOT_FOUND"):
        await alice.join(f"!no-such-room:{alice.server_name}")


async def test_members_are_listed_by_membership(alice: User, bob: User, api: Api) -> None:
    room = await alice.create_room()
    await bob.join(room)
    third = await api.register("bob")
    await alice.invite(room, third.user_id)
    path = "/v3/rooms/{}/members"

    async def members(**query: object) -> set[str]:
        return {event["state_key"] for event in (await alice.get(path, room, query=query))["chunk"]}

    assert await members() == {alice.user_id, bob.user_id, third.user_id}
    assert await members(membership="join") == {alice.user_id, bob.user_id}
    assert await members(not_membership="join") == {third.user_id}
    joined = (await bob.get("/v3/rooms/{}/joined_members", room))["joined"]
    assert set(joined) == {alice.user_id, bob.user_id}
    with refused(403, "M_FORBIDDEN"):
        await third.get("/v3/rooms/{}/joined_members", room)


@pytest.mark.parametrize("sender", ["nobody", "@x", "@x:not a server", "@x:y:z/"])
async def test_an_invite_by_nobody_is_the_clients_fault(alice: User, bob: User, sender: str) -> None:
    room = await alice.create_room(preset="private_chat")
    signed = {"sender": sender, "mxid": bob.user_id, "token": "t", "signatures": {}}
    with refused(400, "M_BAD_JSON"):
        await bob.post("/v3/join/{}", room, json={"third_party_signed": signed})
