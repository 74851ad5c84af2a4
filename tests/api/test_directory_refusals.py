"""What finding rooms refuses, and what this node truthfully does not have."""

from __future__ import annotations

import pytest

from tests.api.client import Api, JsonObject, User, refused


class TestDirectory:
    async def test_it_is_for_users(self, api: Api) -> None:
        guest = await api.register_guest()
        for ask in ("get", "post"):
            with refused(401, "M_MISSING_TOKEN"):
                await getattr(api, ask)("/v3/publicRooms")
            with refused(403, "M_GUEST_ACCESS_FORBIDDEN"):
                await getattr(guest, ask)("/v3/publicRooms")

    @pytest.mark.parametrize(
        "body",
        [
            {"limit": "many"},
            {"limit": True},
            {"since": 5},
            {"filter": []},
            {"filter": {"generic_search_term": 1}},
            {"filter": {"room_types": "m.space"}},
            {"filter": {"room_types": [1]}},
            {"include_all_networks": "no"},
        ],
    )
    async def test_questions_of_the_wrong_shape_are_refused(self, alice: User, body: JsonObject) -> None:
        with refused(400, "M_BAD_JSON"):
            await alice.post("/v3/publicRooms", json=body)

    @pytest.mark.parametrize("query", [{"since": "nonsense"}, {"limit": "many"}, {"limit": "-1"}])
    async def test_wrong_parameters_are_refused(self, alice: User, query: JsonObject) -> None:
        with refused(400, "M_INVALID_PARAM"):
            await alice.get("/v3/publicRooms", query=query)

    async def test_a_visibility_is_public_or_private(self, alice: User) -> None:
        room = await alice.create_room()
        for visibility in ("hidden", None, ["public"]):
            with refused(400, "M_BAD_JSON"):
                await alice.put("/v3/directory/list/room/{}", room, json={"visibility": visibility})
        await alice.put("/v3/directory/list/room/{}", room, json={})  # "Defaults to public."
        assert await alice.get("/v3/directory/list/room/{}", room) == {"visibility": "public"}

    async def test_guests_name_and_publish_nothing(self, api: Api, alice: User) -> None:
        guest, room = await api.register_guest(), await alice.create_room()
        with refused(403, "M_GUEST_ACCESS_FORBIDDEN"):
            await guest.put("/v3/directory/room/{}", f"#guests:{api.server_name}", json={"room_id": room})
        with refused(403, "M_GUEST_ACCESS_FORBIDDEN"):
            await guest.put("/v3/directory/list/room/{}", room, json={})

    async def test_an_alias_names_a_room(self, alice: User) -> None:
        alias = f"#aim-{alice.localpart}:{alice.server_name}"
        for body, errcode in (
            ({}, "M_MISSING_PARAM"),
            ({"room_id": 5}, "M_BAD_JSON"),
            ({"room_id": "no id"}, "M_INVALID_PARAM"),
        ):
            with refused(400, errcode):
                await alice.put("/v3/directory/room/{}", alias, json=body)


class TestSpaces:
    @pytest.mark.parametrize(
        "query",
        [{"limit": "0"}, {"limit": "x"}, {"max_depth": "-1"}, {"suggested_only": "1"}, {"from": "x"}],
    )
    async def test_wrong_parameters_are_refused(self, alice: User, query: JsonObject) -> None:
        space = await alice.create_room(creation_content={"type": "m.space"})
        with refused(400, "M_INVALID_PARAM"):
            await alice.get("/v1/rooms/{}/hierarchy", space, query=query)


class TestNotHere:
    async def test_there_are_no_third_party_networks(self, alice: User) -> None:
        assert await alice.get("/v3/thirdparty/protocols") == {}
        for path, query in (
            ("/v3/thirdparty/protocol/irc", None),
            ("/v3/thirdparty/location/irc", {"channel": "#veche"}),
            ("/v3/thirdparty/user/irc", {"nick": "alice"}),
            ("/v3/thirdparty/location", {"alias": "#veche:veche.test"}),
            ("/v3/thirdparty/user", {"userid": alice.user_id}),
        ):
            with refused(404, "M_NOT_FOUND"):
                await alice.get(path, query=query)
        for path in ("/v3/thirdparty/location", "/v3/thirdparty/user"):
            with refused(400, "M_MISSING_PARAM"):
                await alice.get(path)

    async def test_there_is_no_oauth_and_no_policy_server(self, api: Api) -> None:
        with refused(404, "M_UNRECOGNIZED"):
            await api.get("/v1/auth_metadata")
        with refused(404, "M_NOT_FOUND"):
            await api.get("/.well-known/matrix/policy_server")
