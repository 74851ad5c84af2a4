"""Who may ask a node, how that is proven, and what it answers."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest

from federation.canonical import JsonObject
from federation.keys import SigningKey
from federation.request_auth import authorization_header
from tests.api.client import User
from tests.server_server.conftest import ACME, PEER, Network
from tests.server_server.peer import Answer, Peer

V1 = "/_matrix/federation/v1"


async def ask(network: Network, target: str, content: JsonObject | None = None, **options: object) -> Answer:
    """A request of the peer to the first company's node."""
    method = "GET" if content is None else "POST"
    return await network.peer.send(ACME, network.ports[ACME], method, target, content, **options)  # type: ignore[arg-type]


def profile_of(user_id: str, **more: str) -> str:
    return f"{V1}/query/profile?{urlencode({'user_id': user_id, **more})}"


async def test_the_version_is_told_to_everyone(network: Network) -> None:
    answer = await ask(network, f"{V1}/version", headers={})
    assert answer.json["server"]["name"] == "Veche"


async def test_where_the_server_is_reached_is_told_to_everyone(network: Network) -> None:
    answer = await ask(network, "/.well-known/matrix/server", headers={})
    assert answer.json == {"m.server": f"matrix.{ACME}:443"}


async def test_a_signed_request_is_answered(network: Network, alice: User) -> None:
    await alice.put("/v3/profile/{}/displayname", alice.user_id, json={"displayname": "Alice"})
    assert (await ask(network, profile_of(alice.user_id))).json == {"displayname": "Alice"}
    assert (await ask(network, profile_of(alice.user_id, field="displayname"))).json == {
        "displayname": "Alice"
    }
    missing = await ask(network, profile_of(alice.user_id, field="avatar_url"))
    assert (missing.status, missing.errcode) == (404, "M_NOT_FOUND")


async def test_profiles_of_others_are_not_told(network: Network) -> None:
    for user_id in (f"@nobody:{ACME}", "@bob:globex.test"):
        answer = await ask(network, profile_of(user_id))
        assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")
    assert (await ask(network, profile_of("bob"))).errcode == "M_INVALID_PARAM"
    assert (await ask(network, f"{V1}/query/profile")).errcode == "M_MISSING_PARAM"


@pytest.mark.parametrize(
    ("header", "status"),
    [("", 401), ("Bearer abc", 401), ("X-Matrix origin=peer.test", 400), ('X-Matrix origin="', 400)],
)
async def test_an_unsigned_request_is_refused(
    network: Network, alice: User, header: str, status: int
) -> None:
    headers = {"Authorization": header} if header else {}
    answer = await ask(network, profile_of(alice.user_id), headers=headers)
    assert (answer.status, answer.errcode) == (status, "M_UNAUTHORIZED")


async def test_a_request_for_another_server_is_refused(network: Network, alice: User) -> None:
    target = profile_of(alice.user_id)
    signed = authorization_header(network.peer.key, "GET", target, PEER, "globex.test", None)
    answer = await ask(network, target, headers={"Authorization": signed})
    assert (answer.status, answer.errcode) == (401, "M_UNAUTHORIZED")
    # The header does not say for whom, as with older servers: what was signed still does.
    without = signed.replace(',destination="globex.test"', "")
    answer = await ask(network, target, headers={"Authorization": without})
    assert (answer.status, answer.errcode) == (401, "M_UNAUTHORIZED")


async def test_a_forged_request_is_refused_and_counted(network: Network, alice: User) -> None:
    line = 'federation_refused_total{reason="bad_signature"}'
    before = await network.metric(network.acme, line)
    forged = SigningKey.generate(network.peer.key.version)
    target = profile_of(alice.user_id)
    signed = authorization_header(forged, "GET", target, PEER, ACME, None)
    answer = await ask(network, target, headers={"Authorization": signed})
    assert (answer.status, answer.errcode) == (401, "M_UNAUTHORIZED")
    assert await network.metric(network.acme, line) == before + 1


async def test_a_server_that_is_not_allowed_gets_403_and_is_asked_nothing(
    network: Network, alice: User
) -> None:
    line = 'federation_refused_total{reason="server_not_allowed"}'
    before = await network.metric(network.acme, line)
    stranger = Peer(
        "stranger.test", 0, SigningKey.generate(), str(network.authority.ca_file), network.peer.exchanges
    )
    answer = await stranger.send(ACME, network.ports[ACME], "GET", profile_of(alice.user_id))
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    assert await network.metric(network.acme, line) == before + 1
    assert "server refused" in network.acme.log()


async def test_the_body_is_part_of_what_is_signed(network: Network) -> None:
    answer = await ask(network, f"{V1}/publicRooms", {"limit": 1})
    assert answer.status == 200
    answer = await ask(network, f"{V1}/publicRooms", {"limit": 1}, body=b'{"limit": 2}')
    assert (answer.status, answer.errcode) == (401, "M_UNAUTHORIZED")
    answer = await ask(network, f"{V1}/publicRooms", {"limit": 1}, body=b'{ "limit" : 1 }')
    assert answer.status == 200
    answer = await ask(network, f"{V1}/publicRooms", {"limit": 1}, body=b'{"limit": 1')
    assert (answer.status, answer.errcode) == (400, "M_NOT_JSON")


