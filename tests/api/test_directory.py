"""Aliases, the published directory, spaces, summaries: Client-Server API, "Room aliases", "Spaces"."""

from __future__ import annotations

import pytest

from tests.api.client import Api, JsonObject, User, refused

ALIAS = "/v3/directory/room/{}"
LISTED = "/v3/directory/list/room/{}"
HIERARCHY = "/v1/rooms/{}/hierarchy"
SUMMARY = "/v1/room_summary/{}"


class TestAliases:
    async def test_they_are_made_found_and_removed(self, api: Api, alice: User, bob: User) -> None:
        room = await alice.create_room()
        alias = f"#lunch-{alice.localpart}:{alice.server_name}"
        await alice.put(ALIAS, alias, json={"room_id": room})
        found = await api.get(ALIAS, alias)
        assert (found["room_id"], alice.server_name in found["servers"]) == (room, True)
        assert (await alice.get("/v3/rooms/{}/aliases", room))["aliases"] == [alias]
        with refused(409, "M_UNKNOWN"):
            await bob.put(ALIAS, alias, json={"room_id": room})
        with refused(403, "M_FORBIDDEN"):
            await bob.delete(ALIAS, alias)
        with refused(403, "M_FORBIDDEN"):
            await bob.get("/v3/rooms/{}/aliases", room)
        await alice.delete(ALIAS, alias)
        with refused(404, "M_NOT_FOUND"):
            await api.get(ALIAS, alias)

    async def test_wrong_ones_are_refused(self, alice: User) -> None:
        room = await alice.create_room()
        with refused(400, "M_INVALID_PARAM"):
            await alice.put(ALIAS, "no-sigil", json={"room_id": room})
        with refused(404, "M_NOT_FOUND"):
            await alice.get(ALIAS, f"#no-such-alias:{alice.server_name}")

    async def test_a_canonical_alias_goes_with_its_alias(self, alice: User) -> None:
        room = await alice.create_room(room_alias_name=f"main-{alice.localpart}")
        alias = f"#main-{alice.localpart}:{alice.server_name}"
        assert (await alice.state(room, "m.room.canonical_alias"))["alias"] == alias
        await alice.delete(ALIAS, alias)
        assert "alias" not in await alice.state(room, "m.room.canonical_alias")


class TestPublishedRooms:
    async def test_rooms_are_published_and_hidden(self, alice: User, bob: User) -> None:
        room = await alice.create_room(name=f"Plans of {alice.localpart}", topic="What to do")
        assert await alice.get(LISTED, room) == {"visibility": "private"}
        with refused(403, "M_FORBIDDEN"):
            await bob.put(LISTED, room, json={"visibility": "public"})
        await alice.put(LISTED, room, json={"visibility": "public"})
        assert await alice.get(LISTED, room) == {"visibility": "public"}
        entry = next(each for each in (await bob.get("/v3/publicRooms"))["chunk"] if each["room_id"] == room)
        assert entry["name"] == f"Plans of {alice.localpart}"
        assert (entry["topic"], entry["num_joined_members"], entry["join_rule"]) == (
            "What to do",
            1,
            "public",
        )
        await alice.put(LISTED, room, json={"visibility": "private"})
        chunk = (await bob.post("/v3/publicRooms"))["chunk"]
        assert room not in {each["room_id"] for each in chunk}

    async def test_the_directory_is_searched_and_paged(self, alice: User, bob: User) -> None:
        word = f"zeppelin{alice.localpart.replace('-', '')}"
        rooms = [await alice.create_room(name=f"{word} {number}", visibility="public") for number in range(3)]
        await bob.join(rooms[1])  # the larger ones come first
        search: JsonObject = {"filter": {"generic_search_term": word.upper()}, "limit": 2}
        first = await bob.post("/v3/publicRooms", json=search)
        assert len(first["chunk"]) == 2
        assert first["chunk"][0]["room_id"] == rooms[1]
        second = await bob.post("/v3/publicRooms", json={**search, "since": first["next_batch"]})
        found = [each["room_id"] for each in first["chunk"] + second["chunk"]]
        assert sorted(found) == sorted(rooms)
        assert "next_batch" not in second
        back = await bob.post("/v3/publicRooms", json={**search, "since": second["prev_batch"]})
        assert [each["room_id"] for each in back["chunk"]] == found[:2]

    async def test_room_types_are_told_apart(self, alice: User) -> None:
        word = f"type{alice.localpart.replace('-', '')}"
        space = await alice.create_room(name=word, visibility="public", creation_content={"type": "m.space"})
        room = await alice.create_room(name=word, visibility="public")
        for types, expected in ((["m.space"], [space]), ([None], [room]), ([None, "m.space"], [space, room])):
            filter = {"generic_search_term": word, "room_types": types}
            chunk = (await alice.post("/v3/publicRooms", json={"filter": filter}))["chunk"]
            assert sorted(each["room_id"] for each in chunk) == sorted(expected)

    async def test_an_unknown_room_is_not_listed(self, alice: User) -> None:
        with refused(404, "M_NOT_FOUND"):
            await alice.get(LISTED, f"!no-such-room:{alice.server_name}")


