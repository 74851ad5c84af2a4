"""A node that names new users after their user names: [registration] display_names."""

from __future__ import annotations

from tests.api.client import Api, User

SETTINGS = {"registration": {"display_names": True}, "user_directory": {"search_all_users": True}}


async def test_new_users_and_guests_have_a_name_which_they_may_change(api: Api, alice: User) -> None:
    guest = await api.register_guest()
    for user in (alice, guest):
        assert await user.get("/v3/profile/{}", user.user_id) == {"displayname": user.localpart}
    await alice.put("/v3/profile/{}/displayname", alice.user_id, json={"displayname": "Alice"})
    assert await alice.get("/v3/profile/{}", alice.user_id) == {"displayname": "Alice"}


async def test_rooms_and_the_directory_know_the_name(alice: User, bob: User) -> None:
    room = await alice.create_room()
    member = {"membership": "join", "displayname": alice.localpart}
    assert await alice.state(room, "m.room.member", alice.user_id) == member
    answer = await alice.post("/v3/user_directory/search", json={"search_term": bob.localpart})
    assert {"user_id": bob.user_id, "display_name": bob.localpart} in answer["results"]
