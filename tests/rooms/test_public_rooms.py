"""The published directory: order, pages, search, and what a page costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from homeserver.config.rooms import RoomsConfig
from homeserver.errors import GuestAccessForbidden, InvalidParam, MissingToken
from homeserver.requester import Requester
from homeserver.rooms import public_rooms
from homeserver.rooms.draft import Draft
from homeserver.rooms.public_rooms import DirectoryQuery, PublicRooms
from homeserver.storage.events import WRITE_EVENTS
from homeserver.storage.room_summaries import FIRST, SMALLER_ROOMS
from tests.rooms.conftest import SERVER_NAME, Engine

MANY = 3000
INSERT_MANY = """
INSERT INTO rooms (nid, room_id, version, generation, snapshot, extremities, summary, is_published)
SELECT nextval('room_nids'), '!many' || n || ':veche.test', '12', 0, 0, '{}', jsonb_build_object(
    'room_id', '!many' || n || ':veche.test', 'num_joined_members', n % 100, 'name', 'Many ' || n,
    'search', 'many ' || n, 'join_rule', 'public', 'world_readable', false, 'guest_can_join', false),
    n % 2 = 0
FROM generate_series(1, $1::integer) AS n"""


@pytest.fixture
def directory(engine: Engine) -> PublicRooms:
    return PublicRooms(engine.database.pool, RoomsConfig())


@pytest.fixture
async def words(engine: Engine, alice: Requester) -> str:
    """A word that only this test's rooms have."""
    return "w" + alice.user_id[1:].partition(":")[0]


async def names(directory: PublicRooms, requester: Requester, **query: Any) -> list[str]:
    page = await directory.page(requester, DirectoryQuery(**query))
    return [entry["name"] for entry in page["chunk"]]


async def test_larger_rooms_come_first_then_newer_ones(
    engine: Engine, directory: PublicRooms, alice: Requester, bob: Requester, words: str
) -> None:
    for name in ("old", "large", "new"):
        await engine.create(alice, name=f"{words} {name}", visibility="public")
    hidden = await engine.create(alice, name=f"{words} hidden", preset="public_chat")
    await engine.joining.join(bob, hidden.room_id)
    page = await directory.page(alice, DirectoryQuery(search_term=f"{words} large"))
    await engine.joining.join(bob, page["chunk"][0]["room_id"])
    found = await names(directory, alice, search_term=words)
    assert found == [f"{words} large", f"{words} new", f"{words} old"]


async def test_an_entry_shows_the_room(engine: Engine, directory: PublicRooms, alice: Requester) -> None:
    room = await engine.create(
        alice, name="Shown here", topic="About it", visibility="public", creation_content={"type": "m.space"}
    )
    await engine.rooms.send(
        room.room_id,
        Draft(sender=alice.user_id, type="m.room.avatar", state_key="", content={"url": "https://a.test/b"}),
    )
    [entry] = (await directory.page(alice, DirectoryQuery(search_term="shown here")))["chunk"]
    assert entry == {
        "room_id": room.room_id,
        "name": "Shown here",
        "topic": "About it",
        "room_type": "m.space",
        "join_rule": "public",
        "num_joined_members": 1,
        "world_readable": False,
        "guest_can_join": False,
    }


async def test_pages_lead_forth_and_back(
    engine: Engine, directory: PublicRooms, alice: Requester, words: str
) -> None:
    for number in range(5):
        await engine.create(alice, name=f"{words} {number}", visibility="public")

    async def page(since: str | None) -> tuple[list[str], str | None, str | None]:
        body = await directory.page(alice, DirectoryQuery(search_term=words, limit=2, since=since))
        found = [entry["name"].removeprefix(words + " ") for entry in body["chunk"]]
        return found, body.get("prev_batch"), body.get("next_batch")

    first, no_batch, to_second = await page(None)
    assert (first, no_batch) == (["4", "3"], None)
    second, _, to_third = await page(to_second)
    third, back_to_second, end = await page(to_third)
    assert (second, third, end) == (["2", "1"], ["0"], None)
    again, back_to_first, forth = await page(back_to_second)
    assert again == second
    assert (await page(forth))[0] == third
    # A room that is published meanwhile moves nothing of what was seen already
    await engine.create(alice, name=f"{words} 5", visibility="public")
    assert (await page(back_to_first))[0] == first
    assert (await page(to_second))[0] == second


async def test_the_search_ignores_case_and_accents_and_looks_everywhere(
    engine: Engine, directory: PublicRooms, alice: Requester, words: str
) -> None:
    await engine.create(alice, name=f"{words} ПРИВЕТ Café", visibility="public")
    await engine.create(alice, topic=f"{words} talk", name=f"by topic {words}", visibility="public")
    await engine.create(alice, room_alias_name=f"alias-{words}", name="by alias", visibility="public")
    for term in ("привет", "CAFE", "café", f"cafe {words}", "cafe\x00"):
        assert await names(directory, alice, search_term=term) == [f"{words} ПРИВЕТ Café"]
    assert await names(directory, alice, search_term=f"talk {words}") == [f"by topic {words}"]
    assert await names(directory, alice, search_term=f"#alias-{words}:{SERVER_NAME}") == ["by alias"]
    assert await names(directory, alice, search_term=f"{words} 100%") == []


