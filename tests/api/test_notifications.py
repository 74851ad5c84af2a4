"""The list of notifications: Client-Server API, "Listing Notifications"."""

from __future__ import annotations

from tests.api.client import User, refused

PATH = "/v3/notifications"


async def test_messages_of_others_are_listed_newest_first(alice: User, bob: User) -> None:
    room = await alice.create_room()
    await bob.join(room)
    first, second = await bob.send(room, "one"), await bob.send(room, "two")
    await alice.send(room, "my own")
    await alice.post("/v3/rooms/{}/receipt/m.read/{}", room, first)
    page = await alice.get(PATH)
    listed = [(each["event"]["event_id"], each["read"]) for each in page["notifications"]]
    assert listed == [(second, False), (first, True)]
    assert {each["room_id"] for each in page["notifications"]} == {room}


async def test_pages_go_on_where_the_one_before_ended(alice: User, bob: User) -> None:
    room = await alice.create_room()
    await bob.join(room)
    sent = [await bob.send(room, f"message {n}") for n in range(5)][::-1]
    listed: list[str] = []
    token: str | None = None
    while True:
        page = await alice.get(PATH, query={"limit": 2, "from": token})
        listed += [each["event"]["event_id"] for each in page["notifications"]]
        token = page.get("next_token")
        if token is None:
            break
    assert listed == sent


async def test_only_highlights_and_a_wrong_token(alice: User, bob: User) -> None:
    room = await alice.create_room()
    await bob.join(room)
    await bob.send(room, "nothing special")
    mention = {"msgtype": "m.text", "body": "you", "m.mentions": {"user_ids": [alice.user_id]}}
    event_id = await bob.send(room, mention)
    page = await alice.get(PATH, query={"only": "highlight"})
    assert [each["event"]["event_id"] for each in page["notifications"]] == [event_id]
    with refused(400, "M_INVALID_PARAM"):
        await alice.get(PATH, query={"from": "nonsense"})
