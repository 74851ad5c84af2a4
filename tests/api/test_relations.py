"""Edits, reactions, references, threads: Client-Server API, "Forming relationships between events"."""

from __future__ import annotations

from tests.api.client import JsonObject, User, refused

RELATIONS = "/v1/rooms/{}/relations/{}"


def relation(rel_type: str, event_id: str, **more: object) -> JsonObject:
    return {"m.relates_to": {"rel_type": rel_type, "event_id": event_id, **more}}


def text(body: str, **more: object) -> JsonObject:
    return {"msgtype": "m.text", "body": body, **more}


async def edit(user: User, room: str, event_id: str, body: str) -> str:
    content = {**text(f"* {body}"), "m.new_content": text(body), **relation("m.replace", event_id)}
    return await user.send(room, content)


async def reply_in_thread(user: User, room: str, root: str, body: str) -> str:
    return await user.send(room, {**text(body), **relation("m.thread", root)})


async def react(user: User, room: str, event_id: str, key: str) -> str:
    return await user.send(room, relation("m.annotation", event_id, key=key), type="m.reaction")


async def test_an_edit_is_bundled_with_what_it_replaces(alice: User, bob: User) -> None:
    room = await alice.create_room()
    await bob.join(room)
    message = await alice.send(room, "Lunch?")
    await edit(alice, room, message, "Lunch at noon?")
    latest = await edit(alice, room, message, "Lunch at one?")
    event = await bob.event(room, message)
    assert event["content"]["body"] == "Lunch?"
    replacement = event["unsigned"]["m.relations"]["m.replace"]
    assert replacement["event_id"] == latest
    assert replacement["content"]["m.new_content"]["body"] == "Lunch at one?"


async def test_an_edit_by_another_does_not_count(alice: User, bob: User) -> None:
    room = await alice.create_room()
    await bob.join(room)
    message = await alice.send(room, "Lunch?")
    await edit(bob, room, message, "I am a fool")
    assert "m.replace" not in (await alice.event(room, message)).get("unsigned", {}).get("m.relations", {})


async def test_relations_are_paged_and_chosen_by_type(alice: User, bob: User) -> None:
    room = await alice.create_room()
    await bob.join(room)
    message = await alice.send(room, "Lunch?")
    reactions = [await react(bob, room, message, key) for key in ("👍", "👀", "🍕")]
    answer = await reply_in_thread(bob, room, message, "Which place?")

    async def related(*kinds: str, **query: object) -> list[str]:
        page = await alice.get(RELATIONS + "/{}" * len(kinds), room, message, *kinds, query=query)
        return [event["event_id"] for event in page["chunk"]]

    assert await related() == [answer, *reactions[::-1]]
    assert await related(dir="f") == [*reactions, answer]
    assert await related("m.annotation") == reactions[::-1]
    assert await related("m.annotation", "m.reaction") == reactions[::-1]
    assert await related("m.annotation", "m.room.message") == []
    first = await alice.get(RELATIONS, room, message, query={"limit": 3})
    second = await alice.get(RELATIONS, room, message, query={"limit": 3, "from": first["next_batch"]})
    assert [event["event_id"] for event in first["chunk"] + second["chunk"]] == [answer, *reactions[::-1]]
    assert "next_batch" not in second


async def test_recursion_reaches_what_relates_to_relations(alice: User) -> None:
    room = await alice.create_room()
    root = await alice.send(room, "Lunch?")
    reply = await reply_in_thread(alice, room, root, "Which place?")
    reaction = await react(alice, room, reply, "👍")
    page = await alice.get(RELATIONS, room, root, query={"recurse": True})
    assert {event["event_id"] for event in page["chunk"]} == {reply, reaction}
    assert page["recursion_depth"] >= 2
    page = await alice.get(RELATIONS, room, root)
    assert [event["event_id"] for event in page["chunk"]] == [reply]


async def test_a_reaction_counts_once(alice: User) -> None:
    room = await alice.create_room()
    message = await alice.send(room, "Lunch?")
    await react(alice, room, message, "👍")
    with refused(400, "M_DUPLICATE_ANNOTATION"):
        await react(alice, room, message, "👍")
    await react(alice, room, message, "👀")


async def test_redacted_relations_vanish(alice: User) -> None:
    room = await alice.create_room()
    message = await alice.send(room, "Lunch?")
    reaction = await react(alice, room, message, "👍")
    await alice.redact(room, reaction)
    assert (await alice.get(RELATIONS, room, message))["chunk"] == []
    await react(alice, room, message, "👍")


async def test_threads_have_summaries_and_a_list(alice: User, bob: User) -> None:
    room = await alice.create_room()
    await bob.join(room)
    roots = [await alice.send(room, f"topic {number}") for number in range(3)]
    await reply_in_thread(alice, room, roots[0], "one")
    latest = await reply_in_thread(bob, room, roots[0], "two")
    await reply_in_thread(alice, room, roots[1], "one")

    thread = (await alice.event(room, roots[0]))["unsigned"]["m.relations"]["m.thread"]
    assert (thread["count"], thread["current_user_participated"]) == (2, True)
    assert thread["latest_event"]["event_id"] == latest
    other = (await bob.event(room, roots[1]))["unsigned"]["m.relations"]["m.thread"]
    assert other["current_user_participated"] is False

    listed = await bob.get("/v1/rooms/{}/threads", room)
    assert [event["event_id"] for event in listed["chunk"]] == [roots[1], roots[0]]
    mine = await bob.get("/v1/rooms/{}/threads", room, query={"include": "participated"})
    assert [event["event_id"] for event in mine["chunk"]] == [roots[0]]
    page = await bob.get("/v1/rooms/{}/threads", room, query={"limit": 1})
    rest = await bob.get("/v1/rooms/{}/threads", room, query={"limit": 1, "from": page["next_batch"]})
    assert [event["event_id"] for event in page["chunk"] + rest["chunk"]] == [roots[1], roots[0]]


async def test_threads_do_not_nest(alice: User) -> None:
    room = await alice.create_room()
    root = await alice.send(room, "topic")
    reply = await reply_in_thread(alice, room, root, "one")
    with refused(400, "M_UNKNOWN"):
        await reply_in_thread(alice, room, reply, "a thread in the thread")


async def test_relations_are_bundled_everywhere(alice: User) -> None:
    room = await alice.create_room()
    root = await alice.send(room, "topic")
    reply = await reply_in_thread(alice, room, root, "one")
    await edit(alice, room, reply, "won")
    for events in (
        (await alice.messages(room))["chunk"],
        (await alice.sync(filter={"room": {"timeline": {"limit": 3}}}))["rooms"]["join"][room]["timeline"][
            "events"
        ],
        [(await alice.get("/v3/rooms/{}/context/{}", room, root))["event"]],
    ):
        event = next(event for event in events if event["event_id"] == root)
        assert event["unsigned"]["m.relations"]["m.thread"]["latest_event"]["event_id"] == reply


async def test_strangers_see_no_relations(alice: User, bob: User) -> None:
    room = await alice.create_room()
    message = await alice.send(room, "Lunch?")
    await react(alice, room, message, "👍")
    with refused(404, "M_NOT_FOUND"):
        await bob.get(RELATIONS, room, message)
    with refused(403, "M_FORBIDDEN"):
        await bob.get("/v1/rooms/{}/threads", room)