class TestSpaces:
    async def link(self, user: User, space: str, child: str, **more: object) -> None:
        await user.set_state(space, "m.space.child", {"via": [user.server_name], **more}, child)

    async def space(self, user: User, name: str, **options: object) -> str:
        return await user.create_room(name=name, creation_content={"type": "m.space"}, **options)

    async def test_the_tree_is_walked_in_order(self, alice: User, bob: User) -> None:
        top, inner = await self.space(alice, "Top"), await self.space(alice, "Inner")
        first, second = await alice.create_room(name="First"), await alice.create_room(name="Second")
        deep = await alice.create_room(name="Deep")
        await self.link(alice, top, second, order="2")
        await self.link(alice, top, first, order="1")
        await self.link(alice, top, inner)
        await self.link(alice, inner, deep)
        await bob.join(top)
        answer = await bob.get(HIERARCHY, top)
        assert [room["room_id"] for room in answer["rooms"]] == [top, first, second, inner, deep]
        assert answer["rooms"][0]["room_type"] == "m.space"
        children = [event["state_key"] for event in answer["rooms"][0]["children_state"]]
        assert sorted(children) == sorted([first, second, inner])

    async def test_depth_suggestions_and_pages(self, alice: User) -> None:
        top, inner = await self.space(alice, "Top"), await self.space(alice, "Inner")
        deep, plain = await alice.create_room(), await alice.create_room()
        await self.link(alice, top, inner, suggested=True)
        await self.link(alice, top, plain)
        await self.link(alice, inner, deep, suggested=True)

        async def walked(**query: object) -> list[str]:
            answer = await alice.get(HIERARCHY, top, query=query)
            return [room["room_id"] for room in answer["rooms"]]

        assert set(await walked(max_depth=1)) == {top, inner, plain}
        assert await walked(suggested_only=True) == [top, inner, deep]
        page = await alice.get(HIERARCHY, top, query={"limit": 2})
        rest = await alice.get(HIERARCHY, top, query={"limit": 5, "from": page["next_batch"]})
        assert [room["room_id"] for room in page["rooms"] + rest["rooms"]] == await walked()

    async def test_closed_rooms_are_left_out(self, alice: User, bob: User) -> None:
        top = await self.space(alice, "Top")
        closed = await alice.create_room(preset="private_chat")
        await self.link(alice, top, closed)
        assert [room["room_id"] for room in (await bob.get(HIERARCHY, top))["rooms"]] == [top]
        hidden = await self.space(alice, "Hidden", preset="private_chat")
        with refused(403, "M_FORBIDDEN"):
            await bob.get(HIERARCHY, hidden)


class TestSummaries:
    async def test_a_room_is_described_to_who_may_join(self, api: Api, alice: User, bob: User) -> None:
        name = f"sum-{alice.localpart}"
        room = await alice.create_room(name="Plans", room_alias_name=name)
        await bob.join(room)
        alias = f"#{name}:{alice.server_name}"
        for asked in (room, alias):
            summary = await bob.get(SUMMARY, asked)
            assert (summary["room_id"], summary["name"], summary["num_joined_members"]) == (room, "Plans", 2)
            assert (summary["join_rule"], summary["membership"]) == ("public", "join")
        assert "membership" not in await api.get(SUMMARY, room)

    @pytest.mark.parametrize("asked", ["!no-such-room:veche.test", "!no-such-room"])
    async def test_closed_and_unknown_rooms_look_alike(self, alice: User, bob: User, asked: str) -> None:
        closed = await alice.create_room(preset="private_chat")
        for room in (closed, asked):
            with refused(404, "M_NOT_FOUND"):
                await bob.get(SUMMARY, room)