async def test_unknown_endpoints_and_methods_are_told(network: Network) -> None:
    answer = await ask(network, f"{V1}/nothing/here")
    assert (answer.status, answer.errcode) == (404, "M_UNRECOGNIZED")
    answer = await network.peer.send(ACME, network.ports[ACME], "PUT", f"{V1}/version", {})
    assert (answer.status, answer.errcode) == (405, "M_UNRECOGNIZED")
    answer = await ask(network, f"{V1}/query/weather")
    assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")


async def test_a_query_may_have_its_type_percent_encoded(network: Network, alice: User) -> None:
    room_id = await alice.create_room(room_alias_name=f"encoded-{alice.localpart}")
    await alice.put("/v3/profile/{}/displayname", alice.user_id, json={"displayname": "Alice"})
    target = f"{V1}/query/%70rofile?{urlencode({'user_id': alice.user_id})}"
    assert (await ask(network, target)).json == {"displayname": "Alice"}
    alias = f"#encoded-{alice.localpart}:{ACME}"
    answer = await ask(network, f"{V1}/query/%64irectory?room_alias={quote(alias)}")
    assert answer.json["room_id"] == room_id


async def test_an_alias_is_resolved(network: Network, alice: User) -> None:
    room_id = await alice.create_room(room_alias_name="lunch")
    answer = await ask(network, f"{V1}/query/directory?room_alias={quote(f'#lunch:{ACME}')}")
    assert answer.json == {"room_id": room_id, "servers": [ACME]}
    for alias in (f"#dinner:{ACME}", "#lunch:globex.test"):
        answer = await ask(network, f"{V1}/query/directory?room_alias={quote(alias)}")
        assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")


async def test_public_rooms_are_those_that_other_servers_may_enter(network: Network, alice: User) -> None:
    open_id = await alice.create_room(visibility="public", name="Open to partners")
    internal_id = await alice.create_room(
        visibility="public",
        name="Internal",
        room_alias_name="internal",
        creation_content={"m.federate": False},
    )
    for answer in (
        await ask(network, f"{V1}/publicRooms?limit=100"),
        await ask(network, f"{V1}/publicRooms", {"filter": {"room_types": [None]}}),
    ):
        listed = [entry["room_id"] for entry in answer.json["chunk"]]
        assert open_id in listed and internal_id not in listed
    searched = await ask(network, f"{V1}/publicRooms", {"filter": {"generic_search_term": "partners"}})
    assert [entry["room_id"] for entry in searched.json["chunk"]] == [open_id]
    answer = await ask(network, f"{V1}/query/directory?room_alias={quote(f'#internal:{ACME}')}")
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")


async def test_a_space_shows_what_the_other_server_may_enter(network: Network, alice: User) -> None:
    space_id = await alice.create_room(creation_content={"type": "m.space"}, name="Company")
    public_id = await alice.create_room(name="Public")
    private_id = await alice.create_room(preset="private_chat", name="Private")
    internal_id = await alice.create_room(creation_content={"m.federate": False})
    for room_id in (public_id, private_id, internal_id, "!elsewhere:globex.test"):
        await alice.set_state(space_id, "m.space.child", {"via": [ACME]}, room_id)
    answer = await ask(network, f"{V1}/hierarchy/{quote(space_id)}")
    assert answer.json["room"]["name"] == "Company"
    assert len(answer.json["room"]["children_state"]) == 4
    assert [child["room_id"] for child in answer.json["children"]] == [public_id]
    assert set(answer.json["inaccessible_children"]) == {private_id, internal_id}
    suggested = await ask(network, f"{V1}/hierarchy/{quote(space_id)}?suggested_only=true")
    assert suggested.json["children"] == []
    for room_id in (private_id, "!unknown:acme.test"):
        answer = await ask(network, f"{V1}/hierarchy/{quote(room_id)}")
        assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")


async def test_rooms_that_no_user_of_the_other_server_could_enter_are_closed_to_it(
    network: Network, alice: User
) -> None:
    lobby_id = await alice.create_room(preset="private_chat")
    room_id = await alice.create_room(
        preset="private_chat",
        initial_state=[
            {
                "type": "m.room.join_rules",
                "state_key": "",
                "content": {
                    "join_rule": "restricted",
                    "allow": [{"type": "m.room_membership", "room_id": lobby_id}],
                },
            }
        ],
    )
    for closed in (lobby_id, room_id):
        assert (await ask(network, f"{V1}/hierarchy/{quote(closed)}")).status == 404


async def test_a_token_names_its_user_to_third_parties(network: Network, alice: User) -> None:
    made = await alice.post("/v3/user/{}/openid/request_token", alice.user_id)
    target = f"{V1}/openid/userinfo?access_token={made['access_token']}"
    assert (await ask(network, target, headers={})).json == {"sub": alice.user_id}
    answer = await ask(network, f"{V1}/openid/userinfo?access_token=wrong", headers={})
    assert (answer.status, answer.errcode) == (401, "M_UNKNOWN_TOKEN")
    answer = await ask(network, f"{V1}/openid/userinfo", headers={})
    assert (answer.status, answer.errcode) == (401, "M_MISSING_TOKEN")
