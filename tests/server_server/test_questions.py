"""What users learn from other servers through theirs: profiles, aliases, directories, spaces."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
import pytest_asyncio
from aiohttp import web

from homeserver.federating.asking import TIMEOUT_S
from tests.api.client import Api, User, path_of, refused, timeline_of
from tests.node import Node
from tests.postgres import TestCluster, make_data_dir
from tests.server_server.conftest import ACME, GLOBEX, PEER, Network

V1 = "/_matrix/federation/v1"
PROFILE = f"{V1}/query/profile"
DIRECTORY = f"{V1}/query/directory"
PUBLIC_ROOMS = f"{V1}/publicRooms"
# Names that lead, or would lead, to this machine or nowhere.
NOT_ASKED = ("stranger.test", "127.0.0.1:{}", "localhost:{}", "[::1]:{}", "0.0.0.0:{}")


def asked(network: Network, path: str) -> int:
    """How often the peer was asked for a path."""
    return sum(target.partition("?")[0] == path for _, target in network.peer.requests)


async def test_profiles_of_other_servers_are_told(network: Network, alice: User, bob: User) -> None:
    await bob.put("/v3/profile/{}/displayname", bob.user_id, json={"displayname": "Bob"})
    await bob.put("/v3/profile/{}/{}", bob.user_id, "com.example.team", json={"com.example.team": ["a"]})
    assert await alice.get("/v3/profile/{}", bob.user_id) == {"displayname": "Bob", "com.example.team": ["a"]}
    assert await alice.get("/v3/profile/{}/displayname", bob.user_id) == {"displayname": "Bob"}
    with refused(404, "M_NOT_FOUND"):
        await alice.get("/v3/profile/{}/avatar_url", bob.user_id)
    with refused(404, "M_NOT_FOUND"):
        await alice.get("/v3/profile/{}", f"@nobody:{GLOBEX}")
    with refused(400, "M_INVALID_PARAM"):
        await alice.get("/v3/profile/{}", "bob")


async def test_an_answer_is_kept_for_a_while_and_so_is_that_there_is_none(
    network: Network, alice: User
) -> None:
    before = asked(network, PROFILE)
    network.peer.responses[PROFILE] = web.json_response({"displayname": "Carol"})
    for _ in range(3):
        assert await alice.get("/v3/profile/{}", f"@carol:{PEER}") == {"displayname": "Carol"}
    assert asked(network, PROFILE) == before + 1
    for _ in range(3):
        with refused(404, "M_NOT_FOUND"):
            await alice.get("/v3/profile/{}", f"@dave:{PEER}")
    assert asked(network, PROFILE) == before + 2


async def test_a_profile_that_nobody_here_could_have_is_not_passed_on(network: Network, alice: User) -> None:
    network.peer.responses[PROFILE] = web.json_response(
        {"displayname": {"not": "text"}, "avatar_url": "https://example.com/a.png", "m.tz": 1, "x.y": "kept"}
    )
    assert await alice.get("/v3/profile/{}", f"@mallory:{PEER}") == {"x.y": "kept"}
    network.peer.responses[PROFILE] = web.json_response({"displayname": "x" * 300_000})
    with refused(502, "M_UNKNOWN"):
        await alice.get("/v3/profile/{}", f"@huge:{PEER}")
    network.peer.responses[PROFILE] = web.Response(body=b"[]", content_type="application/json")
    with refused(502, "M_UNKNOWN"):
        await alice.get("/v3/profile/{}", f"@list:{PEER}")
    network.peer.responses[PROFILE] = web.json_response({"errcode": "M_FORBIDDEN", "error": "No"}, status=403)
    with refused(403, "M_FORBIDDEN"):
        await alice.get("/v3/profile/{}", f"@shy:{PEER}")


async def test_aliases_of_other_servers_are_resolved(network: Network, alice: User, bob: User) -> None:
    room_id = await bob.create_room(room_alias_name="canteen")
    found = await alice.get("/v3/directory/room/{}", f"#canteen:{GLOBEX}")
    assert found == {"room_id": room_id, "servers": [GLOBEX]}
    with refused(404, "M_NOT_FOUND"):
        await alice.get("/v3/directory/room/{}", f"#cellar:{GLOBEX}")
    network.peer.responses[DIRECTORY] = web.json_response(
        {"room_id": "!r:elsewhere.test", "servers": ["elsewhere.test", 5, "not a server", PEER]}
    )
    found = await alice.get("/v3/directory/room/{}", f"#elsewhere:{PEER}")
    assert found == {"room_id": "!r:elsewhere.test", "servers": ["elsewhere.test", PEER]}
    network.peer.responses[DIRECTORY] = web.json_response({"room_id": 7, "servers": []})
    with refused(502, "M_UNKNOWN"):
        await alice.get("/v3/directory/room/{}", f"#broken:{PEER}")


async def test_a_room_may_list_an_alias_of_another_server_if_that_points_to_it(
    network: Network, alice: User
) -> None:
    room_id = await alice.create_room()
    network.peer.responses[DIRECTORY] = web.json_response({"room_id": room_id, "servers": [PEER]})
    alias = f"#partner-{alice.localpart}:{PEER}"
    await alice.set_state(room_id, "m.room.canonical_alias", {"alt_aliases": [alias]})
    network.peer.responses[DIRECTORY] = web.json_response({"room_id": "!other:peer.test", "servers": [PEER]})
    with refused(400, "M_BAD_ALIAS"):
        await alice.set_state(
            room_id, "m.room.canonical_alias", {"alt_aliases": [alias, f"#wrong-{alice.localpart}:{PEER}"]}
        )


async def test_directories_of_other_servers_are_shown(network: Network, alice: User, bob: User) -> None:
    room_id = await bob.create_room(visibility="public", name="Loading dock", topic="Where lorries are")
    page = await alice.get("/v3/publicRooms", query={"server": GLOBEX, "limit": 50})
    assert room_id in [entry["room_id"] for entry in page["chunk"]]
    query = {"filter": {"generic_search_term": "lorries"}}
    page = await alice.post("/v3/publicRooms", json=query, query={"server": GLOBEX})
    assert [entry["room_id"] for entry in page["chunk"]] == [room_id]
    query = {"filter": {"room_types": ["m.space"], "generic_search_term": "lorries"}}
    assert (await alice.post("/v3/publicRooms", json=query, query={"server": GLOBEX}))["chunk"] == []
    own = await alice.get("/v3/publicRooms", query={"server": ACME})
    assert room_id not in [entry["room_id"] for entry in own["chunk"]]


async def test_pages_of_another_servers_directory_follow_its_tokens(network: Network, alice: User) -> None:
    room = {
        "room_id": "!r:peer.test",
        "num_joined_members": 3,
        "world_readable": False,
        "guest_can_join": "x",
    }
    network.peer.responses[PUBLIC_ROOMS] = web.json_response(
        {"chunk": [room, {"room_id": 1}, "?"], "next_batch": "a/b&c", "total_room_count_estimate": -1}
    )
    page = await alice.get("/v3/publicRooms", query={"server": PEER, "limit": 3})
    assert page == {
        "chunk": [{**room, "guest_can_join": False, "join_rule": "public"}],
        "next_batch": "a/b&c",
    }
    network.peer.responses[PUBLIC_ROOMS] = web.json_response({"chunk": []})
    await alice.get("/v3/publicRooms", query={"server": PEER, "since": "a/b&c"})
    assert network.peer.requests[-1] == ("GET", f"{PUBLIC_ROOMS}?limit=100&since=a%2Fb%26c")
    network.peer.responses[PUBLIC_ROOMS] = web.json_response({"rooms": []})
    with refused(502, "M_UNKNOWN"):
        await alice.get("/v3/publicRooms", query={"server": PEER, "limit": 7})


async def test_rooms_of_other_servers_are_summarised(network: Network, alice: User, bob: User) -> None:
    open_id = await bob.create_room(name="Open", room_alias_name=f"open-{bob.localpart}")
    closed_id = await bob.create_room(name="Closed", preset="private_chat")
    summary = await alice.get("/v1/room_summary/{}", open_id, query={"via": ["stranger.test", GLOBEX]})
    assert (summary["name"], summary["join_rule"], summary["membership"]) == ("Open", "public", "leave")
    by_alias = await alice.get("/v1/room_summary/{}", f"#open-{bob.localpart}:{GLOBEX}")
    assert by_alias == summary
    anonymous = await network.acme_api.get("/v1/room_summary/{}", open_id, query={"via": GLOBEX})
    assert anonymous["name"] == "Open" and "membership" not in anonymous
    for room_id, via in ((closed_id, [GLOBEX]), (open_id, []), (open_id, ["stranger.test"])):
        with refused(404, "M_NOT_FOUND"):
            await alice.get("/v1/room_summary/{}", room_id, query={"via": via})


async def test_a_space_is_walked_across_servers(network: Network, alice: User, bob: User) -> None:
    room_id = await bob.create_room(name="Their room")
    closed_id = await bob.create_room(preset="private_chat")
    space_id = await bob.create_room(creation_content={"type": "m.space"}, name="Their space")
    own_id = await alice.create_room(name="Our room")
    for child, via in ((room_id, GLOBEX), (closed_id, GLOBEX), (own_id, ACME)):
        await bob.set_state(space_id, "m.space.child", {"via": [via]}, child)
    root_id = await alice.create_room(creation_content={"type": "m.space"}, name="Both")
    await alice.set_state(root_id, "m.space.child", {"via": [GLOBEX], "suggested": True}, space_id)
    await alice.set_state(root_id, "m.space.child", {"via": ["stranger.test"]}, "!nowhere:stranger.test")

    page = await alice.get("/v1/rooms/{}/hierarchy", root_id)
    names = [entry["name"] for entry in page["rooms"]]
    assert names[:2] == ["Both", "Their space"] and set(names[2:]) == {"Their room", "Our room"}
    assert {event["state_key"] for event in page["rooms"][1]["children_state"]} == {
        room_id,
        closed_id,
        own_id,
    }
    paged: list[str] = []
    since = None
    while True:
        page = await alice.get("/v1/rooms/{}/hierarchy", root_id, query={"limit": 1, "from": since})
        paged += [entry["name"] for entry in page["rooms"]]
        since = page.get("next_batch")
        if since is None:
            break
    assert paged == names
    suggested = await alice.get("/v1/rooms/{}/hierarchy", root_id, query={"suggested_only": True})
    assert [entry["name"] for entry in suggested["rooms"]] == ["Both", "Their space"]
    with refused(403, "M_FORBIDDEN"):
        await alice.get("/v1/rooms/{}/hierarchy", closed_id)


async def test_what_another_server_says_of_a_space_is_held_to_the_form(network: Network, alice: User) -> None:
    space_id, child_id = "!space:peer.test", "!child:peer.test"
    root_id = await alice.create_room(creation_content={"type": "m.space"})
    await alice.set_state(root_id, "m.space.child", {"via": [PEER]}, space_id)
    good = {"num_joined_members": 1, "world_readable": True, "guest_can_join": False, "join_rule": "public"}
    event = {
        "type": "m.space.child",
        "state_key": child_id,
        "sender": "@carol:peer.test",
        "content": {"via": [PEER]},
        "origin_server_ts": 1,
    }
    children_state = [
        event,
        {**event, "sender": 1},
        {**event, "content": {}},
        {**event, "type": "m.x"},
        {**event, "state_key": "!nul\0:peer.test"},
        {**event, "state_key": "!no-server"},
        {**event, "origin_server_ts": "now"},
        7,
    ]
    path = f"{V1}/hierarchy/{space_id}"
    network.peer.responses[path] = web.json_response(
        {
            "room": {**good, "room_id": space_id, "room_type": "m.space", "children_state": children_state},
            "children": [
                {**good, "room_id": child_id, "name": 5},
                {**good, "room_id": "!other:peer.test"},
                1,
            ],
            "inaccessible_children": [{}, 7, "!elsewhere:peer.test"],
        }
    )
    page = await alice.get("/v1/rooms/{}/hierarchy", root_id)
    assert [entry["room_id"] for entry in page["rooms"]] == [root_id, space_id, child_id]
    assert page["rooms"][1]["children_state"] == [event]
    assert "name" not in page["rooms"][2]

    network.peer.responses[f"{V1}/hierarchy/!asked:peer.test"] = web.json_response(
        {"room": {**good, "room_id": "!another:peer.test", "children_state": []}, "children": []}
    )
    with refused(404, "M_NOT_FOUND"):
        await alice.get("/v1/room_summary/{}", "!asked:peer.test", query={"via": PEER})


@pytest.mark.parametrize("name", NOT_ASKED)
async def test_servers_that_are_not_allowed_are_not_known(network: Network, alice: User, name: str) -> None:
    await expect_unknown(alice, name.format(network.peer.port))


@pytest_asyncio.fixture(scope="module")
async def open_node(postgres: TestCluster) -> AsyncIterator[Node]:
    """A node that talks to everybody, but has no configured addresses."""
    folder, url = make_data_dir(), await postgres.create_database()
    node = Node(folder, url, {"federation": {"mode": "open"}}, server_name="open.test")
    try:
        await node.start()
        yield node
        await node.stop()
        assert not node.faults()
    finally:
        await node.kill()
        await postgres.drop_database(url)
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["127.0.0.1:{}", "[::1]:{}", "0.0.0.0:{}", "10.0.0.1:{}", "169.254.169.254"])
async def test_no_name_that_a_user_gives_leads_into_the_own_network(
    network: Network, open_node: Node, name: str
) -> None:
    api = Api(network.acme_api.http, open_node.url, open_node.server_name, network.peer.exchanges)
    user = await api.register("alice")
    before = len(network.peer.requests)
    await expect_unknown(user, name.format(network.peer.port))
    assert len(network.peer.requests) == before


async def expect_unknown(user: User, server: str) -> None:
    """Nothing of that server is known, in whatever way it is asked for.

    What has failed once is left alone for a while: then the answer is that it could not be asked.
    """
    answers = [
        await user.exchange("GET", path_of("/v3/profile/{}", [f"@x:{server}"])),
        await user.exchange("GET", path_of("/v3/directory/room/{}", [f"#x:{server}"])),
        await user.exchange("GET", path_of("/v3/publicRooms", []) + f"?server={quote(server)}"),
        await user.exchange(
            "POST",
            path_of("/v3/publicRooms", []) + f"?server={quote(server)}",
            body=b'{"filter": {"generic_search_term": "x"}}',
        ),
    ]
    assert answers[0].status == 404
    assert {(answer.status, answer.json["errcode"]) for answer in answers} <= {
        (404, "M_NOT_FOUND"),
        (502, "M_UNKNOWN"),
    }
    with refused(404, "M_NOT_FOUND"):
        await user.get("/v1/room_summary/{}", f"!x:{server}", query={"via": server})
    with refused(403, "M_FORBIDDEN"):
        await user.get("/v1/rooms/{}/hierarchy", f"!x:{server}")


async def test_a_room_that_all_of_a_server_have_left_is_shown_as_it_is_elsewhere(
    network: Network, alice: User, bob: User
) -> None:
    alias = f"#moved-{alice.localpart}:{ACME}"
    room_id = await alice.create_room(
        name="Before", visibility="public", room_alias_name=f"moved-{alice.localpart}", room_version="11"
    )
    await bob.join(alias)
    since = (await bob.sync())["next_batch"]
    event_id = await alice.give_power(room_id, bob, level=100)
    seen: list[str] = []
    while event_id not in seen:
        sync = await bob.sync(since, timeout_ms=10_000)
        seen += [event["event_id"] for event in timeline_of(sync, room_id)]
        since = sync["next_batch"]
    assert (await alice.get("/v3/directory/room/{}", alias))["servers"] == [ACME, GLOBEX]
    await alice.leave(room_id)
    await bob.set_state(room_id, "m.room.name", {"name": "After"})

    assert (await alice.get("/v3/directory/room/{}", alias))["servers"] == [GLOBEX]
    page = await alice.get("/v3/publicRooms", query={"limit": 100})
    assert room_id not in [entry["room_id"] for entry in page["chunk"]]
    summary = await alice.get("/v1/room_summary/{}", room_id, query={"via": GLOBEX})
    assert (summary["name"], summary["membership"]) == ("After", "leave")
    assert (await alice.get("/v1/room_summary/{}", alias))["name"] == "After"
    target = f"{V1}/hierarchy/{quote(room_id, safe='')}"
    answer = await network.peer.send(ACME, network.ports[ACME], "GET", target)
    assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")


async def test_nobody_waits_long_for_a_server_that_does_not_answer(network: Network, alice: User) -> None:
    test_is_over = asyncio.Event()

    async def too_late(request: web.BaseRequest) -> web.StreamResponse:
        await test_is_over.wait()
        return web.json_response({"displayname": "Too late"})

    network.peer.serves[PROFILE] = too_late
    try:
        started = time.monotonic()
        with refused(502, "M_UNKNOWN"):
            await alice.get("/v3/profile/{}", f"@silent:{PEER}")
        assert time.monotonic() - started < 2 * TIMEOUT_S
        before = len(network.peer.requests)
        with refused(502, "M_UNKNOWN"):  # it is left alone for a while
            await alice.get("/v3/profile/{}", f"@other:{PEER}")
        assert len(network.peer.requests) == before
    finally:
        del network.peer.serves[PROFILE]
        test_is_over.set()
    target = f"{PROFILE}?user_id={quote(alice.user_id)}"  # it is heard from, so it is there again
    await network.peer.send(ACME, network.ports[ACME], "GET", target)
    network.peer.responses[PROFILE] = web.json_response({"displayname": "Here again"})
    assert await alice.get("/v3/profile/{}", f"@other:{PEER}") == {"displayname": "Here again"}