async def test_rooms_are_filtered_by_type(
    engine: Engine, directory: PublicRooms, alice: Requester, words: str
) -> None:
    await engine.create(alice, name=f"{words} room", visibility="public")
    await engine.create(
        alice, name=f"{words} space", visibility="public", creation_content={"type": "m.space"}
    )
    for room_types, expected in (
        (["m.space"], ["space"]),
        ([None], ["room"]),
        ([None, "m.space"], ["space", "room"]),
        ([], []),
        (None, ["space", "room"]),
    ):
        found = await names(directory, alice, search_term=words, room_types=room_types)
        assert found == [f"{words} {name}" for name in expected]


async def test_a_search_looks_at_a_bounded_number_of_rooms_at_once(
    engine: Engine, directory: PublicRooms, alice: Requester, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.create(alice, name=f"{words} found at last", visibility="public")
    for number in range(7):
        await engine.create(alice, name=f"other {number}", visibility="public")
    monkeypatch.setattr(public_rooms, "SCANNED_MAX", 3)
    pages, since = [], None
    while True:
        body = await directory.page(alice, DirectoryQuery(search_term=f"{words} at last", since=since))
        pages.append(len(body["chunk"]))
        since = body.get("next_batch")
        if since is None:
            break
    assert pages[0] == 0
    assert sum(pages) == 1


async def test_rooms_without_members_are_not_shown(
    engine: Engine, directory: PublicRooms, alice: Requester, words: str
) -> None:
    room = await engine.create(alice, name=words, visibility="public")
    assert await names(directory, alice, search_term=words) == [words]
    await engine.leaving.leave(alice, room.room_id)
    assert await names(directory, alice, search_term=words) == []


@pytest.mark.parametrize(
    "since", ["", "x1_2", "n1", "n1_", "n-1_2", "n99999999999_1", "n9999999999_1", "n1_2 "]
)
async def test_a_token_of_nobody_is_refused(directory: PublicRooms, alice: Requester, since: str) -> None:
    with pytest.raises(InvalidParam):
        await directory.page(alice, DirectoryQuery(since=since))


async def test_only_users_see_the_directory_unless_it_is_public(
    engine: Engine, directory: PublicRooms
) -> None:
    guest = await engine.user("guest", is_guest=True)
    with pytest.raises(MissingToken):
        await directory.page(None, DirectoryQuery())
    with pytest.raises(GuestAccessForbidden):
        await directory.page(guest, DirectoryQuery())
    public = replace(directory, config=RoomsConfig(public_directory=True))
    for requester in (None, guest):
        assert "chunk" in await public.page(requester, DirectoryQuery())


async def test_what_is_not_on_this_server_is_not_listed(directory: PublicRooms, alice: Requester) -> None:
    bridged = await directory.page(alice, DirectoryQuery(third_party_instance_id="irc"))
    assert bridged["chunk"] == []


async def test_a_page_of_many_rooms_reads_a_range_of_the_index(
    engine: Engine, directory: PublicRooms, alice: Requester
) -> None:
    pool = engine.database.pool
    before = (await directory.page(alice, DirectoryQuery(limit=1)))["total_room_count_estimate"]
    await pool.execute(INSERT_MANY, MANY)
    await pool.execute("ANALYZE rooms")
    page = await directory.page(alice, DirectoryQuery(limit=1))
    assert page["total_room_count_estimate"] == before + MANY // 2
    rows = await pool.fetch(
        f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {SMALLER_ROOMS}",
        FIRST.members, FIRST.room_nid, 10_000, None, None, 51,
    )  # fmt: skip
    plan = "\n".join(row[0] for row in rows)
    assert "rooms_published" in plan
    assert "Sort" not in plan
    assert "rows=51" in plan.splitlines()[2], plan
    # Walking all pages meets every published room once.
    seen: list[str] = []
    since = None
    while True:
        body = await directory.page(alice, DirectoryQuery(limit=97, since=since, search_term="many"))
        seen += [entry["room_id"] for entry in body["chunk"]]
        since = body.get("next_batch")
        if since is None:
            break
    published = [n for n in range(1, MANY + 1) if n % 2 == 0 and n % 100]
    assert sorted(seen) == sorted(f"!many{n}:{SERVER_NAME}" for n in published)
    await pool.execute("DELETE FROM rooms WHERE room_id LIKE '!many%'")


async def test_a_message_writes_no_entry_of_the_directorys_index(engine: Engine, alice: Requester) -> None:
    room = await engine.create(alice, visibility="public")
    hot_updates = "SELECT pg_stat_get_xact_tuples_hot_updated('rooms'::regclass)"
    no_events: list[list[object]] = [[] for _ in range(13)]
    async with engine.database.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        before = await connection.fetchval(hot_updates)
        for summary, expected in ((None, 1), ('{"num_joined_members": 7}', 0)):
            generation = await connection.fetchval("SELECT generation FROM rooms WHERE nid = $1", room.nid)
            of_room = [[room.nid], [generation], [generation + 1], [1], [""], [summary]]
            await connection.execute(WRITE_EVENTS, *of_room, *no_events)
            after = await connection.fetchval(hot_updates)
            assert after - before == expected
            before = after
        await transaction.rollback()
