"""Sliding sync on its stable path, where a few things are said in another way."""

from __future__ import annotations

from tests.api.client import JsonObject, User, refused
from tests.api.sliding import STABLE_PATH

STATE = {"include": [{"type": "m.room.name", "state_key": ""}]}


async def ask(user: User, **body: object) -> JsonObject:
    answer: JsonObject = await user.post(STABLE_PATH, json=body)
    return answer


def rooms_of(range: list[int] | None = None, state: JsonObject | None = None, limit: int = 1) -> JsonObject:
    listed: JsonObject = {"timeline_limit": limit, "required_state": STATE if state is None else state}
    return {"all": listed | ({"range": range} if range is not None else {})}


async def test_the_token_and_the_timeout_are_in_the_body(alice: User) -> None:
    room_id = await alice.create_room(name="One")
    first = await ask(alice, lists=rooms_of())
    assert set(first["rooms"]) == {room_id} and first["lists"]["all"]["count"] == 1
    assert [event["type"] for event in first["rooms"][room_id]["required_state"]] == ["m.room.name"]
    second = await ask(alice, lists=rooms_of(), pos=first["pos"], timeout=1)
    assert second["rooms"] == {}
    with refused(400, "M_INVALID_PARAM"):
        await ask(alice, lists=rooms_of(), pos=first["pos"], set_presence="asleep")
    with refused(400, "M_BAD_JSON"):
        await ask(alice, lists=rooms_of(), pos=first["pos"], timeout="soon")


async def test_a_list_may_have_a_range_or_none(alice: User) -> None:
    rooms = [await alice.create_room() for _ in range(3)]
    assert set((await ask(alice, lists=rooms_of([0, 1])))["rooms"]) == set(rooms[1:])
    assert set((await ask(alice, lists=rooms_of()))["rooms"]) == set(rooms)


async def test_an_invite_is_called_stripped_state(alice: User, bob: User) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    room = (await ask(bob, lists=rooms_of()))["rooms"][room_id]
    assert room["membership"] == "invite"
    assert {event["type"] for event in room["stripped_state"]} >= {"m.room.member", "m.room.create"}


async def test_an_expanded_timeline_has_its_name(alice: User) -> None:
    room_id = await alice.create_room()
    await alice.send(room_id, "one")
    first = await ask(alice, lists=rooms_of(limit=1))
    second = await ask(alice, lists=rooms_of(limit=3), pos=first["pos"])
    assert second["rooms"][room_id]["expanded_timeline"] is True


async def test_state_is_included_excluded_and_lazily_loaded(alice: User, bob: User) -> None:
    room_id = await alice.create_room(preset="public_chat", name="State")
    await bob.join(room_id)
    await alice.send(room_id, "hello")

    async def keys(state: JsonObject) -> set[tuple[str, str]]:
        room = (await ask(alice, lists=rooms_of(state=state)))["rooms"][room_id]
        return {(event["type"], event["state_key"]) for event in room.get("required_state", [])}

    everything = await keys({"include": [{}]})
    assert {("m.room.member", alice.user_id), ("m.room.member", bob.user_id), ("m.room.create", "")} <= (
        everything
    )
    lazy = await keys({"include": [{}], "lazy_members": True})
    assert lazy == everything - {("m.room.member", bob.user_id)}
    named = {"include": [{}, {"type": "m.room.member", "state_key": bob.user_id}], "lazy_members": True}
    assert await keys(named) == everything
    without = await keys({"include": [{}], "exclude": [{"type": "m.room.create", "state_key": ""}]})
    assert without == everything - {("m.room.create", "")}
    assert await keys({"include": [{"state_key": bob.user_id}]}) == {("m.room.member", bob.user_id)}
    assert await keys({}) == set()


async def test_both_paths_are_refused_without_a_token(alice: User) -> None:
    with refused(401, "M_MISSING_TOKEN"):
        await alice.with_token(None).post(STABLE_PATH, json={})
