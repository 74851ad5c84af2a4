"""Thread subscriptions (MSC4306), their pages and their extension of sliding sync (MSC4308)."""

from __future__ import annotations

import pytest_asyncio

from tests.api.client import JsonObject, User, refused
from tests.api.sliding import SlidingClient

PATH = "/unstable/io.element.msc4306/rooms/{}/thread/{}/subscription"
PAGES = "/unstable/io.element.msc4308/thread_subscriptions"
EXTENSION = "io.element.msc4308.thread_subscriptions"


@pytest_asyncio.fixture
async def room_id(alice: User, bob: User) -> str:
    """A room of both."""
    room_id = await alice.create_room()
    await bob.join(room_id)
    return room_id


async def reply(user: User, room_id: str, root: str) -> str:
    relates = {"rel_type": "m.thread", "event_id": root}
    return await user.send(room_id, {"msgtype": "m.text", "body": "reply", "m.relates_to": relates})


async def test_a_thread_is_subscribed_to_and_unsubscribed_from(alice: User, room_id: str) -> None:
    root = await alice.send(room_id, "root")
    with refused(404, "M_NOT_FOUND"):
        await alice.get(PATH, room_id, root)
    await alice.put(PATH, room_id, root, json={})
    assert await alice.get(PATH, room_id, root) == {"automatic": False}
    await alice.delete(PATH, room_id, root)
    await alice.delete(PATH, room_id, root)
    with refused(404, "M_NOT_FOUND"):
        await alice.get(PATH, room_id, root)


async def test_the_own_wish_goes_before_what_is_automatic(alice: User, bob: User, room_id: str) -> None:
    root = await alice.send(room_id, "root")
    cause = await reply(bob, room_id, root)
    await alice.put(PATH, room_id, root, json={"automatic": cause})
    assert await alice.get(PATH, room_id, root) == {"automatic": True}
    await alice.put(PATH, room_id, root, json={})
    await alice.put(PATH, room_id, root, json={"automatic": cause})
    assert await alice.get(PATH, room_id, root) == {"automatic": False}

    await alice.delete(PATH, room_id, root)
    with refused(409, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION"):
        await alice.put(PATH, room_id, root, json={"automatic": cause})
    later = await reply(bob, room_id, root)
    await alice.put(PATH, room_id, root, json={"automatic": later})
    assert await alice.get(PATH, room_id, root) == {"automatic": True}


async def test_what_is_no_thread_of_theirs_is_refused(alice: User, bob: User, room_id: str) -> None:
    root, other = await alice.send(room_id, "root"), await alice.send(room_id, "other")
    with refused(400, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD"):
        await bob.put(PATH, room_id, root, json={"automatic": other})
    with refused(404, "M_NOT_FOUND"):
        await bob.put(PATH, room_id, "$nothing", json={})
    private = await alice.create_room(preset="private_chat")
    hidden = await alice.send(private, "hidden")
    with refused(403, "M_FORBIDDEN"):
        await bob.put(PATH, private, hidden, json={})
    with refused(400, "M_BAD_JSON"):
        await bob.put(PATH, room_id, root, json={"automatic": True})


async def test_sliding_sync_tells_of_them_newest_first_and_pages_go_on(alice: User, room_id: str) -> None:
    roots = [await alice.send(room_id, str(number)) for number in range(5)]
    for root in roots:
        await alice.put(PATH, room_id, root, json={})
    client = SlidingClient(alice, lists={}, extensions={EXTENSION: {"enabled": True, "limit": 2}})

    told = (await client.sync())["extensions"][EXTENSION]
    assert set(told["subscribed"][room_id]) == set(roots[3:])
    page = await alice.get(PAGES, query={"dir": "b", "from": told["prev_batch"], "limit": 2})
    assert set(page["subscribed"][room_id]) == set(roots[1:3])
    page = await alice.get(PAGES, query={"dir": "b", "from": page["end"], "limit": 2})
    assert set(page["subscribed"][room_id]) == {roots[0]} and "end" not in page
    assert (await client.sync())["extensions"] == {}

    await alice.delete(PATH, room_id, roots[0])
    told = (await client.sync(timeout_ms=20_000))["extensions"][EXTENSION]
    assert set(told) == {"unsubscribed"} and set(told["unsubscribed"][room_id]) == {roots[0]}
    before = client.pos
    await alice.put(PATH, room_id, roots[0], json={})
    page = await alice.get(PAGES, query={"dir": "b", "to": before})
    stamp: JsonObject = page["subscribed"][room_id]
    assert set(stamp) == {roots[0]} and stamp[roots[0]]["automatic"] is False


async def test_tokens_that_are_none_are_refused(alice: User) -> None:
    with refused(400, "M_INVALID_PARAM"):
        await alice.get(PAGES, query={"dir": "b", "from": "nonsense"})
    with refused(400, "M_INVALID_PARAM"):
        await alice.get(PAGES, query={"dir": "f"})
