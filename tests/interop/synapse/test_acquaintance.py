"""What two servers can tell each other before they share a room."""

from __future__ import annotations

import asyncio

import pytest

from tests.interop.synapse.conftest import OTHER, Pair
from tests.interop.synapse.follower import DEADLINE_S, Follower


@pytest.fixture(params=OTHER, ids="{}-is-asked".format)
def creating(request: pytest.FixtureRequest) -> str:
    server: str = request.param
    return server


async def test_profiles_are_seen_from_the_other_server(alice: Follower, bob: Follower) -> None:
    await alice.user.put("/v3/profile/{}/displayname", alice.user_id, json={"displayname": "Alice A."})
    profile = await bob.user.get("/v3/profile/{}", alice.user_id)
    assert profile["displayname"] == "Alice A."


async def test_published_rooms_are_found_from_the_other_server(
    alice: Follower, bob: Follower, version: str, creating: str, pair: Pair
) -> None:
    alias = f"found-{creating}-{version}"
    room_id = await alice.user.create_room(
        room_version=version, room_alias_name=alias, name=alias, visibility="public"
    )
    server = pair.apis[creating].server_name
    assert (await bob.user.get("/v3/directory/room/{}", f"#{alias}:{server}"))["room_id"] == room_id
    search = {"filter": {"generic_search_term": alias}, "limit": 10}
    async with asyncio.timeout(DEADLINE_S):  # Synapse lists a room a little later
        while not (await alice.user.post("/v3/publicRooms", json=search))["chunk"]:
            await alice.sync()
    page = await bob.user.post("/v3/publicRooms", json=search, query={"server": server})
    assert [room["room_id"] for room in page["chunk"]] == [room_id]
