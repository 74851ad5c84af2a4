"""Users of other servers in the user directory: those that one shares a room with, by name and by id."""

from __future__ import annotations

import asyncio

import asyncpg

from tests.api.client import JsonObject, User
from tests.server_server.conftest import ACME, Network

FORGET = """
WITH forgotten AS (SELECT nid FROM users WHERE user_id = $1),
words AS (DELETE FROM profile_words WHERE user_nid IN (SELECT nid FROM forgotten))
DELETE FROM profiles WHERE user_nid IN (SELECT nid FROM forgotten)
"""
POLL_S = 0.1
FOUND_TIMEOUT_S = 20.0


async def search(user: User, term: str) -> list[JsonObject]:
    answer = await user.post("/v3/user_directory/search", json={"search_term": term})
    results: list[JsonObject] = answer["results"]
    return results


async def until_found(user: User, term: str, expected: list[JsonObject]) -> None:
    """The directory follows after a while."""
    async with asyncio.timeout(FOUND_TIMEOUT_S):
        while await search(user, term) != expected:
            await asyncio.sleep(POLL_S)


async def test_who_shares_a_room_is_found_by_name(network: Network, alice: User, bob: User) -> None:
    path = "/v3/profile/{}/{}"
    await bob.put(path, bob.user_id, "displayname", json={"displayname": "Bob Zwirbelbart"})
    await bob.put(path, bob.user_id, "avatar_url", json={"avatar_url": "mxc://globex.test/face"})
    room_id = await alice.create_room(preset="private_chat")
    await alice.invite(room_id, bob.user_id)
    assert await search(alice, "zwirbel") == []
    await bob.join(room_id)
    found = {"user_id": bob.user_id, "display_name": "Bob Zwirbelbart"}
    await until_found(alice, "zwirbel", [{**found, "avatar_url": "mxc://globex.test/face"}])
    assert [each["user_id"] for each in await search(alice, bob.user_id)] == [bob.user_id]
    stranger = await network.acme_api.register("carol")
    assert await search(stranger, "zwirbel") == []

    await bob.put(path, bob.user_id, "displayname", json={"displayname": "Bob Glattkinn"})
    await until_found(
        alice,
        "glattkinn",
        [{**found, "display_name": "Bob Glattkinn", "avatar_url": "mxc://globex.test/face"}],
    )
    assert await search(alice, "zwirbel") == []


async def test_members_of_a_room_that_was_joined_are_found(network: Network, alice: User, bob: User) -> None:
    await alice.put("/v3/profile/{}/displayname", alice.user_id, json={"displayname": "Alice Querkopf"})
    room_id = await alice.create_room()
    await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})
    await until_found(bob, "querk", [{"user_id": alice.user_id, "display_name": "Alice Querkopf"}])
    await bob.leave(room_id)  # so that nobody there learns any more who is in the room
    await until_found(bob, "querk", [])


async def test_what_a_crash_cut_off_is_made_up_for_at_the_next_start(
    network: Network, alice: User, bob: User
) -> None:
    await alice.put("/v3/profile/{}/displayname", alice.user_id, json={"displayname": "Alice Quendel"})
    room_id = await alice.create_room()
    await bob.post("/v3/join/{}", room_id, query={"via": [ACME]})
    found = [{"user_id": alice.user_id, "display_name": "Alice Quendel"}]
    await until_found(bob, "quendel", found)
    await network.globex.kill()
    connection = await asyncpg.connect(network.globex.database_url)
    await connection.execute(FORGET, alice.user_id)
    await connection.close()
    await network.globex.start()
    await until_found(bob, "quendel", found)
