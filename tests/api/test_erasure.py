"""What remains of a user who wanted to be erased: Client-Server API, `deactivateAccount`."""

from __future__ import annotations

from tests.api.client import PASSWORD, Api, User, timeline_of


async def erase(user: User) -> None:
    identifier = {"type": "m.id.user", "user": user.user_id}
    auth = {"type": "m.login.password", "identifier": identifier, "password": PASSWORD}
    await user.post("/v3/account/deactivate", json={"auth": auth, "erase": True})


async def test_newcomers_see_redacted_events_and_others_what_they_saw(
    api: Api, alice: User, bob: User
) -> None:
    room = await alice.create_room()
    await bob.join(room)
    message = await bob.send(room, "hello")
    relation = {"m.relates_to": {"rel_type": "m.thread", "event_id": message}}
    mine = await alice.send(room, {"msgtype": "m.text", "body": "hello bob", **relation})
    named = await alice.create_room(name="Named by alice")
    await erase(bob)
    newcomer = await api.register("alice")
    await newcomer.join(room)
    for user, content in ((alice, {"msgtype": "m.text", "body": "hello"}), (newcomer, {})):
        assert (await user.event(room, message))["content"] == content
        page = {event["event_id"]: event for event in await user.history(room)}
        assert page[message]["content"] == content
        assert page[mine]["content"]["body"] == "hello bob"
        shown = {event["event_id"]: event for event in timeline_of(await user.sync(), room)}
        assert shown[message]["content"] == content
        around = await user.get("/v3/rooms/{}/context/{}", room, mine)
        assert around["events_before"][0]["content"] == content
        (root,) = (await user.get("/v1/rooms/{}/threads", room))["chunk"]
        assert root["content"] == content
    await newcomer.join(named)
    assert (await newcomer.state(named, "m.room.name"))["name"] == "Named by alice"


async def test_without_erasure_events_stay_for_all(api: Api, alice: User, bob: User) -> None:
    room = await alice.create_room()
    await bob.join(room)
    message = await bob.send(room, "hello")
    identifier = {"type": "m.id.user", "user": bob.user_id}
    auth = {"type": "m.login.password", "identifier": identifier, "password": PASSWORD}
    await bob.post("/v3/account/deactivate", json={"auth": auth})
    newcomer = await api.register("alice")
    await newcomer.join(room)
    assert (await newcomer.event(room, message))["content"]["body"] == "hello"


async def test_edits_are_erased_with_what_they_edit(api: Api, alice: User, bob: User) -> None:
    room = await alice.create_room()
    await bob.join(room)
    message = await bob.send(room, "hello")
    edit = {
        "msgtype": "m.text",
        "body": "* goodbye",
        "m.new_content": {"msgtype": "m.text", "body": "goodbye"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": message},
    }
    await bob.send(room, edit)
    await erase(bob)
    newcomer = await api.register("alice")
    await newcomer.join(room)
    assert (await alice.event(room, message))["unsigned"]["m.relations"]["m.replace"]["content"]["body"]
    for event in (await newcomer.event(room, message), *timeline_of(await newcomer.sync(), room)):
        assert "goodbye" not in str(event)
